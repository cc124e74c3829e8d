"""Timeouts in steps, on a clock."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.redis.stepped_timeouts import StepTimer


@define(eq=False, slots=False)
class Stepped:
    """Has so many steps, so far apart, and notes their times."""

    timer: StepTimer
    pause_s: float
    left: int
    due: float = 0.0
    at: list[float] = field(factory=list)

    def begin(self) -> None:
        self.timer.schedule(self, self.pause_s)

    def step(self) -> None:
        self.at.append(self.timer.reactor.seconds())
        self.left -= 1
        if self.left:
            self.begin()


class Steps(SynchronousTestCase):
    """One reactor timer for all timeouts."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.timer = StepTimer(self.clock)

    def waiter(self, pause_s: float, left: int = 3) -> Stepped:
        waiter = Stepped(self.timer, pause_s, left)
        waiter.begin()
        return waiter

    def test_each_timeout_has_its_own_times(self) -> None:
        """Steps are called when they are due, in any order of timeouts."""
        slow = self.waiter(2.0)
        self.clock.advance(0.5)
        quick = self.waiter(0.25)
        assert len(self.clock.getDelayedCalls()) == 1
        self.clock.pump([0.25] * 40)
        assert quick.at == [0.75, 1.0, 1.25]
        assert slow.at == [2.0, 4.0, 6.0]
        assert not self.clock.getDelayedCalls()

    def test_a_blocked_reactor_is_one_step(self) -> None:
        """However long it was blocked."""
        waiters = [self.waiter(pause_s) for pause_s in (0.25, 0.5, 1.0)]
        self.clock.advance(100.0)
        assert [waiter.at for waiter in waiters] == [[100.0]] * 3

    def test_a_step_due_at_once_waits_for_the_next_iteration(self) -> None:
        """It is not called in the current one."""
        waiter = self.waiter(0.0, 2)
        calls = self.clock.getDelayedCalls()
        assert waiter.at == []
        assert [call.getTime() for call in calls] == [0.0]
        self.clock.advance(0.0)
        assert waiter.left < 2

    def test_a_cancelled_timeout_has_no_more_steps(self) -> None:
        """Another timeout's step may cancel it."""
        one, other = self.waiter(1.0), self.waiter(1.0)
        one.step = lambda: self.timer.cancel(other)  # type: ignore[method-assign]
        self.clock.pump([0.5] * 10)
        assert other.at == []
        assert not self.clock.getDelayedCalls()

    def test_close_cancels_all(self) -> None:
        """No reactor timer is left."""
        waiter = self.waiter(1.0)
        self.timer.close()
        assert not self.clock.getDelayedCalls()
        self.clock.advance(10.0)
        assert waiter.at == []
