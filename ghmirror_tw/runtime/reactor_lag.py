"""The lag of the reactor, so that it is not mistaken for slowness of a server."""

from __future__ import annotations

from math import inf
from typing import Any, Final

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

_INTERVAL_S: Final = 0.025


@define(eq=False)
class ReactorLag:
    """Measures how late timers are called, because the reactor or the machine is busy."""

    reactor: Any
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
        self._due_at = self.reactor.seconds() + _INTERVAL_S
        self._timer = self.reactor.callLater(_INTERVAL_S, self._measure)

    def _measure(self) -> None:
        self._noted_s = self.total_s
        self.open()

    def close(self) -> None:
        """Stop measuring."""
        self._noted_s, self._due_at = self.total_s, inf
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
