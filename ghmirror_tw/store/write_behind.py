"""Writes that Redis did not take, queued until it does (write-behind)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.runtime.bounded_tables import store_recent
from ghmirror_tw.runtime.waiting import waiting, wake

#: How many writes are queued, of those that come first and of the others each; beyond that the
#: oldest is dropped.
MOST: Final = 50_000
#: How many are written at a time; batches are `PAUSE_S` apart, so that the load is spread.
BATCH: Final = 100
#: The same of those that come first: requests wait for them.
BATCH_FIRST: Final = 1000
PAUSE_S: Final = 0.25

#: Writes something, and fails with `RedisUnavailableError` if that can't be done now.
Write = Callable[[], Awaitable[object]]


@define(eq=False)
class WriteBehind:
    """A queue with the last write for each name; they are done as soon as *possible* is true.

    Writes that must not be lost (refusals, epochs) come first: they are done before the others, and
    are not dropped for them. *settled* is called when the queue is empty. *chance* returns a number
    from 0 to 1, which spreads the replicas of a fleet.
    """

    reactor: Any
    possible: Callable[[], bool]
    settled: Callable[[], None]
    chance: Callable[[], float]
    _first: OrderedDict[Hashable, Write] = field(init=False, factory=OrderedDict)
    _writes: OrderedDict[Hashable, Write] = field(init=False, factory=OrderedDict)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _paying: bool = field(init=False, default=False)
    _paying_first: bool = field(init=False, default=False)
    _being_paid: frozenset[Hashable] = field(init=False, default=frozenset())
    _waiters: list[Deferred[None]] = field(init=False, factory=list)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"))

    def __len__(self) -> int:
        return len(self._first) + len(self._writes)

    def __bool__(self) -> bool:
        return bool(self._first or self._writes)

    def __contains__(self, name: Hashable) -> bool:
        return name in self._first or name in self._writes or name in self._being_paid

    @property
    def owes_first(self) -> bool:
        """Whether there is anything that must not be lost."""
        return bool(self._first) or self._paying_first

    def paid_first(self, timeout_s: float) -> Deferred[None]:
        """Fire when no write that must not be lost is left, or when *timeout_s* has passed."""
        return waiting(self.reactor, self._waiters, timeout_s) if self.owes_first else succeed(None)

    def owe(self, name: Hashable, write: Write, *, first: bool = False) -> None:
        """Queue *write*, in place of an earlier one of that *name*."""
        writes = self._first if first else self._writes
        store_recent(writes, name, write, MOST)
        self._again()

    def _again(self) -> None:
        if self._timer is None and not self._paying:
            pause = PAUSE_S * (1.0 + self.chance())
            self._timer = self.reactor.callLater(pause, self._pay)

    def _pay(self) -> None:
        self._timer = None
        if not self.possible():
            self._again()
            return
        self._paying = True
        Deferred.fromCoroutine(self._pay_some()).addBoth(self._paid)

    async def _pay_some(self) -> None:
        """Do a batch of writes. One that fails is queued again, unless there is a later one."""
        batch: list[tuple[dict[Hashable, Write], Hashable, Write]] = []
        for writes, most in ((self._first, BATCH_FIRST), (self._writes, BATCH)):
            while writes and len(batch) < most:
                batch.append((writes, *writes.popitem(last=False)))
        self._paying_first = bool(batch) and batch[0][0] is self._first
        self._being_paid = frozenset([name for _, name, _ in batch])

        async def one(writes: dict[Hashable, Write], name: Hashable, write: Write) -> None:
            try:
                await write()
            except RedisUnavailableError:
                writes.setdefault(name, write)
            except Exception:  # noqa: BLE001 - whatever it is, the others must be written
                self._log.failure("Writing back failed")

        await gatherResults([Deferred.fromCoroutine(one(*each)) for each in batch])

    def _paid(self, _: object) -> None:
        self._paying = self._paying_first = False
        self._being_paid = frozenset()
        if not self._first:
            wake(self._waiters)
        if self:
            self._again()
        else:
            self.settled()

    def close(self) -> None:
        """Drop all writes."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._first.clear()
        self._writes.clear()
        wake(self._waiters)
