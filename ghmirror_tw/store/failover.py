"""The store of a fleet: Redis, and a memory store beside it that stands in while Redis is away.

Each write of this process goes to the memory store, too. While Redis is available, that is a
bounded copy of the records used last. It saves fetching content, and this process finds its own
writes at once. While Redis is away, it is the store; its records are written to Redis as soon as
that is back (write-behind). Memory can't contradict Redis: content is known by its digest, and of
a grant and a refusal the one with the later request counts, wherever it is stored. A response that
GitHub does not confirm now needs a permission in Redis (see `caching.epochs`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Entry, Grant, Known, NegativeResponse, Representation
from ghmirror_tw.github.reported_limit import Limit
from ghmirror_tw.redis import ServerStatistics
from ghmirror_tw.runtime.reactor_lag import ReactorLag
from ghmirror_tw.store.failover_reads import DeadlineReads, FailoverReads
from ghmirror_tw.store.fleet_lock import FleetLock
from ghmirror_tw.store.fleet_token_epochs import FleetEpochs
from ghmirror_tw.store.measured_store import LookupTimes, measured
from ghmirror_tw.store.memory_store import MemoryStore
from ghmirror_tw.store.remote_availability import RemoteAvailability
from ghmirror_tw.store.remote_interface import MakeHistory
from ghmirror_tw.store.remote_writes import RemoteWrites
from ghmirror_tw.store.store_interface import Deadline, IStore, LockName, LockOutcome
from ghmirror_tw.store.write_behind_queue import WriteBehind

#: No request waits for a write, so it may take so many times as long as a look-up.
_WRITE_PATIENCE: Final = 4
#: Queued writes of each kind may take this part of the memory of the memory store.
_QUEUE_PARTS: Final = 8


@define(frozen=True)
class Sizes:
    """How much the memory store may hold, in bytes: beside Redis, and in its place."""

    beside: int
    instead: int


@implementer(IStore)
@define(eq=False)
class FailoverStore:
    """Redis while it is available, memory while it is not.

    *timeout_s*: how long one request may wait for Redis, in all. Without *fallback*, requests are
    ended without storing while Redis is unavailable. *report* takes the times of look-ups, by
    *clock*. *known* is called when the first availability of Redis is known. On closing, the store
    waits up to *grace_s* seconds for writes that must not be lost.
    """

    reactor: Any
    #: An `IRemoteRecords`.
    redis: Any
    make_history: MakeHistory
    memory: MemoryStore
    sizes: Sizes
    timeout_s: float
    fallback: bool
    report: LookupTimes
    clock: Callable[[], float]
    known: Callable[[], object] = lambda: None
    name: str = "redis"
    grace_s: float = 0.0
    history: Any = field(init=False)
    figures: ServerStatistics = field(init=False)
    availability: RemoteAvailability = field(init=False)
    reads: DeadlineReads = field(init=False)
    writes: RemoteWrites = field(init=False)
    locks: FleetLock = field(init=False)
    _records: FailoverReads = field(init=False)
    _epochs: FleetEpochs = field(init=False)

    def __attrs_post_init__(self) -> None:
        reactor, redis, memory, servers = self.reactor, self.redis, self.memory, self.redis.servers
        write_s = self.timeout_s * _WRITE_PATIENCE
        look_ups = measured(redis, self.name, self.report, self.clock)
        max_bytes = self.sizes.instead // _QUEUE_PARTS
        queue = WriteBehind(reactor, self.can_flush, self.resize, redis.chance, max_bytes)
        self.history = self.make_history(owes=lambda: queue.has_durable)
        self.figures = ServerStatistics(reactor, servers)
        self.availability = RemoteAvailability(
            reactor, servers, self.history, write_s, self._settled
        )
        self.reads = DeadlineReads(reactor, ReactorLag(reactor), self.availability)
        self.writes = RemoteWrites(reactor, redis, memory, queue, write_s, self.resize)
        self._records = FailoverReads(
            look_ups,
            self.reads,
            memory,
            self.writes,
            self.history,
            servers,
            self.timeout_s,
            self.fallback,
        )
        self._epochs = FleetEpochs(reactor, redis, memory, self.writes, self.history)
        queue.lost = self._epochs.note_lost
        self.locks = FleetLock(reactor, look_ups, memory, self.reads, self.writes, self.timeout_s)
        self.resize()

    # Availability.

    @property
    def available(self) -> bool:
        """Whether Redis can be read and written now."""
        return self.availability.available

    @property
    def is_settled(self) -> bool:
        """Whether the first availability of Redis is known."""
        return self.availability.is_settled

    def can_flush(self) -> bool:
        """Return whether queued writes can be written. An epoch needs a history that is known."""
        return self.redis.servers.writing and self.redis.history is not None

    def open(self) -> None:
        """Begin to connect."""
        self.reads.lag.open()
        self.availability.open()

    def _settled(self) -> None:
        self.figures.open()
        self.known()

    def settled(self) -> Deferred[None]:
        """Fire when the first availability of Redis is known."""
        return self.availability.settled()

    def note_change(self) -> None:
        """Note that Redis became unavailable or available, and may have lost records meanwhile."""
        self.availability.note_change()
        self.resize()

    def note_connection(self) -> None:
        """Note a new connection, which may lead to another server."""
        self.availability.note_connection()

    def resize(self) -> None:
        """Resize the memory store: it has to hold more while Redis lacks records.

        Queued writes count as part of it.
        """
        alone = self.fallback and (not self.available or bool(self.writes.queue))
        size = self.sizes.instead if alone else self.sizes.beside
        self.memory.resize(max(size - self.writes.queue.size, 0))

    @property
    def _stores(self) -> bool:
        """Whether responses are stored at all."""
        return self.fallback or bool(self.redis.servers.writing)

    # Look-ups.

    def store_deadline(self) -> Deadline:
        """Return how long one request may wait for Redis."""
        return Deadline(self.timeout_s)

    def look_up(
        self,
        key: CacheKey,
        credential: str,
        store_deadline: Deadline,
        *,
        current: bool = False,
        token: str | None = None,
    ) -> Deferred[Known]:
        """Return the records in Redis and in this process."""
        return self._records.look_up(key, credential, store_deadline, current=current, token=token)

    def fetch(
        self,
        key: CacheKey,
        digests: tuple[str, ...],
        store_deadline: Deadline,
        *,
        current: bool = False,
    ) -> Deferred[dict[str, Representation]]:
        """Return representations: copies in memory, and those that Redis has."""
        return self._records.fetch(key, digests, store_deadline, current=current)

    def limits(
        self, token: str, scopes: tuple[str, ...], store_deadline: Deadline
    ) -> Deferred[tuple[Limit, ...]]:
        """Return the limits in force that are stored in Redis or in this process."""
        return Deferred.fromCoroutine(self._records.limits(token, scopes, store_deadline))

    # Writes.

    def store_response(
        self,
        key: CacheKey,
        credential: str,
        representation: Representation,
        grant: Grant,
        entry: Entry,
    ) -> None:
        """Store what a 200 contained."""
        if self._stores:
            self.memory.store_response(key, credential, representation, grant, entry)
            self.writes.store(key, credential, representation, grant, entry)

    def freshen(self, key: CacheKey, credential: str, grant: Grant, entry: Entry) -> None:
        """Store what a 304 confirmed."""
        if self._stores:
            self.memory.freshen(key, credential, grant, entry)
            self.writes.freshen(key, credential, grant, entry)

    def deny(
        self, key: CacheKey, credential: str, requested_at: float, *, token: str | None = None
    ) -> None:
        """Store the end of a grant (see `IStore.deny`); the write must not be lost."""
        first = not self.memory.permissions.has_any(key, credential)
        self.memory.deny(key, credential, requested_at)
        self.writes.deny(key, credential, requested_at, token or credential, first=first)

    def store_negative(self, key: CacheKey, credential: str, negative: NegativeResponse) -> None:
        """Store a negative response; a write that fails is not queued: it would come too late."""
        self.memory.store_negative(key, credential, negative)
        self.writes.store_negative(key, credential, negative)

    def begin_epoch(self, token: str, epoch: bytes, since: float) -> bytes | None:
        """Begin an epoch in the whole fleet, unless there is one."""
        return self._epochs.begin(token, epoch, since)

    def revoke(self, token: str, epoch: bytes) -> None:
        """Replace the epoch of a token, if any; the write must not be lost."""
        self._epochs.revoke(token, epoch)

    def replace_epoch(
        self, token: str, epoch: bytes, *, if_present: bool = False
    ) -> Deferred[None]:
        """Replace an epoch in the whole fleet; fire when Redis has it, or after the timeout."""
        return self._epochs.replace(token, epoch, self.timeout_s, if_present=if_present)

    def set_limit(self, token: str, limit: Limit) -> None:
        """Store a limit, in the whole fleet."""
        self.memory.set_limit(token, limit)
        self.writes.set_limit(token, limit)

    def mark_unstorable(self, key: CacheKey) -> None:
        """Note that responses can't be stored; a write that fails is not queued."""
        self.memory.mark_unstorable(key)
        self.writes.mark_unstorable(key)

    # Locks.

    def try_acquire(
        self, lock: LockName, owner: str, store_deadline: Deadline
    ) -> Deferred[LockOutcome]:
        """Try to acquire a lock in the fleet."""
        return Deferred.fromCoroutine(self.locks.try_acquire(lock, owner, store_deadline))

    def release(self, lock: LockName, owner: str) -> None:
        """Release a lock."""
        self.locks.release(lock, owner)

    def released(self, lock: LockName, timeout_s: float) -> Deferred[None]:
        """Fire when the lock has been released, here or elsewhere."""
        return Deferred.fromCoroutine(self.locks.released(lock, timeout_s))

    def close(self) -> Deferred[None]:
        """Finish the writes in flight, and close all connections."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self.availability.close()
        self.reads.lag.close()
        self.figures.close()
        self.locks.close()
        await self.writes.close(self.grace_s)
        await self.history.close()
        await self.redis.servers.close()
        await self.memory.close()
