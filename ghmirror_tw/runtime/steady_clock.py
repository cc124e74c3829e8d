"""A clock that never runs backwards, nor jumps when the clock of the machine is set."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from attrs import define, field

#: How often the clock approaches the machine's, in seconds, and by which share of that time.
_INTERVAL_S: Final = 1.0
_APPROACH: Final = 0.05


#: Returns the seconds since the machine was started, including those it was suspended.
_since_boot: Final = partial(
    time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
)


@define(eq=False)
class SteadyClock:
    """Returns seconds since 1970: the machine's time at the start, and the time elapsed since.

    After the machine's clock was set, this one approaches it by 5 % of the time that passes, so
    that the effect of a wrong clock at the start ends. Timers by this clock are early or late by at
    most 5 % of their delay.
    """

    elapsed: Callable[[], float] = _since_boot
    machine: Callable[[], float] = time.time
    _epoch_offset: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._epoch_offset = self.machine() - self.elapsed()

    def seconds(self) -> float:
        """Return the time."""
        return self._epoch_offset + self.elapsed()

    def approach(self, passed_s: float) -> None:
        """Approach the machine's time, after *passed_s* seconds."""
        limit = _APPROACH * passed_s
        difference = self.machine() - self.seconds()
        self._epoch_offset += min(max(difference, -limit), limit)

    def install(self, reactor: Any) -> None:
        """Use this clock for *reactor* and its timers, and approach the machine's from now on."""
        reactor.seconds = self.seconds

        def again() -> None:
            self.approach(_INTERVAL_S)
            reactor.callLater(_INTERVAL_S, again)

        reactor.callLater(_INTERVAL_S, again)
