"""Watching the claims of other replicas, for those here who wait for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.runtime.waiting import waiting, wake
from ghmirror_tw.store.store_interface import LockName

#: How often is asked whether a claim has ended, in seconds: soon at first, then less and less.
_FIRST_S: Final = 0.02
_LAST_S: Final = 0.2
_SLOWER: Final = 1.5

IsClaimed = Callable[[LockName], Awaitable[bool]]


@define(eq=False)
class _Watched:
    subject: LockName
    pause_s: float = _FIRST_S
    waiters: list[Deferred[None]] = field(factory=list)
    timer: IDelayedCall | None = None


@define(eq=False)
class Watch:
    """Asks about the claims that somebody here waits for, once for all who wait for the same.

    While *possible* says that nobody can be asked about them, nobody waits for them either.
    *chance* is a number from 0 to 1, so that replicas don't ask all at once.
    """

    reactor: Any
    is_locked: IsClaimed
    possible: Callable[[], bool]
    chance: Callable[[], float]
    _watched: dict[str, _Watched] = field(init=False, factory=dict)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"))

    def knows(self, subject: LockName) -> bool:
        """Tell whether somebody else is known to have a claim to *subject*."""
        return subject.name in self._watched

    def begin(self, subject: LockName) -> None:
        """Note that somebody else has a claim to *subject*."""
        if subject.name not in self._watched:
            watched = self._watched[subject.name] = _Watched(subject)
            self._look_later(watched)

    def released(self, subject: LockName, timeout_s: float) -> Deferred[None]:
        """Return when the claim has ended, or when *timeout_s* has passed."""
        watched = self._watched.get(subject.name)
        if watched is None:
            return succeed(None)
        return waiting(self.reactor, watched.waiters, timeout_s)

    def _look_later(self, watched: _Watched) -> None:
        pause_s = watched.pause_s * (0.5 + self.chance())
        watched.pause_s = min(watched.pause_s * _SLOWER, _LAST_S)
        watched.timer = self.reactor.callLater(pause_s, self._look, watched)

    def _look(self, watched: _Watched) -> None:
        watched.timer = None
        looked = Deferred.fromCoroutine(self._is_claimed(watched))
        looked.addErrback(lambda failure: self._log.failure("Watching failed", failure=failure))
        looked.addCallback(lambda claimed: self._looked(watched, claimed=bool(claimed)))

    async def _is_claimed(self, watched: _Watched) -> bool:
        try:
            return bool(watched.waiters) and await self.is_locked(watched.subject)
        except RedisUnavailableError:
            return self.possible()

    def _looked(self, watched: _Watched, *, claimed: bool) -> None:
        if self._watched.get(watched.subject.name) is not watched:
            return
        if claimed:
            self._look_later(watched)
        else:
            self._end(watched)

    def _end(self, watched: _Watched) -> None:
        del self._watched[watched.subject.name]
        if watched.timer is not None:
            watched.timer.cancel()
            watched.timer = None
        wake(watched.waiters)

    def close(self) -> None:
        """Wake everybody."""
        for watched in list(self._watched.values()):
            self._end(watched)
