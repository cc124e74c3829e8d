"""Whether a store is being filled from a copy, for who asks for what it does not know yet."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import chain, repeat
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.runtime.waiting import waiting, wake

#: So many of those who wait go on in one turn of the reactor; there may be thousands.
_AT_ONCE: Final = 20
#: Meanwhile one looks whether what one waits for has come: soon, then ever less often, in seconds.
_LOOKS_S: Final = (0.25, 0.5, 1.0, 2.0)


def looks() -> Iterator[float]:
    """Give how long to wait each time, in seconds, without an end."""
    return chain(_LOOKS_S, repeat(_LOOKS_S[-1]))


@define(eq=False)
class RestoreBarrier:
    """Shut while a store is being filled by anybody, but never for longer than *longest_s*.

    Whoever waits for what a filled store would know waits for this. It is open at first.
    """

    reactor: Any
    longest_s: float = 0.0
    _timers: dict[Hashable, IDelayedCall] = field(init=False, factory=dict)
    _waiters: list[Deferred[None]] = field(init=False, factory=list)
    _waking: IDelayedCall | None = field(init=False, default=None)

    @property
    def is_shut(self) -> bool:
        """Whether somebody is at it, and not for too long."""
        return bool(self._timers)

    def shut(self, who: Hashable) -> None:
        """Have people wait from now on, until *who* has done."""
        if who not in self._timers and self.longest_s > 0:
            self._timers[who] = self.reactor.callLater(self.longest_s, self._give_up, who)

    def _give_up(self, who: Hashable) -> None:
        del self._timers[who]
        self._look()

    def open(self, who: Hashable) -> None:
        """Take note that *who* has done; when all have, let everybody go on, some at a time."""
        timer = self._timers.pop(who, None)
        if timer is not None:
            timer.cancel()
        self._look()

    def _look(self) -> None:
        if self._waking is None:
            self._wake_some()

    def _wake_some(self) -> None:
        self._waking = None
        if self._timers:
            return
        some = self._waiters[:_AT_ONCE]
        del self._waiters[:_AT_ONCE]
        wake(some)
        if self._waiters and self._waking is None:
            self._waking = self.reactor.callLater(0, self._wake_some)

    def opened(self, timeout_s: float) -> Deferred[None]:
        """Return when it is open, or when *timeout_s* has passed."""
        if not self.is_shut:
            return succeed(None)
        return waiting(self.reactor, self._waiters, timeout_s)
