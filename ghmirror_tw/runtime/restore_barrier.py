"""A barrier for requests while a store is being restored from a snapshot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from itertools import chain, repeat
from typing import Any, Final, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.runtime.deferreds import add_waiter, wake

T = TypeVar("T")

#: How many waiters go on in one turn of the reactor: thousands at once would hold it up.
_BATCH: Final = 20
#: The pauses between look-ups while the barrier is shut, in seconds; the last one is repeated.
_PAUSES_S: Final = (0.25, 0.5, 1.0, 2.0)


@define(eq=False)
class RestoreBarrier:
    """Shut while any restorer works, but for each of them never longer than *longest_s*."""

    reactor: Any
    longest_s: float = 0.0
    #: Whether a restorer works, and is still waited for.
    is_shut: bool = field(init=False, default=False)
    #: The timers after which restorers are waited for no longer.
    _timers: dict[Hashable, IDelayedCall] = field(init=False, factory=dict)
    _waiters: list[Deferred[None]] = field(init=False, factory=list)
    _waking: IDelayedCall | None = field(init=False, default=None)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiters)

    def shut(self, restorer: Hashable) -> None:
        """Let requests wait from now on, until *restorer* is done."""
        if restorer not in self._timers and self.longest_s > 0:
            self._timers[restorer] = self.reactor.callLater(self.longest_s, self._expire, restorer)
            self.is_shut = True

    def _expire(self, restorer: Hashable) -> None:
        del self._timers[restorer]
        self._wake()

    def open(self, restorer: Hashable) -> None:
        """Note that *restorer* is done; after the last one, requests continue in batches."""
        timer = self._timers.pop(restorer, None)
        if timer is not None:
            timer.cancel()
        self._wake()

    def _wake(self) -> None:
        self.is_shut = bool(self._timers)
        if self.is_shut or self._waking is not None:
            return
        batch, self._waiters[:_BATCH] = self._waiters[:_BATCH], []
        wake(batch)
        if self._waiters:
            self._waking = self.reactor.callLater(0, self._wake_next)

    def _wake_next(self) -> None:
        self._waking = None
        self._wake()

    def opened(self, timeout_s: float) -> Deferred[None]:
        """Fire when the barrier is open, or when *timeout_s* has passed."""
        if not self.is_shut:
            return succeed(None)
        return add_waiter(self.reactor, self._waiters, timeout_s)

    async def until_found(
        self, look_up: Callable[[], Awaitable[T]], is_found: Callable[[T], object]
    ) -> T:
        """Return the result of *look_up* when it *is_found*, or when the barrier is open.

        Each record can be looked up as soon as it is restored, so *look_up* is called repeatedly.
        """
        pauses, result = chain(_PAUSES_S, repeat(_PAUSES_S[-1])), await look_up()
        while self.is_shut and not is_found(result):
            await self.opened(next(pauses))
            result = await look_up()
        return result
