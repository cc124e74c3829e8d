"""The clock of the process does not jump with the machine's."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.runtime.steady_clock import SteadyClock


class Steady(SynchronousTestCase):
    """A machine whose clock is set, and a reactor with the steady one."""

    def setUp(self) -> None:
        self.passed, self.offset = 0.0, 1_000.0
        self.clock = SteadyClock(lambda: self.passed, lambda: self.passed + self.offset)

    def test_clock_starts_with_the_machines_time(self) -> None:
        """And advances as time passes."""
        assert self.clock.seconds() == 1_000.0
        self.passed += 5.0
        assert self.clock.seconds() == 1_005.0

    def test_machine_clock_is_approached_slowly(self) -> None:
        """After it was set back or forth, without a jump."""
        for by in (-60.0, 90.0):
            self.offset += by
            before = self.clock.seconds()
            assert before == self.clock.seconds()
            for _ in range(2000):
                self.passed += 1.0
                self.clock.approach(1.0)
                now = self.clock.seconds()
                assert 0.9 < now - before < 1.1
                before = now
            assert before == self.passed + self.offset

    def test_timers_of_the_reactor_use_the_clock(self) -> None:
        """They are neither late nor early when the machine's clock is set."""
        reactor: Any = Clock()
        self.clock.install(reactor)
        assert reactor.seconds() == 1_000.0
        self.offset -= 60.0
        self.passed += 1.0
        reactor.calls[0].func()
        assert 1_000.9 < reactor.seconds() < 1_001.0


def test_real_clock() -> None:
    """The clock of this machine."""
    clock = SteadyClock()
    before = clock.seconds()
    assert abs(before - clock.machine()) < 1.0
    assert clock.seconds() >= before
