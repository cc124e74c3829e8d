"""Waiting for claims that other replicas hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.policy.key import CacheKey
from ghmirror_tw.store.redis.interfaces import Unavailable

#: How often is asked whether a claim has ended, in seconds: soon at first, then less and less.
_FIRST_S: Final = 0.02
_LAST_S: Final = 0.2
_SLOWER: Final = 1.5

IsClaimed = Callable[[CacheKey], Awaitable[bool]]


@define(eq=False)
class _Watched:
    key: CacheKey
    pause_s: float = _FIRST_S
    waiters: list[Deferred[None]] = field(factory=list)
    timer: IDelayedCall | None = None

    def leave(self, waiter: Deferred[None]) -> None:
        if waiter in self.waiters:
            self.waiters.remove(waiter)

    def wake(self) -> None:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.called:
                waiter.callback(None)


@define(eq=False)
class Watch:
    """Asks about the claims that somebody here waits for, once for all who wait for the same."""

    reactor: Any
    is_claimed: IsClaimed
    chance: Callable[[], float]
    _watched: dict[str, _Watched] = field(init=False, factory=dict)

    def knows(self, key: CacheKey) -> bool:
        """Tell whether somebody else is known to have a claim to *key*."""
        return key.name in self._watched

    def begin(self, key: CacheKey) -> None:
        """Note that somebody else has a claim to *key*."""
        if key.name not in self._watched:
            watched = self._watched[key.name] = _Watched(key)
            self._look_later(watched)

    def wait(self, key: CacheKey, timeout_s: float) -> Deferred[None]:
        """Return when the claim has ended, or when *timeout_s* has passed."""
        watched = self._watched.get(key.name)
        waiter: Deferred[None] = Deferred(None if watched is None else watched.leave)
        if watched is None:
            waiter.callback(None)
            return waiter
        watched.waiters.append(waiter)

        def give_up() -> None:
            watched.leave(waiter)
            waiter.callback(None)

        timer = self.reactor.callLater(timeout_s, give_up)

        def stop_timer(result: None) -> None:
            if timer.active():
                timer.cancel()
            return result

        return waiter.addBoth(stop_timer)

    def _look_later(self, watched: _Watched) -> None:
        pause_s = watched.pause_s * (0.5 + self.chance())
        watched.pause_s = min(watched.pause_s * _SLOWER, _LAST_S)
        watched.timer = self.reactor.callLater(
            pause_s, lambda: Deferred.fromCoroutine(self._look(watched))
        )

    async def _look(self, watched: _Watched) -> None:
        watched.timer = None
        try:
            claimed = bool(watched.waiters) and await self.is_claimed(watched.key)
        except Unavailable:
            claimed = False
        if claimed:
            self._look_later(watched)
        else:
            self.end(watched.key)

    def end(self, key: CacheKey) -> None:
        """Wake all who wait for *key*."""
        watched = self._watched.pop(key.name, None)
        if watched is None:
            return
        if watched.timer is not None:
            watched.timer.cancel()
            watched.timer = None
        watched.wake()

    def close(self) -> None:
        """Wake everybody."""
        for watched in list(self._watched.values()):
            self.end(watched.key)
