"""A timer is called once after its last restart, and not after it was stopped."""

from __future__ import annotations

from twisted.internet.task import Clock

from ghmirror_tw.runtime.restartable_timer import RestartableTimer


def test_restart_begins_the_delay_again() -> None:
    """Each time with a delay of its own, also from within the call."""
    clock, calls = Clock(), list[float]()
    timer = RestartableTimer(clock, lambda: calls.append(clock.seconds()))
    timer.restart(5)
    clock.advance(4)
    timer.restart(3)
    clock.advance(2)
    assert not calls
    clock.advance(1)
    assert calls == [7]
    timer.restart(1)
    clock.advance(1)
    assert calls == [7, 8]


def test_stopped_timer_is_not_called() -> None:
    """Stopping it again, or after its call, changes nothing."""
    clock, calls = Clock(), list[float]()
    timer = RestartableTimer(clock, lambda: calls.append(clock.seconds()))
    timer.restart(1)
    timer.stop()
    timer.stop()
    assert not clock.getDelayedCalls()
    timer.restart(1)
    clock.advance(1)
    timer.stop()
    assert calls == [1]
