"""Locks of the fleet: one replica sends the first request for an unknown key, the others wait.

A lock is a key in Redis with a lease, after which it is free again. Its holder renews the lease
while its process lives. Requests that wait for it are notified where its holder is in the same
process. Other processes poll, once for all their requests that wait for the same lock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ghmirror_tw.redis import RedisUnavailableError
from ghmirror_tw.runtime.deferreds import add_waiter, wake
from ghmirror_tw.store.failover_reads import DeadlineReads
from ghmirror_tw.store.memory_store import MemoryStore
from ghmirror_tw.store.remote_interface import IRemoteRecords
from ghmirror_tw.store.remote_writes import RemoteWrites
from ghmirror_tw.store.store_interface import Deadline, LockName, LockOutcome
from ghmirror_tw.store.write_behind_queue import Write

#: How long a lock outlives the process that holds it, in seconds.
LEASE_S: Final = 3.0
_RENEW_S: Final = LEASE_S / 3
#: The pauses between polls of a lock, in seconds: the first, the longest, and their growth.
_FIRST_POLL_S: Final = 0.02
_LONGEST_POLL_S: Final = 0.2
_POLL_GROWTH: Final = 1.5
#: The reasons of failures after which a command may have been carried out.
_UNCERTAIN: Final = frozenset({"timeout", "lost"})


@define(eq=False)
class LeaseRenewals:
    """Renews leases by *renew* until they end; one that fails is sent again a second later."""

    reactor: Any
    renew: Callable[[LockName, str], Awaitable[None]]
    _timers: dict[tuple[str, str], IDelayedCall] = field(init=False, factory=dict)

    def begin(self, lock: LockName, owner: str) -> None:
        """Renew the lease of a lock from now on."""
        self._timers[lock.text, owner] = self.reactor.callLater(_RENEW_S, self._renew, lock, owner)

    def _renew(self, lock: LockName, owner: str) -> None:
        self.begin(lock, owner)
        renewed = Deferred.fromCoroutine(self._try(lock, owner))
        renewed.addErrback(Failure.trap, RedisUnavailableError)

    async def _try(self, lock: LockName, owner: str) -> None:
        await self.renew(lock, owner)

    def end(self, lock: LockName, owner: str) -> bool:
        """Renew a lease no more; return whether it was renewed."""
        timer = self._timers.pop((lock.text, owner), None)
        if timer is not None:
            timer.cancel()
        return timer is not None

    def close(self) -> None:
        """Renew no lease any more."""
        timers, self._timers = self._timers, {}
        for timer in timers.values():
            timer.cancel()


@define(eq=False)
class _PolledLock:
    lock: LockName
    pause_s: float = _FIRST_POLL_S
    waiters: list[Deferred[None]] = field(factory=list)
    timer: IDelayedCall | None = None


@define(eq=False)
class LockPolls:
    """Polls the locks of other processes for which requests wait here, by *is_locked*.

    A poll that fails changes nothing, unless Redis can't be read at all by *possible*: then no
    request waits. *chance* is a number from 0 to 1, which spreads the polls of replicas.
    """

    reactor: Any
    is_locked: Callable[[LockName], Awaitable[bool]]
    possible: Callable[[], bool]
    chance: Callable[[], float]
    _polled: dict[str, _PolledLock] = field(init=False, factory=dict)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"))

    def __len__(self) -> int:
        return len(self._polled)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(len(polled.waiters) for polled in self._polled.values())

    def __contains__(self, lock: LockName) -> bool:
        """Return whether another process is known to hold *lock*."""
        return lock.text in self._polled

    def begin(self, lock: LockName) -> None:
        """Note that another process holds *lock*."""
        if lock.text not in self._polled:
            polled = self._polled[lock.text] = _PolledLock(lock)
            self._schedule(polled)

    def released(self, lock: LockName, timeout_s: float) -> Deferred[None]:
        """Fire when the lock has been released, or when *timeout_s* has passed."""
        polled = self._polled.get(lock.text)
        return (
            succeed(None) if polled is None else add_waiter(self.reactor, polled.waiters, timeout_s)
        )

    def _schedule(self, polled: _PolledLock) -> None:
        pause_s = polled.pause_s * (0.5 + self.chance())
        polled.pause_s = min(polled.pause_s * _POLL_GROWTH, _LONGEST_POLL_S)
        polled.timer = self.reactor.callLater(pause_s, self._poll, polled)

    def _poll(self, polled: _PolledLock) -> None:
        polled.timer = None
        found = Deferred.fromCoroutine(self._is_locked(polled))
        found.addErrback(lambda failure: self._log.failure("Polling a lock failed", failure))
        found.addCallback(lambda locked: self._found(polled, locked=bool(locked)))

    async def _is_locked(self, polled: _PolledLock) -> bool:
        try:
            return bool(polled.waiters) and await self.is_locked(polled.lock)
        except RedisUnavailableError:
            return self.possible()

    def _found(self, polled: _PolledLock, *, locked: bool) -> None:
        if self._polled.get(polled.lock.text) is not polled:
            return
        if locked:
            self._schedule(polled)
        else:
            self._end(polled)

    def _end(self, polled: _PolledLock) -> None:
        del self._polled[polled.lock.text]
        if polled.timer is not None:
            polled.timer.cancel()
            polled.timer = None
        wake(polled.waiters)

    def close(self) -> None:
        """Poll no lock any more; no request waits."""
        for polled in list(self._polled.values()):
            self._end(polled)


@define(eq=False)
class FleetLock:
    """Acquires locks in this process first (*memory*), then for it in the fleet (*redis*)."""

    reactor: Any
    redis: IRemoteRecords
    memory: MemoryStore
    reads: DeadlineReads
    writes: RemoteWrites
    timeout_s: float
    leases: LeaseRenewals = field(init=False)
    polls: LockPolls = field(init=False)

    def __attrs_post_init__(self) -> None:
        redis, writes = self.redis, self.writes
        self.leases = LeaseRenewals(
            self.reactor, lambda lock, owner: redis.renew(lock, owner, LEASE_S, writes.timeout_s)
        )
        self.polls = LockPolls(
            self.reactor,
            lambda lock: redis.is_locked(lock, self.timeout_s),
            lambda: bool(redis.servers.reading),
            redis.chance,
        )

    async def try_acquire(self, lock: LockName, owner: str, deadline: Deadline) -> LockOutcome:
        """Acquire a lock, unless it is held or needless; while Redis is away, in this process."""
        outcome = await self.memory.try_acquire(lock, owner, deadline)
        if outcome is not LockOutcome.ACQUIRED:
            return outcome
        try:
            outcome = await self._acquire_in_fleet(lock, owner, deadline)
        except RedisUnavailableError as error:
            if error.reason in _UNCERTAIN:
                # Redis may have carried it out, and other replicas would wait for the lease's end.
                self._release_in_fleet(lock, owner)
            return LockOutcome.ACQUIRED
        except Exception:  # cancelled, for one: a request that is gone must not hold a lock
            self.memory.release(lock, owner)
            self._release_in_fleet(lock, owner)
            raise
        if outcome is LockOutcome.ACQUIRED:
            self.leases.begin(lock, owner)
        else:
            self.memory.release(lock, owner)
        return outcome

    async def _acquire_in_fleet(
        self, lock: LockName, owner: str, deadline: Deadline
    ) -> LockOutcome:
        if lock in self.polls:
            return LockOutcome.HELD
        acquire: Any = partial(self.redis.try_acquire, lock, owner, LEASE_S)
        try:
            outcome: LockOutcome = await self.reads.retried(deadline, acquire)
        except RedisUnavailableError as error:
            if error.reason != "late":
                raise
            # This process was held up after it had sent the command, which does not count.
            outcome = await self.reads.retried(deadline, acquire)
        if outcome is LockOutcome.HELD:
            self.polls.begin(lock)
        return outcome

    def release(self, lock: LockName, owner: str) -> None:
        """Release a lock, in the fleet once the holder's writes can be seen by other replicas."""
        self.memory.release(lock, owner)
        if self.leases.end(lock, owner):
            self._release_in_fleet(lock, owner)

    def _release_in_fleet(self, lock: LockName, owner: str) -> None:
        self.writes.send("", Write(lambda: self._release(lock, owner)))

    async def _release(self, lock: LockName, owner: str) -> None:
        for subject in filter(None, (lock.key.name, lock.credential)):
            await self.writes.done(subject)
        await self.redis.release(lock, owner, self.writes.timeout_s)

    async def released(self, lock: LockName, timeout_s: float) -> None:
        """Return when the lock has been released, here or elsewhere, or after *timeout_s*."""
        until = self.reactor.seconds() + timeout_s
        if lock not in self.polls:
            await self.memory.released(lock, timeout_s)
        # The holder here may have found that another process holds the lock of the fleet.
        if lock in self.polls:
            await self.polls.released(lock, max(until - self.reactor.seconds(), 0.0))

    def close(self) -> None:
        """Renew no lease, and poll no lock any more."""
        self.leases.close()
        self.polls.close()
