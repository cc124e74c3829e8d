"""The clock of the process: it never runs backwards or jumps when the machine's clock is set."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field

#: How often the clock approaches the machine's, in seconds, and by which part of that time.
_EVERY_S: Final = 1.0
_APPROACH: Final = 0.05


def _since_boot() -> float:
    """Return the seconds since the machine was started, with those in which it was suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@define(eq=False)
class SteadyClock:
    """Gives seconds since 1970: the machine's time at the start, and the time passed since then.

    If the machine's clock is set, the steady one approaches it by 5 % of the time that passes, so
    that the effect of a wrong clock at the start ends. Timers by this clock are early or late by at
    most 5 % of their delay.
    """

    passing: Callable[[], float] = _since_boot
    machine: Callable[[], float] = time.time
    _began_at: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._began_at = self.machine() - self.passing()

    def seconds(self) -> float:
        """Return the time."""
        return self._began_at + self.passing()

    def approach(self, passed_s: float) -> None:
        """Approach the machine's time, after *passed_s* seconds."""
        most = _APPROACH * passed_s
        off = self.machine() - self.seconds()
        self._began_at += min(max(off, -most), most)

    def rule(self, reactor: Any) -> None:
        """Make *reactor* and its timers use this clock, and let it approach the machine's."""
        reactor.seconds = self.seconds

        def again() -> None:
            self.approach(_EVERY_S)
            reactor.callLater(_EVERY_S, again)

        reactor.callLater(_EVERY_S, again)
