"""Incremental decoder of snapshots, without IO."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

    It holds the bytes that were fed, one block, and a record of at most *largest_bytes*, whatever
    the file claims. All methods raise `SnapshotError`, after which the reader cannot be used.
    """

    largest_bytes: int = LARGEST_BYTES
    header: Header | None = None
    records: int = 0
    size_bytes: int = 0
    _input: bytearray = field(init=False, factory=bytearray)
    _at: int = field(init=False, default=0)
    _held: bytearray = field(init=False, factory=bytearray)
    _hashed: Any = field(init=False, factory=new_hash)
    _next: Callable[[], list[Pair] | None] = field(init=False)
    _ended: bool = field(init=False, default=False)
    _zstd: zstandard.ZstdDecompressor = field(
        init=False,
        factory=lambda: zstandard.ZstdDecompressor(max_window_size=BLOCK_BYTES),
    )

    def __attrs_post_init__(self) -> None:
        self._next = self._start

    def feed(self, chunk: bytes) -> Iterator[list[Pair]]:
        """Decode the next bytes; yield their records block by block.

        Each step decompresses at most one block, so that the caller can return to the reactor
        between steps. A list may be empty. The iterator must be exhausted before the next call.
        """
        self._input += chunk
        while (pairs := self._next()) is not None:
            yield pairs

    def finish(self) -> Summary:
        """Return a summary at the end of the file; only then the records are verified."""
        if not self._at and not self._input:
            raise EmptySnapshotError("it is empty", 0)
        if not self._ended or self.header is None:
            raise TruncatedError("it ends without a trailer", self._at + len(self._input))
        return Summary(self.header, self.records, self.size_bytes)

    def _take(self, size: int, *, hashed: bool = True) -> bytes | None:
        """Return the next *size* bytes, or None if there are fewer."""
        if len(self._input) < size:
            return None
        taken = bytes(self._input[:size])
        del self._input[:size]
        self._at += size
        if hashed:
            self._hashed.update(taken)
        return taken

    # The states: each returns records if it has made progress, and None if it needs more bytes.

    def _start(self) -> list[Pair] | None:
        if not MAGIC.startswith(bytes(self._input[: len(MAGIC)])):
            raise NotASnapshotError("it does not begin as a snapshot does", 0)
        raw = self._take(START.size)
        if raw is None:
            return None
        _, version, length = START.unpack(raw)
        if version > VERSION:
            raise NewerVersionError(
                f"it has version {version}; versions up to {VERSION} are supported", self._at
            )
        if version < 1:
            raise DamagedError(f"there is no version {version}", self._at)
        self._next = lambda: self._header(version, length)
        return []

    def _header(self, version: int, length: int) -> list[Pair] | None:
        raw = self._take(length)
        if raw is None:
            return None
        try:
            self.header = Header.decode(raw, version)
        except ValueError as error:
            raise DamagedError(f"its header is damaged: {error}", self._at) from None
        self._next = self._length
        return []

    def _length(self) -> list[Pair] | None:
        raw = self._take(LENGTH.size)
        if raw is None:
            return None
        (length,) = LENGTH.unpack(raw)
        if length > PACKED_BYTES:
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
                raise DamagedError("the size of a block is not valid", self._at)
            block = self._zstd.decompress(packed, allow_extra_data=False)
        except zstandard.ZstdError:
            raise DamagedError("a block cannot be decompressed", self._at) from None
        self.size_bytes += len(block)
        self._held += block
        self._next = self._length
        return self._records()

    def _records(self) -> list[Pair]:
        """Return the complete records of the decompressed bytes."""
        pairs: list[Pair] = []
        at = 0
        with memoryview(self._held) as held:
            while len(held) - at >= RECORD.size:
                name, blob = RECORD.unpack_from(held, at)
                if name + blob > self.largest_bytes:
                    raise self._too_large(self.records + len(pairs) + 1, name + blob)
                begin = at + RECORD.size
                middle, end = begin + name, begin + name + blob
                if len(held) < end:
                    break
                pairs.append((bytes(held[begin:middle]), bytes(held[middle:end])))
                at = end
        del self._held[:at]
        self.records += len(pairs)
        return pairs

    def _too_large(self, number: int, size: int) -> RecordTooLargeError:
        text = f"record {number} claims {size} bytes; {self.largest_bytes} are the most"
        return RecordTooLargeError(text, self._at)

    def _counts(self) -> list[Pair] | None:
        if len(self._input) < COUNTS.size + DIGEST_BYTES:
            return None
        counts = self._take(COUNTS.size) or b""
        if self._take(DIGEST_BYTES, hashed=False) != self._hashed.digest():
            raise DamagedError("its checksum is wrong", self._at)
        if COUNTS.unpack(counts) != (self.records, self.size_bytes):
            raise DamagedError("the counts of its trailer are wrong", self._at)
        if self._held:
            raise DamagedError("it ends inside a record", self._at)
        self._ended = True
        self._next = self._nothing
        return []

    def _nothing(self) -> list[Pair] | None:
        if self._input:
            raise DamagedError("bytes follow its end", self._at)
        return None
