"""A task that runs again and again."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.runtime.periodic_task import PeriodicTask

INTERVAL_S = 60.0


class Runs:
    """Runs of a task that end when the test ends them."""

    def __init__(self, random: float = 1.0) -> None:
        self.clock = Clock()
        self.running: Deferred[bool] | None = None
        self.began_at: list[float] = []
        self.task = PeriodicTask(
            name="test",
            reactor=self.clock,
            task=self.run,
            interval_s=INTERVAL_S,
            random=lambda: random,
        )

    async def run(self) -> bool:
        assert self.running is None
        self.began_at.append(self.clock.seconds())
        self.running = Deferred()
        try:
            return await self.running
        finally:
            self.running = None

    def begin(self) -> None:
        """Request a run, and let it begin."""
        self.task.run_soon()
        self.clock.advance(0)
        assert self.running is not None

    def end(self, *, success: bool) -> None:
        assert self.running is not None
        self.running.callback(success)


class PeriodicTasks(SynchronousTestCase):
    """When runs begin."""

    def test_there_is_one_run_at_a_time(self) -> None:
        """However often a run is requested meanwhile."""
        runs = Runs()
        runs.begin()
        for _ in range(5):
            runs.task.run_soon()
            runs.clock.advance(100.0)
        assert runs.began_at == [0.0]

    def test_after_success_it_runs_in_the_interval(self) -> None:
        """A quarter more or less."""
        for random, wait_s in ((0.0, 45.0), (0.5, 60.0), (1.0, 75.0)):
            runs = Runs(random)
            runs.begin()
            runs.end(success=True)
            runs.clock.advance(wait_s - 0.01)
            assert len(runs.began_at) == 1
            runs.clock.advance(0.02)
            assert len(runs.began_at) == 2

    def test_after_failures_it_backs_off(self) -> None:
        """The delays double, up to some seconds."""
        runs = Runs()
        runs.begin()
        delays = []
        for _ in range(8):
            ended_at = runs.clock.seconds()
            runs.end(success=False)
            while runs.running is None:
                runs.clock.advance(0.05)
            delays.append(round(runs.began_at[-1] - ended_at, 1))
        assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5, 2.5]

    def test_a_requested_run_begins_at_once_after_a_calm(self) -> None:
        """After a recent run it begins with a delay."""
        runs = Runs()
        runs.begin()
        runs.end(success=True)
        runs.clock.advance(20.0)
        runs.begin()
        assert runs.began_at == [0.0, 20.0]
        runs.end(success=True)
        for _ in range(3):
            runs.task.run_soon()
        runs.clock.advance(0.0)
        assert len(runs.began_at) == 2
        runs.clock.advance(0.1)
        assert runs.began_at == [0.0, 20.0, 20.1]

    def test_delays_have_jitter(self) -> None:
        """The shortest one is half of the delay."""
        runs = Runs(random=0.0)
        runs.begin()
        runs.end(success=False)
        runs.clock.advance(0.051)
        assert len(runs.began_at) == 2

    def test_an_exception_is_logged_and_counts_as_failure(self) -> None:
        """The task runs again."""
        runs = Runs()
        runs.begin()
        assert runs.running is not None
        runs.running.errback(ZeroDivisionError())
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1
        runs.clock.advance(0.1)
        assert len(runs.began_at) == 2

    def test_close_ends_all_runs(self) -> None:
        """A current run is cancelled, and none begins."""
        runs = Runs()
        runs.begin()
        running = runs.running
        runs.task.close()
        assert running is not None
        assert running.called
        runs.task.run_soon()
        waiting = Runs()
        waiting.begin()
        waiting.end(success=True)
        waiting.task.close()
        for each in (runs, waiting):
            each.clock.advance(1000.0)
            assert not each.clock.getDelayedCalls()
            assert len(each.began_at) == 1
