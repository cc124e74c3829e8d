"""Whether a store is being filled from a copy, for who asks for what it does not know yet."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.store.waiting import waiting, wake


@define(eq=False)
class Gate:
    """Shut while a store is being filled, but never for longer than *longest_s*.

    Whoever waits for what a filled store would know waits for this. It is open at first.
    """

    reactor: Any
    longest_s: float = 0.0
    is_shut: bool = field(init=False, default=False)
    _waiters: list[Deferred[None]] = field(init=False, factory=list)
    _timer: IDelayedCall | None = field(init=False, default=None)

    def shut(self) -> None:
        """Have people wait from now on; not again if they do already."""
        if not self.is_shut and self.longest_s > 0:
            self.is_shut = True
            self._timer = self.reactor.callLater(self.longest_s, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        self.open()

    def open(self) -> None:
        """Let everybody go on."""
        self.is_shut = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        wake(self._waiters)

    def opened(self, timeout_s: float) -> Deferred[None]:
        """Return when it is open, or when *timeout_s* has passed."""
        if not self.is_shut:
            return succeed(None)
        return waiting(self.reactor, self._waiters, timeout_s)
