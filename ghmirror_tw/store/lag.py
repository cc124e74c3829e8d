"""How much this process is held up by itself, so that it isn't taken for somebody's slowness."""

from __future__ import annotations

from typing import Any, Final

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

_BEAT_S: Final = 0.025


@define(eq=False)
class Lag:
    """Measures by how much timers are late: the reactor is busy, or the machine is."""

    reactor: Any
    #: All lateness since `open`, in seconds; only the difference of two readings means something.
    total_s: float = 0.0
    _due: float = 0.0
    _timer: IDelayedCall | None = field(init=False, default=None)

    def open(self) -> None:
        """Begin to measure."""
        self._due = self.reactor.seconds() + _BEAT_S
        self._timer = self.reactor.callLater(_BEAT_S, self._beat)

    def _beat(self) -> None:
        self.total_s += max(self.reactor.seconds() - self._due, 0.0)
        self.open()

    def close(self) -> None:
        """Measure no more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
