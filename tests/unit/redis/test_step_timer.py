"""How time passes for those who wait for replies, by a clock."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.redis.step_timer import StepTimer


@define(eq=False, slots=False)
class Waiter:
    """Takes so many steps, so far apart, and notes when."""

    steps: StepTimer
    pause_s: float
    left: int
    due: float = 0.0
    at: list[float] = field(factory=list)

    def begin(self) -> None:
        self.steps.schedule(self, self.pause_s)

    def step(self) -> None:
        self.at.append(self.steps.reactor.seconds())
        self.left -= 1
        if self.left:
            self.begin()


class Passing(SynchronousTestCase):
    """One timer, however many wait."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.steps = StepTimer(self.clock)

    def waiter(self, pause_s: float, left: int = 3) -> Waiter:
        waiter = Waiter(self.steps, pause_s, left)
        waiter.begin()
        return waiter

    def test_each_has_its_own_time(self) -> None:
        """StepTimer come when they are due, whoever began first."""
        slow = self.waiter(2.0)
        self.clock.advance(0.5)
        quick = self.waiter(0.25)
        assert len(self.clock.getDelayedCalls()) == 1
        self.clock.pump([0.25] * 40)
        assert quick.at == [0.75, 1.0, 1.25]
        assert slow.at == [2.0, 4.0, 6.0]
        assert not self.clock.getDelayedCalls()

    def test_what_held_it_up_is_one_step(self) -> None:
        """However long it was, for each of them."""
        waiters = [self.waiter(pause_s) for pause_s in (0.25, 0.5, 1.0)]
        self.clock.advance(100.0)
        assert [waiter.at for waiter in waiters] == [[100.0]] * 3

    def test_a_turn_in_between(self) -> None:
        """A step that is due at once comes in the next turn of the reactor, not in this one."""
        waiter = self.waiter(0.0, 2)
        calls = self.clock.getDelayedCalls()
        assert waiter.at == []
        assert [call.getTime() for call in calls] == [0.0]
        self.clock.advance(0.0)
        assert waiter.left < 2

    def test_who_has_stopped(self) -> None:
        """No step comes any more, not even where another's step has stopped it."""
        one, other = self.waiter(1.0), self.waiter(1.0)
        one.step = lambda: self.steps.cancel(other)  # type: ignore[method-assign]
        self.clock.pump([0.5] * 10)
        assert other.at == []
        assert not self.clock.getDelayedCalls()

    def test_closed(self) -> None:
        """Nothing is left of it."""
        waiter = self.waiter(1.0)
        self.steps.close()
        assert not self.clock.getDelayedCalls()
        self.clock.advance(10.0)
        assert waiter.at == []
