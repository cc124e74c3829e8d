"""The time of a process: it never goes back and never jumps, whatever sets the machine's clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field

#: How often the time approaches that of the machine, in seconds, and by how much of what passed.
_EVERY_S: Final = 1.0
_APPROACH: Final = 0.05


def _since_boot() -> float:
    """Return the seconds since the machine was started, those included in which it slept."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@define(eq=False)
class SteadyClock:
    """Gives seconds since the epoch: the machine's time at the start, and what has passed since.

    If the machine's clock is set, the steady one approaches it by 5 % of the time that passes, so
    that a start with a wrong clock does not last. Timers that go by this clock are early or late by
    as much, and no more.
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
        """Have *reactor* and its timers go by this clock, and approach from time to time."""
        reactor.seconds = self.seconds

        def again() -> None:
            self.approach(_EVERY_S)
            reactor.callLater(_EVERY_S, again)

        reactor.callLater(_EVERY_S, again)
