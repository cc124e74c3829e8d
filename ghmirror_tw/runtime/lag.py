"""How much this process is held up by itself, so that it isn't taken for somebody's slowness."""

from __future__ import annotations

from math import inf
from typing import Any, Final

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

_BEAT_S: Final = 0.025


@define(eq=False)
class Lag:
    """Measures by how much timers are late: the reactor is busy, or the machine is."""

    reactor: Any
    _told_s: float = field(init=False, default=0.0)
    _due: float = field(init=False, default=inf)
    _timer: IDelayedCall | None = field(init=False, default=None)

    @property
    def total_s(self) -> float:
        """All lateness so far, in seconds; only the difference of two readings means something.

        A timer that is late and has not been called yet counts: what has come in meanwhile may be
        read before it is.
        """
        return self._told_s + self._late_s

    @property
    def _late_s(self) -> float:
        now: float = self.reactor.seconds()
        return max(now - self._due, 0.0)

    def open(self) -> None:
        """Begin to measure."""
        self._due = self.reactor.seconds() + _BEAT_S
        self._timer = self.reactor.callLater(_BEAT_S, self._beat)

    def _beat(self) -> None:
        self._told_s += self._late_s
        self.open()

    def close(self) -> None:
        """Measure no more."""
        self._told_s, self._due = self.total_s, inf
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
