"""How a snapshot looks, written and read piece by piece: no files, no sockets, no clock.

All numbers are unsigned and big-endian::

    magic      8 bytes
    version    2 bytes
    header     2 bytes of length; when it was written, 8 bytes, ms since the epoch;
               the owner and the kind of store, each with its length in 1 byte, UTF-8
    blocks     each 4 bytes of length, not 0, and a zstd frame (RFC 8878) that says how much it
               holds, at most 256 KiB. Together the blocks hold the records, hottest first:
               4 bytes of length of the name, 4 of the blob, the name, the blob.
               A record may go on in the next block.
    end        4 bytes, 0
    trailer    8 bytes: how many records; 8 bytes: how many bytes the blocks hold;
               32 bytes: BLAKE2b of all that stands before them

How many records there are is only known at the end, so the header does not say. A frame never
refers to another one: what is held in memory is one block and one record, whatever a file says.

Nothing that a reader gives can be believed before `Reader.finish` has returned. Whoever restores
reads the whole snapshot twice: once to check it, and again to use it; see `copies`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import zstandard
from attrs import define, field, frozen

from ghmirror_tw.snapshots.errors import (
    DamagedError,
    EmptySnapshotError,
    NewerVersionError,
    NotASnapshotError,
    RecordTooLargeError,
    TruncatedError,
)

#: A name and a sealed blob; a store makes them, and only a store knows what they mean.
Pair = tuple[bytes, bytes]

#: The eighth bit and the line ends show transfers that change content.
MAGIC: Final = b"\x89GHMS\r\n\n"
VERSION: Final = 1

#: How many bytes of records are compressed together.
BLOCK_BYTES: Final = 256 * 1024

#: The largest record, name and blob together, unless somebody says otherwise.
LARGEST_BYTES: Final = 16 * 1024 * 1024

_LEVEL: Final = 3
_PACKED_BYTES: Final = BLOCK_BYTES + BLOCK_BYTES // 256 + 64  # the worst that zstd makes of a block

_START: Final = struct.Struct(">8sHH")
_TIME: Final = struct.Struct(">Q")
_LENGTH: Final = struct.Struct(">I")
_RECORD: Final = struct.Struct(">II")
_COUNTS: Final = struct.Struct(">QQ")
_DIGEST_BYTES: Final = 32


def _hash() -> Any:
    return hashlib.blake2b(digest_size=_DIGEST_BYTES)


def _text(value: str, what: str) -> bytes:
    encoded = value.encode()
    if len(encoded) > 255:  # noqa: PLR2004 - what one byte can say
        raise ValueError(f"the {what} is longer than 255 bytes")
    return bytes((len(encoded),)) + encoded


@frozen
class Header:
    """Whose snapshot it is, of which kind of store, and when it was begun (ms since the epoch)."""

    owner: str
    kind: str
    written_at_ms: int

    def encode(self) -> bytes:
        """Return it as bytes. Raises ValueError for what has no place in it."""
        return (
            _TIME.pack(self.written_at_ms)
            + _text(self.owner, "owner")
            + _text(self.kind, "kind of store")
        )

    @classmethod
    def decode(cls, raw: bytes) -> Header:
        """Return what `encode` was called on. Raises ValueError."""
        if len(raw) < _TIME.size:
            raise ValueError("it is too short")
        (at,) = _TIME.unpack_from(raw)
        texts, rest = [], raw[_TIME.size :]
        while rest and len(rest) > rest[0]:
            end = 1 + rest[0]
            texts.append(rest[1:end].decode())
            rest = rest[end:]
        if rest or len(texts) != 2:  # noqa: PLR2004 - owner and kind
            raise ValueError("it does not hold an owner and a kind of store")
        return cls(texts[0], texts[1], at)


@frozen
class Summary:
    """What a whole snapshot says of itself: its header, its records, and their bytes."""

    header: Header
    records: int
    size_bytes: int


@define(eq=False)
class Writer:
    """Makes a snapshot of records, in the order in which they come.

    Holds less than a block, and the record that it was given last. Records larger than
    *largest_bytes* are left out and counted: a copy without them is better than none.
    """

    header: Header
    largest_bytes: int = LARGEST_BYTES
    records: int = 0
    left_out: int = 0
    size_bytes: int = 0
    _held: bytearray = field(init=False, factory=bytearray)
    _begun: bool = field(init=False, default=False)
    _hashed: Any = field(init=False, factory=_hash)
    _zstd: zstandard.ZstdCompressor = field(
        init=False, factory=lambda: zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
    )

    def add(self, pairs: Iterable[Pair]) -> Iterator[bytes]:
        """Take records; give what there is to write by now, perhaps nothing.

        A step of this iterator packs one block at most, so the caller may do other things between
        two steps. It must come to its end before more is added.
        """
        for name, blob in pairs:
            if len(name) + len(blob) > self.largest_bytes:
                self.left_out += 1
                continue
            self.records += 1
            self._held += _RECORD.pack(len(name), len(blob))
            self._held += name
            self._held += blob
            while len(self._held) >= BLOCK_BYTES:
                yield self._written(self._begin(), *self._block())

    def finish(self) -> bytes:
        """Return the end of the snapshot; it is whole with that, and nothing more may be added."""
        rest = self._block() if self._held else ()
        counts = _COUNTS.pack(self.records, self.size_bytes)
        end = self._written(self._begin(), *rest, _LENGTH.pack(0), counts)
        return end + bytes(self._hashed.digest())

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        header = self.header.encode()
        return _START.pack(MAGIC, VERSION, len(header)) + header

    def _block(self) -> tuple[bytes, bytes]:
        block = bytes(self._held[:BLOCK_BYTES])
        del self._held[:BLOCK_BYTES]
        packed = self._zstd.compress(block)
        self.size_bytes += len(block)
        return _LENGTH.pack(len(packed)), packed

    def _written(self, *made: bytes) -> bytes:
        joined = b"".join(made)
        self._hashed.update(joined)
        return joined


@define(eq=False)
class Reader:
    """Gives back the records of a snapshot, and finds whatever is wrong with it.

    Holds what it was fed, a block, and a record of at most *largest_bytes*: never more, whatever
    the file says. All its methods raise `SnapshotError`s; after one there is nothing more to read.
    """

    largest_bytes: int = LARGEST_BYTES
    header: Header | None = None
    records: int = 0
    size_bytes: int = 0
    _input: bytearray = field(init=False, factory=bytearray)
    _at: int = field(init=False, default=0)
    _held: bytearray = field(init=False, factory=bytearray)
    _hashed: Any = field(init=False, factory=_hash)
    _next: Callable[[], list[Pair] | None] = field(init=False)
    _ended: bool = field(init=False, default=False)
    _zstd: zstandard.ZstdDecompressor = field(
        init=False,
        factory=lambda: zstandard.ZstdDecompressor(max_window_size=BLOCK_BYTES),
    )

    def __attrs_post_init__(self) -> None:
        self._next = self._start

    def feed(self, chunk: bytes) -> Iterator[list[Pair]]:
        """Take the next bytes; give their records block by block.

        A step of this iterator unpacks one block at most, so the caller may do other things
        between two steps; a list may be empty. It must come to its end before more is fed.
        """
        self._input += chunk
        while (pairs := self._next()) is not None:
            yield pairs

    def finish(self) -> Summary:
        """Return what was read, when there is no more to feed. Only now it can be believed."""
        if not self._at and not self._input:
            raise EmptySnapshotError("it is empty", 0)
        if not self._ended or self.header is None:
            raise TruncatedError("it ends without a trailer", self._at + len(self._input))
        return Summary(self.header, self.records, self.size_bytes)

    def _take(self, size: int, *, hashed: bool = True) -> bytes | None:
        """Return the next *size* bytes, or None while they have not come."""
        if len(self._input) < size:
            return None
        taken = bytes(self._input[:size])
        del self._input[:size]
        self._at += size
        if hashed:
            self._hashed.update(taken)
        return taken

    # The steps: each returns records when it has done something, and None to wait for more.

    def _start(self) -> list[Pair] | None:
        if not MAGIC.startswith(bytes(self._input[: len(MAGIC)])):
            raise NotASnapshotError("it does not begin as a snapshot does", 0)
        raw = self._take(_START.size)
        if raw is None:
            return None
        _, version, length = _START.unpack(raw)
        if version > VERSION:
            raise NewerVersionError(
                f"it has version {version}; versions up to {VERSION} are known", self._at
            )
        if version < 1:
            raise DamagedError(f"there is no version {version}", self._at)
        self._next = lambda: self._header(length)
        return []

    def _header(self, length: int) -> list[Pair] | None:
        raw = self._take(length)
        if raw is None:
            return None
        try:
            self.header = Header.decode(raw)
        except ValueError as error:
            raise DamagedError(f"its header is damaged: {error}", self._at) from None
        self._next = self._length
        return []

    def _length(self) -> list[Pair] | None:
        raw = self._take(_LENGTH.size)
        if raw is None:
            return None
        (length,) = _LENGTH.unpack(raw)
        if length > _PACKED_BYTES:
            raise DamagedError(f"no block is {length} bytes long", self._at)
        self._next = (lambda: self._block(length)) if length else self._counts
        return []

    def _block(self, length: int) -> list[Pair] | None:
        packed = self._take(length)
        if packed is None:
            return None
        try:
            size = zstandard.frame_content_size(packed)
            if not 0 < size <= BLOCK_BYTES:
                raise DamagedError("a block does not hold what a block may hold", self._at)
            block = self._zstd.decompress(packed, allow_extra_data=False)
        except zstandard.ZstdError:
            raise DamagedError("a block can't be decompressed", self._at) from None
        self.size_bytes += len(block)
        self._held += block
        self._next = self._length
        return self._records()

    def _records(self) -> list[Pair]:
        pairs: list[Pair] = []
        held, at = self._held, 0
        while len(held) - at >= _RECORD.size:
            name, blob = _RECORD.unpack_from(held, at)
            if name + blob > self.largest_bytes:
                number = self.records + len(pairs) + 1
                raise RecordTooLargeError(
                    f"record {number} claims {name + blob} bytes; "
                    f"{self.largest_bytes} are the most",
                    self._at,
                )
            begin = at + _RECORD.size
            middle, end = begin + name, begin + name + blob
            if len(held) < end:
                break
            pairs.append((bytes(held[begin:middle]), bytes(held[middle:end])))
            at = end
        del held[:at]
        self.records += len(pairs)
        return pairs

    def _counts(self) -> list[Pair] | None:
        if len(self._input) < _COUNTS.size + _DIGEST_BYTES:
            return None
        counts = self._take(_COUNTS.size) or b""
        if self._take(_DIGEST_BYTES, hashed=False) != self._hashed.digest():
            raise DamagedError("its checksum is wrong", self._at)
        if _COUNTS.unpack(counts) != (self.records, self.size_bytes):
            raise DamagedError("its trailer counts other records than there are", self._at)
        if self._held:
            raise DamagedError("it ends inside a record", self._at)
        self._ended = True
        self._next = self._nothing
        return []

    def _nothing(self) -> list[Pair] | None:
        if self._input:
            raise DamagedError("something follows its end", self._at)
        return None
