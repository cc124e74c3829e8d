"""A queue of writes that failed while Redis was away, sent once it is back (write-behind)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from math import inf
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ghmirror_tw.redis import RedisUnavailableError
from ghmirror_tw.runtime.bounded_tables import store_recent
from ghmirror_tw.runtime.deferreds import add_waiter, do_nothing, wake

#: How many durable writes, and how many others, are queued; beyond that the oldest is dropped.
MAX_QUEUED: Final = 50_000
#: How many are written at a time; batches are `PAUSE_S` apart, so that the load is spread.
BATCH: Final = 100
#: The same of durable writes: requests wait for them.
DURABLE_BATCH: Final = 1000
PAUSE_S: Final = 0.25

#: Writes a record, and fails with `RedisUnavailableError` if that can't be done now.
Write = Callable[[], Awaitable[object]]


@define(eq=False)
class WriteBehind:
    """A queue with the last write of each name, flushed as soon as *possible* is true.

    Durable writes (refusals, epochs) must not be lost. They are flushed before the others, and are
    not dropped for them. *emptied* is called when the queue is empty, and *lost* when a durable
    write is dropped for a later one. *chance* returns a number from 0 to 1, which spreads the
    replicas of a fleet.
    """

    reactor: Any
    possible: Callable[[], bool]
    emptied: Callable[[], object]
    chance: Callable[[], float]
    lost: Callable[[], object] = do_nothing
    _durable: OrderedDict[Hashable, Write] = field(init=False, factory=OrderedDict)
    _others: OrderedDict[Hashable, Write] = field(init=False, factory=OrderedDict)
    #: The names in the batch that is being written now, and whether some of it are durable.
    _in_flight: frozenset[Hashable] = field(init=False, default=frozenset())
    _durable_in_flight: bool = field(init=False, default=False)
    _flushing: bool = field(init=False, default=False)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _durable_waiters: list[Deferred[None]] = field(init=False, factory=list)
    _waiters: list[Deferred[None]] = field(init=False, factory=list)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"))

    def __len__(self) -> int:
        return len(self._durable) + len(self._others)

    def __bool__(self) -> bool:
        return bool(self._durable or self._others)

    def __contains__(self, name: Hashable) -> bool:
        return name in self._durable or name in self._others or name in self._in_flight

    @property
    def has_durable(self) -> bool:
        """Whether a durable write is queued, or is being written."""
        return bool(self._durable) or self._durable_in_flight

    def durable_flushed(self, timeout_s: float) -> Deferred[None]:
        """Fire when no durable write is left, or when *timeout_s* has passed."""
        if not self.has_durable:
            return succeed(None)
        return add_waiter(self.reactor, self._durable_waiters, timeout_s)

    def flushed(self, timeout_s: float = inf) -> Deferred[None]:
        """Fire when the queue is empty and all of it is written, or when *timeout_s* has passed."""
        if not self and not self._flushing:
            return succeed(None)
        return add_waiter(self.reactor, self._waiters, timeout_s)

    def enqueue(self, name: Hashable, write: Write, *, durable: bool = False) -> None:
        """Queue *write*, in place of an earlier one of that *name*."""
        dropped = store_recent(self._durable if durable else self._others, name, write, MAX_QUEUED)
        if durable and dropped is not None:
            self.lost()
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is None and not self._flushing:
            pause_s = PAUSE_S * (1.0 + self.chance())
            self._timer = self.reactor.callLater(pause_s, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if not self.possible():
            self._schedule()
            return
        self._flushing = True
        Deferred.fromCoroutine(self._write_batch()).addBoth(self._written)

    async def _write_batch(self) -> None:
        """Write one batch. A write that fails is queued again, unless there is a later one."""
        batch: list[tuple[dict[Hashable, Write], Hashable, Write]] = []
        for writes, most in ((self._durable, DURABLE_BATCH), (self._others, BATCH)):
            while writes and len(batch) < most:
                batch.append((writes, *writes.popitem(last=False)))
        self._durable_in_flight = bool(batch) and batch[0][0] is self._durable
        self._in_flight = frozenset([name for _, name, _ in batch])

        async def one(writes: dict[Hashable, Write], name: Hashable, write: Write) -> None:
            try:
                await write()
            except RedisUnavailableError:
                writes.setdefault(name, write)
            except Exception:  # noqa: BLE001 - the other writes must be written in any case
                self._log.failure("A queued write to Redis failed and was dropped")

        await gatherResults([Deferred.fromCoroutine(one(*each)) for each in batch])

    def _written(self, _: object) -> None:
        self._flushing = self._durable_in_flight = False
        self._in_flight = frozenset()
        if not self._durable:
            wake(self._durable_waiters)
        if self:
            self._schedule()
        else:
            self.emptied()
            wake(self._waiters)

    def close(self) -> None:
        """Drop all writes."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._durable.clear()
        self._others.clear()
        wake(self._durable_waiters)
        wake(self._waiters)
