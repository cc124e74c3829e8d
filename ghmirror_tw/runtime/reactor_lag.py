"""The lag of the reactor, and a clock that leaves it out, for timeouts of servers."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.runtime.deferreds import do_nothing

_INTERVAL_S: Final = 0.025


@define(eq=False)
class ReactorLag:
    """Measures how late timers are called, because the reactor or the machine is busy.

    A timer runs every *interval_s*; *note* is called with its lateness in seconds.
    """

    reactor: Any
    interval_s: float = _INTERVAL_S
    note: Callable[[float], object] = do_nothing
    _noted_s: float = field(init=False, default=0.0)
    _due_at: float = field(init=False, default=inf)
    _timer: IDelayedCall | None = field(init=False, default=None)

    def seconds(self) -> float:
        """Return the time without all lateness so far; only differences have a meaning.

        This clock stops while its timer is late. A late timer that was not called yet counts: bytes
        that were received meanwhile may be read before it is called.
        """
        return min(float(self.reactor.seconds()), self._due_at) - self._noted_s

    def _late_s(self) -> float:
        return max(float(self.reactor.seconds()) - self._due_at, 0.0)

    def open(self) -> None:
        """Start measuring."""
        self._due_at = self.reactor.seconds() + self.interval_s
        self._timer = self.reactor.callLater(self.interval_s, self._measure)

    def _measure(self) -> None:
        late_s = self._late_s()
        self._noted_s += late_s
        self.note(late_s)
        self.open()

    def close(self) -> None:
        """Stop measuring."""
        self._noted_s, self._due_at = self._noted_s + self._late_s(), inf
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
