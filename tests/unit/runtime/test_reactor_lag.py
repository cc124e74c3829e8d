"""The lag of the reactor: how late its timers are called."""

from __future__ import annotations

from twisted.internet.task import Clock

from ghmirror_tw.runtime.reactor_lag import ReactorLag


class LateClock(Clock):
    """A clock whose timers are called late: time passes before they are looked at."""

    def advance_late(self, seconds: float) -> None:
        """Advance by *seconds*, and only then call due timers."""
        self.rightNow += seconds
        self.advance(0)


def test_each_lateness_is_noted() -> None:
    """In seconds, zero where the timer was on time; nothing after the end."""
    clock, noted = LateClock(), list[float]()
    lag = ReactorLag(clock, 0.1, noted.append)
    lag.open()
    for seconds in (0.1, 0.35, 0.1):
        clock.advance_late(seconds)
    lag.close()
    clock.advance_late(10.0)
    assert [round(each, 3) for each in noted] == [0.0, 0.25, 0.0]
    assert round(lag.seconds(), 3) == round(clock.seconds(), 3) - 0.25
    assert not clock.getDelayedCalls()
