"""All records, limits and locks in Redis, as one object for the failover store."""

from __future__ import annotations

from attrs import define

from ghmirror_tw.redis_store.record_lookups import RecordLookups
from ghmirror_tw.redis_store.record_writes import RecordWrites
from ghmirror_tw.redis_store.redis_locks import RedisLocks


@define(eq=False)
class RedisRecords(RecordLookups, RecordWrites, RedisLocks):
    """The parts together: they share the servers, the keys and the cached commands."""
