"""The lag of the reactor, so that it is not mistaken for slowness of a server."""

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

    @property
    def total_s(self) -> float:
        """All lateness so far, in seconds; only the difference of two values has a meaning.

        A late timer that was not called yet counts: bytes that were received meanwhile may be read
        before it is called.
        """
        now: float = self.reactor.seconds()
        return self._noted_s + max(now - self._due_at, 0.0)

    def open(self) -> None:
        """Start measuring."""
        self._due_at = self.reactor.seconds() + self.interval_s
        self._timer = self.reactor.callLater(self.interval_s, self._measure)

    def _measure(self) -> None:
        before_s, self._noted_s = self._noted_s, self.total_s
        self.note(self._noted_s - before_s)
        self.open()

    def close(self) -> None:
        """Stop measuring."""
        self._noted_s, self._due_at = self.total_s, inf
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
