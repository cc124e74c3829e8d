"""A snapshot is read as it was written, or is refused; and it cannot exhaust the memory."""

from __future__ import annotations

import hashlib
import os
import struct
import tracemalloc
from collections.abc import Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.snapshots.snapshot_errors import (
    DamagedError,
    EmptySnapshotError,
    NewerVersionError,
    NotASnapshotError,
    RecordTooLargeError,
    SnapshotError,
    TruncatedError,
)
from ghmirror_tw.snapshots.snapshot_format import (
    BLOCK_BYTES,
    MAGIC,
    VERSION,
    Header,
    Pair,
    Summary,
)
from ghmirror_tw.snapshots.snapshot_reader import SnapshotReader
from ghmirror_tw.snapshots.snapshot_writer import SnapshotWriter

HEADER = Header("redis-1", "redis", 1_795_598_400_123)
PAIRS = [(b"grant:%d" % number, bytes([number]) * number * 7) for number in range(40)]
START = struct.Struct(">8sHH")


def written(pairs: list[Pair], header: Header = HEADER) -> bytes:
    writer = SnapshotWriter(header)
    return b"".join(writer.add(pairs)) + writer.finish()


def read(raw: bytes, step: int = 1000, largest: int = 10**6) -> tuple[list[Pair], Summary]:
    reader = SnapshotReader(largest)
    found: list[Pair] = []
    for at in range(0, len(raw), step):
        for pairs in reader.feed(raw[at : at + step]):
            found += pairs
    return found, reader.finish()


def sealed(body: bytes, counts: tuple[int, int]) -> bytes:
    """Return a correct header and a correct checksum around a body that no writer makes."""
    header = HEADER.encode()
    raw = START.pack(MAGIC, VERSION, len(header)) + header + body + struct.pack(">QQ", *counts)
    return raw + hashlib.blake2b(raw, digest_size=32).digest()


def block(content: bytes) -> bytes:
    packed = zstandard.ZstdCompressor().compress(content)
    return struct.pack(">I", len(packed)) + packed


END = struct.pack(">I", 0)

names = st.binary(max_size=50)
texts = st.text(st.characters(exclude_categories=("C", "Z")), max_size=60)
blobs = st.one_of(
    st.binary(max_size=300), st.integers(0, 3 * BLOCK_BYTES).map(lambda size: b"ab" * (size // 2))
)


@given(
    st.lists(st.tuples(names, blobs), max_size=12),
    st.builds(Header, texts, texts, st.integers(0, 2**64 - 1)),
    st.lists(st.integers(0, 12)),
    st.integers(1, 100_000),
)
def test_snapshots_round_trip(
    pairs: list[Pair], header: Header, cuts: list[int], step: int
) -> None:
    """Every record in its order, in any pieces of input and output."""
    writer = SnapshotWriter(header)
    raw, last = b"", 0
    for cut in [*sorted(cuts), len(pairs)]:
        raw += b"".join(writer.add(pairs[last:cut]))
        last = max(last, cut)
    raw += writer.finish()
    size = sum(8 + len(name) + len(blob) for name, blob in pairs)
    assert read(raw, step) == (pairs, Summary(header, len(pairs), size))
    assert (writer.records, writer.size_bytes, writer.left_out) == (len(pairs), size, 0)


@pytest.mark.parametrize("at", range(len(written(PAIRS))))
def test_any_changed_byte_is_detected(at: int) -> None:
    """Wherever a bit has flipped."""
    raw = bytearray(written(PAIRS))
    for bit in range(8):
        raw[at] ^= 1 << bit
        with pytest.raises(SnapshotError):
            read(bytes(raw))
        raw[at] ^= 1 << bit


@given(st.lists(st.tuples(names, blobs), max_size=5), st.data())
def test_changed_byte_is_detected_in_any_snapshot(pairs: list[Pair], data: st.DataObject) -> None:
    """And so is one that is missing or too much."""
    raw = written(pairs)
    at = data.draw(st.integers(0, len(raw) - 1))
    change = data.draw(st.integers(1, 255))
    for wrong in (
        raw[:at] + bytes([raw[at] ^ change]) + raw[at + 1 :],
        raw[:at] + raw[at + 1 :],
        raw[:at] + bytes([change]) + raw[at:],
    ):
        if wrong != raw:
            with pytest.raises(SnapshotError):
                read(wrong)


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_any_truncation_is_detected(step: int) -> None:
    """After any part of a file, the end is missed; an empty file is called empty."""
    raw = written(PAIRS)
    for end in range(1, len(raw), 1 if step > 1 else 37):
        with pytest.raises(TruncatedError) as caught:
            read(raw[:end], step)
        assert caught.value.at == end
    with pytest.raises(EmptySnapshotError):
        read(b"")


@pytest.mark.parametrize(
    ("raw", "kind", "text"),
    [
        (b"REDIS0011\xfa\tredis-ver", NotASnapshotError, "does not begin as a snapshot"),
        (b"x", NotASnapshotError, "at byte 0"),
        (
            START.pack(MAGIC, VERSION + 1, 0),
            NewerVersionError,
            r"version 4; versions up to 3 are supported \(at byte 12\)",
        ),
        (START.pack(MAGIC, 0, 0), DamagedError, "no version 0"),
        (START.pack(MAGIC, 1, 3) + b"abc", DamagedError, "header is damaged: it is too short"),
        (START.pack(MAGIC, 1, 9) + bytes(8) + b"\x05", DamagedError, "owner and a kind"),
        (START.pack(MAGIC, 1, 12) + bytes(8) + b"\1\xff\1a", DamagedError, "header is damaged"),
        (sealed(b"\xff\xff\xff\xff", (0, 0)), DamagedError, "no block is 4294967295 bytes"),
        (sealed(block(b"")[:4] + b"not zstd at all!!!!!!!!!!", (0, 0)), DamagedError, "decompress"),
        (sealed(block(b"") + END, (0, 0)), DamagedError, "the size of a block is not valid"),
        (
            sealed(block(bytes(BLOCK_BYTES + 1)) + END, (0, 0)),
            DamagedError,
            "the size of a block is not valid",
        ),
        (sealed(block(bytes(7)) + END, (0, 7)), DamagedError, "inside a record"),
        (
            sealed(block(bytes(16)) + END, (3, 16)),
            DamagedError,
            "the counts of its trailer are wrong",
        ),
        (
            sealed(block(bytes(16)) + END, (2, 15)),
            DamagedError,
            "the counts of its trailer are wrong",
        ),
        (written(PAIRS) + b"\n", DamagedError, "bytes follow its end"),
        (
            sealed(block(struct.pack(">II", 999_999, 2)), (1, 8)),
            RecordTooLargeError,
            "record 1 claims 1000001 bytes; 1000000 are the most",
        ),
    ],
)
def test_each_fault_has_its_error_class(raw: bytes, kind: type[SnapshotError], text: str) -> None:
    """The fault and its place, even with a correct checksum."""
    with pytest.raises(kind, match=text):
        read(raw)


def test_wrong_checksum_has_its_message() -> None:
    """When all else fits."""
    raw = bytearray(written(PAIRS))
    raw[-1] ^= 1
    with pytest.raises(DamagedError, match="checksum"):
        read(bytes(raw))


def test_reader_is_not_finished_before_the_trailer() -> None:
    """Records of a damaged snapshot are read, too; only finish detects the damage."""
    raw = bytearray(written(PAIRS))
    raw[-1] ^= 1
    reader = SnapshotReader()
    found = [pair for pairs in reader.feed(bytes(raw[:-1])) for pair in pairs]
    assert found == PAIRS
    with pytest.raises(TruncatedError):
        reader.finish()
    with pytest.raises(DamagedError):
        list(reader.feed(bytes(raw[-1:])))
    with pytest.raises(TruncatedError):
        reader.finish()


def test_too_large_records_are_omitted() -> None:
    """One record at the limit is read, one above it is counted and missing."""
    writer = SnapshotWriter(HEADER, largest_bytes=100)
    pairs = [(b"a" * 50, b"b" * 50), (b"a" * 50, b"b" * 51), (b"", b"")]
    raw = b"".join(writer.add(pairs)) + writer.finish()
    assert read(raw, largest=100)[0] == [pairs[0], pairs[2]]
    assert (writer.records, writer.left_out) == (2, 1)


def test_a_header_has_bounds() -> None:
    """A record that does not fit is refused when it is written."""
    for header in (Header("x" * 256, "k", 1), Header("o", "é" * 128, 1)):
        with pytest.raises(ValueError, match="longer than 255 bytes"):
            SnapshotWriter(header).finish()


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "a\nb", "\x9b2J", "\u202e"])
def test_a_header_is_printable(text: str) -> None:
    """The command shows it on a terminal, and anything that writes to the target can make it."""
    for header in (Header(text, "k", 1), Header("o", "k", 1, api_url=text)):
        with pytest.raises(DamagedError, match="not printable"):
            read(SnapshotWriter(header).finish())


def bombs() -> Iterator[tuple[str, bytes, type[SnapshotError]]]:
    """Small files that would be large."""
    zeros = block(bytes(BLOCK_BYTES))
    tiny = zeros * (4_000_000 // len(zeros))  # 4 MB, which declare 30 GB
    large = struct.pack(">II", 0, 900_000_000)
    yield "a record that is too large", sealed(block(large) + tiny, (1, 1)), RecordTooLargeError
    almost = struct.pack(">II", 0, 15_000_000)
    yield "a record as large as may be", sealed(block(almost) + zeros * 50, (1, 1)), TruncatedError
    yield "a frame without a size", sealed(unsized(300_000_000), (1, 1)), DamagedError
    yield "a frame that is large", sealed(block(bytes(300_000_000)), (1, 1)), DamagedError
    lying = bytearray(zstandard.ZstdCompressor().compress(bytes(300_000_000)))
    assert lying[4] >> 6 == 2  # a content size of 4 bytes
    assert not lying[4] & 0x20  # and a window descriptor of 1 byte before it
    lying[6:10] = struct.pack("<I", 1000)
    framed = struct.pack(">I", len(lying)) + bytes(lying)
    yield "a frame that lies about its size", sealed(framed, (1, 1)), DamagedError


def unsized(size: int) -> bytes:
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    packed = compressor.compress(bytes(size))
    return struct.pack(">I", len(packed)) + packed


BOMBS = list(bombs())


def read_away(raw: bytes) -> Summary:
    reader = SnapshotReader(16_000_000)
    for at in range(0, len(raw), 65_536):
        for _ in reader.feed(raw[at : at + 65_536]):
            pass
    return reader.finish()


@pytest.mark.parametrize(("raw", "kind"), [b[1:] for b in BOMBS], ids=[b[0] for b in BOMBS])
def test_decompression_bombs_are_rejected(raw: bytes, kind: type[SnapshotError]) -> None:
    """A reader holds a block, a record and its input, with any file."""
    tracemalloc.start()
    try:
        with pytest.raises(kind):
            read_away(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * 16_000_000 + 2 * BLOCK_BYTES


def test_a_step_yields_one_block() -> None:
    """With any expansion of a few bytes: 64 kB of input with 400 MB are read bit by bit."""
    content = (struct.pack(">II", 0, BLOCK_BYTES - 8) + bytes(BLOCK_BYTES - 8),)
    body = block(content[0]) * 1500
    raw = sealed(body + END, (1500, 1500 * BLOCK_BYTES))
    assert len(raw) < 65_536
    tracemalloc.start()
    try:
        reader = SnapshotReader()
        for pairs in reader.feed(raw):
            assert len(pairs) <= 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.finish().records == 1500
    assert peak < 8 * BLOCK_BYTES


def test_large_record_is_compressed_in_blocks() -> None:
    """However large it is, a step packs one block."""
    writer = SnapshotWriter(HEADER)
    pair = (b"x", os.urandom(10_000_000))
    steps = list(writer.add([pair, pair]))
    assert len(steps) == 20_000_018 // BLOCK_BYTES
    assert max(map(len, steps)) < BLOCK_BYTES + 1000
    assert read(b"".join(steps) + writer.finish(), 65_536, 10**8)[0] == [pair, pair]


def test_writing_needs_little_memory() -> None:
    """A writer holds less than a block."""
    writer = SnapshotWriter(HEADER)
    batch = [(b"name", bytes(50_000))] * 3
    tracemalloc.start()
    try:
        for _ in range(500):
            for made in writer.add(batch):
                assert len(made) < BLOCK_BYTES + 1000
        writer.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert writer.size_bytes == 500 * 3 * 50_012
    assert peak < 8 * BLOCK_BYTES
