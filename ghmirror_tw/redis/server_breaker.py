"""When a server is left alone, and when it is tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field

#: So many failures in a row open a breaker.
FAILURES: Final = 3
#: From one trial to the next, in seconds: at first, and at most.
FIRST_DELAY_S: Final = 0.1
LAST_DELAY_S: Final = 2.5
#: Who fails again so soon after a good trial is not trusted anew.
_STEADY_S: Final = 10.0


def grown(delay_s: float) -> float:
    """Return the delay after *delay_s*: double, up to a few seconds."""
    return min(max(2 * delay_s, FIRST_DELAY_S), LAST_DELAY_S)


def jittered(delay_s: float, random: Callable[[], float]) -> float:
    """Return somewhere between half of *delay_s* and all of it, so that replicas spread."""
    return delay_s * (0.5 + random() / 2)


@define(eq=False)
class Breaker:
    """Open: nothing is sent but trials, one at a time; closed: everything is.

    It is open at first, opens again after some failures in a row, or at once when it is told to,
    and is closed by a good trial only. *random* gives numbers from 0 to 1. Times are seconds of
    a clock that does not go back.
    """

    _random: Callable[[], float]
    closed: bool = field(default=False, init=False)
    trial_at: float = field(default=0.0, init=False)
    why: str = field(default="not connected yet", init=False)
    _failures: int = field(default=0, init=False)
    _delay_s: float = field(default=0.0, init=False)
    _closed_at: float = field(default=float("-inf"), init=False)

    def good(self) -> None:
        """Note that something worked; that closes nothing."""
        self._failures = 0

    def bad(self, now: float, why: str) -> bool:
        """Note that something failed; return whether that opened it."""
        if not self.closed:
            return False
        self._failures += 1
        return self._failures >= FAILURES and self.trip(now, why)

    def trip(self, now: float, why: str) -> bool:
        """Open it; return whether it was closed."""
        was_closed = self.closed
        self.why = why
        if was_closed:
            self.closed = False
            if now - self._closed_at >= _STEADY_S:
                self._delay_s = 0.0
            self._wait(now)
        return was_closed

    def tried(self, now: float, why: str | None) -> None:
        """Note how a trial ended: well (None), which closes it, or not, and *why*."""
        if why is None:
            self.closed = True
            self._closed_at = now
            self._failures = 0
        else:
            self.why = why
            self._wait(now)

    def reached(self, now: float) -> None:
        """Note that the server can be reached again, so that a trial is worth while now."""
        if not self.closed:
            self.trial_at = now

    def _wait(self, now: float) -> None:
        self._delay_s = grown(self._delay_s)
        self.trial_at = now + jittered(self._delay_s, self._random)
