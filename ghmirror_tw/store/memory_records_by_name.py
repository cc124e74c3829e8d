"""A memory store's records, read and restored by the names that they have in snapshots."""

from __future__ import annotations

from attrs import define

from ghmirror_tw.caching.records import Grant, recency_list
from ghmirror_tw.store.compact_records import Record, long, short
from ghmirror_tw.store.lru_records import LruRecords
from ghmirror_tw.store.record_names import RecordName


def _newer(old: Record | None, record: Record) -> Record | None:
    """Return the record to store in place of *old*, or None where that stays."""
    if isinstance(record, Grant):
        stays = isinstance(old, Grant) and old.requested_at >= record.requested_at
    elif isinstance(record, float):
        stays = isinstance(old, float) and old >= record
    elif isinstance(record, tuple):
        before = old if isinstance(old, tuple) else ()
        record = recency_list((*before, *record))
        stays = record == before
    else:
        stays = old is not None
    return None if stays else record


def _short(name: RecordName) -> bytes:
    return short(name.kind, name.hash_tag, name.rest)


@define(eq=False)
class NamedRecords:
    """Reads and restores records, without using them."""

    records: LruRecords

    def names(self) -> list[RecordName]:
        """Return the names of all records, those used last first."""
        return list(map(long, self.records.names()))

    def peek(self, name: RecordName) -> Record | None:
        """Return a record; None: there is none."""
        compact = self.records.peek(_short(name))
        return None if compact is None else self.records.compactor.record(name, compact)

    def remove(self, name: RecordName) -> None:
        """Remove a record, if there is one."""
        self.records.remove(_short(name))

    def admit(self, name: RecordName, record: Record) -> bool:
        """Restore a record over nothing or an older one; return whether it is new.

        A record over nothing is evicted before all others.
        """
        newer = _newer(self.peek(name), record)
        if newer is None:
            return False
        self.records.put_cold(_short(name), newer)
        return True

    @property
    def is_full(self) -> bool:
        """Whether another record would evict one."""
        return self.records.size >= self.records.max_size
