"""The records of a memory store, copied into snapshots and restored from them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final
from uuid import uuid4

from attrs import define, evolve
from twisted.internet.task import deferLater
from zope.interface import implementer

from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.store.compact_records import Record
from ghmirror_tw.store.memory_records_by_name import NamedRecords
from ghmirror_tw.store.record_kinds import ENTRY, GRANT, REPRESENTATION
from ghmirror_tw.store.record_names import RecordName, parse
from ghmirror_tw.store.record_sealing import Codec
from ghmirror_tw.store.store_interface import IArchive, Pair

#: The kinds of records in snapshots. A restored grant permits nothing, so no refusal is needed.
_COPIED: Final = (REPRESENTATION, GRANT, ENTRY)
#: A batch is so many records or so many bytes, whichever comes first; then other work is done.
_BATCH: Final = 50
_BATCH_BYTES: Final = 256 * 1024


@implementer(IArchive)
@define(eq=False)
class MemoryArchive:
    """Copies and restores a memory store's records; the mark ends with the process."""

    reactor: Any
    records: NamedRecords
    codec: Codec
    threads: ContentThreads
    _mark: str | None = None

    async def dump(self) -> AsyncGenerator[list[Pair]]:
        """Yield all records, those used last first."""
        pairs: list[Pair] = []
        size = 0
        for name in self.records.names():
            record = self.records.peek(name) if name.kind in _COPIED else None
            for pair in () if record is None else self._sealed(name, record):
                pairs.append(pair)
                size += len(pair[1])
            if len(pairs) >= _BATCH or size >= _BATCH_BYTES:
                yield pairs
                pairs, size = [], 0
                await deferLater(self.reactor, 0)
        if pairs:
            yield pairs

    def _sealed(self, name: RecordName, record: Record) -> list[Pair]:
        encoded = name.encode()
        records = record if isinstance(record, tuple) else (record,)
        return [(encoded, self.codec.seal(name.kind, encoded, each)) for each in records]

    async def admit(self, pairs: Sequence[Pair]) -> int:
        """Restore records, over nothing or over older ones only."""
        admitted = 0
        for number, (encoded, blob) in enumerate(pairs):
            name = parse(encoded)
            record = None if name is None else await self._opened(name, encoded, blob)
            if name is not None and record is not None:
                admitted += self.records.admit(name, record)
            if number % _BATCH == _BATCH - 1:
                await deferLater(self.reactor, 0)
        return admitted

    async def _opened(self, name: RecordName, encoded: bytes, blob: bytes) -> Record | None:
        if name.kind is REPRESENTATION:
            # The unpacked content may be many times as large.
            work = len(blob) * 8
            stored = await self.threads.run(work, self.codec.open, REPRESENTATION, encoded, blob)
            return None if stored is None or stored.digest != name.rest else stored
        if name.kind is GRANT:
            grant = self.codec.open(GRANT, encoded, blob)
            expired = grant is None or grant.expires_at <= self.reactor.seconds()
            return None if grant is None or expired else evolve(grant, epoch=None)
        entry = self.codec.open(ENTRY, encoded, blob) if name.kind is ENTRY else None
        return None if entry is None else (entry,)

    def is_full(self) -> bool:
        """Return whether another record would evict one."""
        return self.records.is_full

    async def mark(self) -> str | None:
        """Return the mark, if the store has been filled."""
        return self._mark

    async def mark_filled(self) -> None:
        """Note that the store has been filled."""
        self._mark = uuid4().hex

    async def filled_by_others(self) -> str | None:
        """Return None: no other fleet has access."""
        return None

    async def acquire_lease(self, what: str, owner: str, lease_s: float) -> bool:  # noqa: ARG002
        """Return True: no other replica has access."""
        return True

    async def release_lease(self, what: str, owner: str) -> None:
        """Do nothing: no other replica has access."""
