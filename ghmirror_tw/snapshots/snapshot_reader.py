"""Incremental decoder of snapshots, without IO."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import zstandard
from attrs import define, field

from ghmirror_tw.snapshots.snapshot_errors import (
    DamagedError,
    EmptySnapshotError,
    NewerVersionError,
    NotASnapshotError,
    RecordTooLargeError,
    TruncatedError,
)
from ghmirror_tw.snapshots.snapshot_format import (
    BLOCK_BYTES,
    COUNTS,
    DIGEST_BYTES,
    LARGEST_BYTES,
    LENGTH,
    MAGIC,
    PACKED_BYTES,
    RECORD,
    START,
    VERSION,
    Header,
    Pair,
    Summary,
    new_hash,
)


@define(eq=False)
class SnapshotReader:
    """Decodes a snapshot and detects any damage.

    It holds the bytes that were fed, one block, and a record of at most *largest_bytes*, with any
    file. All methods raise `SnapshotError`, after which the reader cannot be used.
    """

    largest_bytes: int = LARGEST_BYTES
    header: Header | None = None
    records: int = 0
    size_bytes: int = 0
    _input: bytearray = field(init=False, factory=bytearray)
    _at: int = field(init=False, default=0)
    _held: bytearray = field(init=False, factory=bytearray)
    _hashed: Any = field(init=False, factory=new_hash)
    _ended: bool = field(init=False, default=False)
    #: Records, or None where more bytes are needed.
    _decoded: Iterator[list[Pair] | None] = field(init=False)
    _zstd: zstandard.ZstdDecompressor = field(
        init=False,
        factory=lambda: zstandard.ZstdDecompressor(max_window_size=BLOCK_BYTES),
    )

    def __attrs_post_init__(self) -> None:
        self._decoded = self._decode()

    def feed(self, chunk: bytes) -> Iterator[list[Pair]]:
        """Decode the next bytes; yield their records block by block.

        Each step decompresses at most one block, so that the caller can return to the reactor
        between steps. A list may be empty. The iterator must be exhausted before the next call.
        """
        self._input += chunk
        while (pairs := next(self._decoded)) is not None:
            yield pairs

    def finish(self) -> Summary:
        """Return a summary at the end of the file; only then the records are verified."""
        if not self._at and not self._input:
            raise EmptySnapshotError("it is empty", 0)
        if not self._ended or self.header is None:
            raise TruncatedError("it ends without a trailer", self._at + len(self._input))
        return Summary(self.header, self.records, self.size_bytes)

    def _decode(self) -> Generator[list[Pair] | None]:
        version, length = yield from self._start()
        raw = yield from self._take(length)
        try:
            self.header = Header.decode(raw, version)
        except ValueError as error:
            raise DamagedError(f"its header is damaged: {error}", self._at) from None
        while packed := (yield from self._block()):
            yield self._records(self._decompress(packed))
        counts = COUNTS.unpack((yield from self._take(COUNTS.size)))
        digest = self._hashed.digest()
        if (yield from self._take(DIGEST_BYTES)) != digest:
            raise DamagedError("its checksum is wrong", self._at)
        if counts != (self.records, self.size_bytes):
            raise DamagedError("the counts of its trailer are wrong", self._at)
        if self._held:
            raise DamagedError("it ends inside a record", self._at)
        self._ended = True
        while not self._input:
            yield None
        raise DamagedError("bytes follow its end", self._at)

    def _take(self, size: int) -> Generator[None, None, bytes]:
        """Return the next *size* bytes, once there are so many."""
        while len(self._input) < size:
            yield
        taken = bytes(self._input[:size])
        del self._input[:size]
        self._at += size
        self._hashed.update(taken)
        return taken

    def _start(self) -> Generator[None, None, tuple[int, int]]:
        """Return the version, and the length of the header."""
        while len(self._input) < len(MAGIC) and MAGIC.startswith(bytes(self._input)):
            yield
        if not self._input.startswith(MAGIC):
            raise NotASnapshotError("it does not begin as a snapshot does", 0)
        _, version, length = START.unpack((yield from self._take(START.size)))
        if version > VERSION:
            text = f"it has version {version}; versions up to {VERSION} are supported"
            raise NewerVersionError(text, self._at)
        if version < 1:
            raise DamagedError(f"there is no version {version}", self._at)
        return version, length

    def _block(self) -> Generator[None, None, bytes]:
        (length,) = LENGTH.unpack((yield from self._take(LENGTH.size)))
        if length > PACKED_BYTES:
            raise DamagedError(f"no block is {length} bytes long", self._at)
        return (yield from self._take(length))

    def _decompress(self, packed: bytes) -> bytes:
        try:
            if not 0 < zstandard.frame_content_size(packed) <= BLOCK_BYTES:
                raise DamagedError("the size of a block is not valid", self._at)
            return self._zstd.decompress(packed, allow_extra_data=False)
        except zstandard.ZstdError:
            raise DamagedError("a block cannot be decompressed", self._at) from None

    def _records(self, block: bytes) -> list[Pair]:
        """Return the records that are complete with *block*."""
        self.size_bytes += len(block)
        self._held += block
        pairs: list[Pair] = []
        at = 0
        with memoryview(self._held) as held:
            while len(held) - at >= RECORD.size:
                name, blob = RECORD.unpack_from(held, at)
                if name + blob > self.largest_bytes:
                    number, most = self.records + len(pairs) + 1, self.largest_bytes
                    text = f"record {number} claims {name + blob} bytes; {most} are the most"
                    raise RecordTooLargeError(text, self._at)
                begin = at + RECORD.size
                middle, end = begin + name, begin + name + blob
                if len(held) < end:
                    break
                pairs.append((bytes(held[begin:middle]), bytes(held[middle:end])))
                at = end
        del self._held[:at]
        self.records += len(pairs)
        return pairs
