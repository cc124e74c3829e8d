"""Whether a store is being filled from a copy, for who asks for what it does not know yet."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.store.waiting import waiting, wake


@define(eq=False)
class Gate:
    """Shut while a store is being filled by anybody, but never for longer than *longest_s*.

    Whoever waits for what a filled store would know waits for this. It is open at first.
    """

    reactor: Any
    longest_s: float = 0.0
    _timers: dict[Hashable, IDelayedCall] = field(init=False, factory=dict)
    _waiters: list[Deferred[None]] = field(init=False, factory=list)

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
        """Take note that *who* has done; when all have, let everybody go on."""
        timer = self._timers.pop(who, None)
        if timer is not None:
            timer.cancel()
        self._look()

    def _look(self) -> None:
        if not self._timers:
            wake(self._waiters)

    def opened(self, timeout_s: float) -> Deferred[None]:
        """Return when it is open, or when *timeout_s* has passed."""
        if not self.is_shut:
            return succeed(None)
        return waiting(self.reactor, self._waiters, timeout_s)
