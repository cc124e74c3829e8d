"""The records of a memory store, to be copied and put back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final
from uuid import uuid4

from attrs import define, evolve
from twisted.internet.task import deferLater
from zope.interface import implementer

from ghmirror_tw.caching.records import Entry, Grant, Representation
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.store.codec import Codec
from ghmirror_tw.store.compact_records import Name, Record, long
from ghmirror_tw.store.memory_store import MemoryStore
from ghmirror_tw.store.record_names import RecordName, Sort, parse
from ghmirror_tw.store.store_interface import IArchive, Pair

#: How a memory store calls each sort of record.
_CALLED: Final = {
    Sort.REPRESENTATION: "representation",
    Sort.GRANT: "grant",
    Sort.RECENCY: "list",
}
_SORTS: Final = {called: sort for sort, called in _CALLED.items()}
#: A batch is so many records or so many bytes, whatever comes first; then others have their turn.
_BATCH: Final = 50
_BATCH_BYTES: Final = 256 * 1024


def _here(name: RecordName) -> Name:
    return (_CALLED[name.sort], name.slot, *([name.rest] if name.rest else []))


@implementer(IArchive)
@define(eq=False)
class MemoryArchive:
    """Copies a memory store's records, and puts them back; the mark goes with the process."""

    reactor: Any
    store: MemoryStore
    codec: Codec
    threads: ContentThreads
    _mark: str | None = None

    # Copying.

    async def dump(self) -> AsyncGenerator[list[Pair]]:
        """Give all records, those first that were used last."""
        pairs: list[Pair] = []
        size = 0
        for called in self.store.short_names():
            name = long(called)
            record = self.store.peek(name)
            for pair in () if record is None else self._sealed(name, record):
                pairs.append(pair)
                size += len(pair[1])
            if len(pairs) >= _BATCH or size >= _BATCH_BYTES:
                yield pairs
                pairs, size = [], 0
                await deferLater(self.reactor, 0)
        if pairs:
            yield pairs

    def _sealed(self, called: Name, record: Record) -> list[Pair]:
        sort, *parts = called
        if sort not in _SORTS:  # not for a snapshot: it permits nothing, so nothing outweighs it
            return []
        name = RecordName(_SORTS[sort], *parts).encode()
        if isinstance(record, Representation):
            return [(name, self.codec.representation(name, record))]
        if isinstance(record, Grant):
            return [(name, self.codec.grant(name, record))]
        if isinstance(record, tuple):
            return [(name, self.codec.entry(name, entry)) for entry in record]
        return []

    # Putting back.

    async def admit(self, pairs: Sequence[Pair]) -> int:
        """Put records back, over nothing or over older ones only."""
        admitted = 0
        for number, (name, blob) in enumerate(pairs):
            parsed = parse(name)
            record = None if parsed is None else await self._opened(parsed, name, blob)
            if parsed is not None and record is not None:
                admitted += self.store.admit(_here(parsed), record)
            if number % _BATCH == _BATCH - 1:
                await deferLater(self.reactor, 0)
        return admitted

    async def _opened(self, parsed: RecordName, name: bytes, blob: bytes) -> Record | None:
        codec = self.codec
        if parsed.sort is Sort.REPRESENTATION:
            # What unpacks may be many times as large.
            work = len(blob) * 8
            stored = await self.threads.run(work, codec.open_representation, name, blob)
            return None if stored is None or stored.digest != parsed.rest else stored
        if parsed.sort is Sort.GRANT:
            grant = codec.open_grant(name, blob)
            if grant is None or grant.expires_at <= self.reactor.seconds():
                return None
            return evolve(grant, epoch=None)
        if parsed.sort is Sort.RECENCY:
            entry: Entry | None = codec.open_entry(name, blob)
            return None if entry is None else (entry,)
        return None

    def is_full(self) -> bool:
        """Tell whether more would push out others."""
        return self.store.is_full

    async def mark(self) -> str | None:
        """Return the mark, if it has been filled."""
        return self._mark

    async def mark_filled(self) -> None:
        """Note that it has been filled."""
        self._mark = uuid4().hex

    async def filled_by_others(self) -> str | None:
        """Return None: there are no others."""
        return None

    # There is nobody else.

    async def acquire_lease(self, what: str, owner: str, lease_s: float) -> bool:  # noqa: ARG002
        """Give it to whoever asks."""
        return True

    async def release_lease(self, what: str, owner: str) -> None:
        """Nobody else wants it."""
