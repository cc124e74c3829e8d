"""Compact records by name: least recently used (LRU), bounded by bytes."""

from __future__ import annotations

from itertools import islice
from typing import Final

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from ghmirror_tw.store.compact_records import (
    Compact,
    Compactor,
    Record,
    is_of,
    is_representation,
    size_of,
)
from ghmirror_tw.store.record_kinds import GRANT, NEGATIVE, REFUSAL

#: How many records are evicted without a pause: less than a millisecond's work.
_EVICTED_AT_ONCE: Final = 500
#: How many of the records used least recently are listed at a time, to be evicted.
_VICTIMS: Final = 500


@define(eq=False)
class LruRecords:
    """Records of at most *max_size* bytes; the least recently used are evicted."""

    reactor: IReactorTime
    max_size: int
    size: int = field(init=False, default=0)
    representations: int = field(init=False, default=0)
    grants: int = field(init=False, default=0)
    refusals: int = field(init=False, default=0)
    negatives: int = field(init=False, default=0)
    evictions: int = field(init=False, default=0)
    compactor: Compactor = field(init=False, factory=Compactor)
    #: Records that this process has written or used, in the order of their last use.
    records: dict[bytes, Compact] = field(init=False, factory=dict)
    #: Records that were restored and not used since, most recently used first (as in a snapshot).
    cold: dict[bytes, Compact] = field(init=False, factory=dict)
    #: The names of the records to be evicted next, least recently used first.
    _victims: dict[bytes, None] = field(init=False, factory=dict)
    _evicting: IDelayedCall | None = field(init=False, default=None)

    def __contains__(self, name: bytes) -> bool:
        return name in self.records or name in self.cold

    def use(self, name: bytes) -> Compact | None:
        """Return a record, and make it the most recently used one; None: there is none."""
        compact = self.records.pop(name, None)
        if compact is None:
            compact = self.cold.pop(name, None) if self.cold else None
            if compact is None:
                return None
        self.records[name] = compact
        if self._victims:
            self._victims.pop(name, None)
        return compact

    def peek(self, name: bytes) -> Compact | None:
        """Return a record without using it."""
        compact = self.records.get(name)
        return self.cold.get(name) if compact is None else compact

    def names(self) -> list[bytes]:
        """Return the names of all records, those used last first, as they are now."""
        names = list(self.records)
        names.reverse()
        names += self.cold
        return names

    def put(self, name: bytes, record: Record) -> None:
        """Store a record in place of any other one."""
        compact, old = self.compactor.compact(record), self._pop(name)
        if type(old) is type(compact) is bytes:
            # A record in place of another of its kind.
            self.size += len(compact) - len(old)
        else:
            if old is not None:
                self._count(old, -1)
            self._count(compact, 1)
        self.records[name] = compact
        if self.size > self.max_size:
            self._evict()

    def put_cold(self, name: bytes, record: Record) -> None:
        """Store a record that was restored, to be evicted before all others."""
        if name in self:
            self.put(name, record)
            return
        compact = self.cold[name] = self.compactor.compact(record)
        self._count(compact, 1)
        self._evict()

    def remove(self, name: bytes) -> None:
        """Remove a record, if there is one."""
        old = self._pop(name)
        if old is not None:
            self._count(old, -1)

    def _pop(self, name: bytes) -> Compact | None:
        """Remove a record without reducing the counts, and return it; None: there is none."""
        if self._victims:
            self._victims.pop(name, None)
        old = self.records.pop(name, None)
        return self.cold.pop(name, None) if old is None and self.cold else old

    def _count(self, compact: Compact, sign: int) -> None:
        self.size += sign * size_of(compact)
        if is_representation(compact):
            self.representations += sign
        elif is_of(GRANT, compact):
            self.grants += sign
        elif is_of(REFUSAL, compact):
            self.refusals += sign
        elif is_of(NEGATIVE, compact):
            self.negatives += sign

    def resize(self, max_size: int) -> None:
        """Store at most *max_size* bytes from now on."""
        self.max_size = max_size
        self._evict()

    def _evict(self) -> None:
        """Evict records until the size is within its bound, at most `_EVICTED_AT_ONCE` in one turn.

        A write needs a few. More remain only after `resize`, for the next turns of the reactor.
        """
        for _ in range(_EVICTED_AT_ONCE):
            if self.size <= self.max_size or not (self.cold or self.records):
                return
            victim = self.cold.popitem()[1] if self.cold else self._pop_first()
            self._count(victim, -1)
            self.evictions += 1
        if self._evicting is None:
            self._evicting = self.reactor.callLater(0, self._evict_more)

    def _evict_more(self) -> None:
        self._evicting = None
        self._evict()

    def _pop_first(self) -> Compact:
        """Remove the record used least recently, and return it.

        Names are listed in batches: a search for the first name of a dict passes all removed ones.
        """
        if not self._victims:
            self._victims = dict.fromkeys(islice(self.records, _VICTIMS))
        name = next(iter(self._victims))
        del self._victims[name]
        return self.records.pop(name)

    def close(self) -> None:
        """Evict no more; the records end with the process."""
        evicting, self._evicting = self._evicting, None
        if evicting is not None:
            evicting.cancel()
