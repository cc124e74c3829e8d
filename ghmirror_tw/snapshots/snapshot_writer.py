"""Incremental encoder of snapshots, without IO."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import zstandard
from attrs import define, field

from ghmirror_tw.snapshots.snapshot_format import (
    BLOCK_BYTES,
    COUNTS,
    LARGEST_BYTES,
    LENGTH,
    MAGIC,
    RECORD,
    START,
    VERSION,
    Header,
    Pair,
    new_hash,
)

_LEVEL: Final = 3


@define(eq=False)
class SnapshotWriter:
    """Encodes records in the given order.

    It holds less than a block and the last record. Records larger than *largest_bytes* are omitted
    and counted.
    """

    header: Header
    largest_bytes: int = LARGEST_BYTES
    records: int = 0
    left_out: int = 0
    size_bytes: int = 0
    _held: bytearray = field(init=False, factory=bytearray)
    _begun: bool = field(init=False, default=False)
    _hashed: Any = field(init=False, factory=new_hash)
    _zstd: zstandard.ZstdCompressor = field(
        init=False, factory=lambda: zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
    )

    def add(self, pairs: Iterable[Pair]) -> Iterator[bytes]:
        """Encode records; yield the blocks that are complete.

        Each step compresses at most one block, so that the caller can return to the reactor between
        steps. The iterator must be exhausted before the next call.
        """
        for name, blob in pairs:
            if len(name) + len(blob) > self.largest_bytes:
                self.left_out += 1
                continue
            self.records += 1
            self._held += RECORD.pack(len(name), len(blob))
            self._held += name
            self._held += blob
            while len(self._held) >= BLOCK_BYTES:
                yield self._written(self._begin(), *self._block())

    def finish(self) -> bytes:
        """Return the end of the snapshot; no more records may be added."""
        rest = self._block() if self._held else ()
        counts = COUNTS.pack(self.records, self.size_bytes)
        end = self._written(self._begin(), *rest, LENGTH.pack(0), counts)
        return end + bytes(self._hashed.digest())

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        header = self.header.encode()
        return START.pack(MAGIC, VERSION, len(header)) + header

    def _block(self) -> tuple[bytes, bytes]:
        block = bytes(self._held[:BLOCK_BYTES])
        del self._held[:BLOCK_BYTES]
        packed = self._zstd.compress(block)
        self.size_bytes += len(block)
        return LENGTH.pack(len(packed)), packed

    def _written(self, *made: bytes) -> bytes:
        joined = b"".join(made)
        self._hashed.update(joined)
        return joined
