"""Snapshots are made repeatedly, one at a time, after any outcome of the last one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.snapshots.schedule import Schedule
from ghmirror_tw.snapshots.snapshot_errors import StoreEmptiedError, TargetError
from ghmirror_tw.snapshots.snapshot_names import SnapshotName
from ghmirror_tw.snapshots.snapshot_repository import SavedSnapshot
from ghmirror_tw.telemetry.metrics import Metrics

SAVED = SavedSnapshot(SnapshotName("o", 0), 1234, 56, 0)
INTERVAL = 900.0


class Scheduled(SynchronousTestCase):
    """A schedule, a clock, and runs that end when the test ends them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics(self.clock.seconds)
        self.runs: list[Deferred[SavedSnapshot | None]] = []
        self.began: list[float] = []
        self.logged: list[str] = []
        observer: Any = self.log
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def log(self, event: LogEvent) -> None:
        if event.get("log_namespace") == "ghmirror.snapshots":
            self.logged.append(formatEvent(event))

    async def save(self) -> SavedSnapshot | None:
        self.began.append(self.clock.seconds())
        run: Deferred[SavedSnapshot | None] = Deferred()
        self.runs.append(run)
        return await run

    def schedule(self, save: Callable[[], Any] | None = None, **more: Any) -> Schedule:
        made = Schedule(
            self.clock,
            save or self.save,
            INTERVAL,
            self.metrics,
            lambda: 1_000_000.0 + self.clock.seconds(),
            **more,
        )
        made.open()
        return made

    def closed(self, schedule: Schedule) -> Deferred[None]:
        return Deferred.fromCoroutine(schedule.close())

    def metric(self, name: str) -> float | None:
        value: float | None = self.metrics.registry.get_sample_value(
            f"ghmirror_snapshot_{name}", {"operation": "save"}
        )
        return value

    def test_it_runs_every_interval(self) -> None:
        """The first time after one; what was made is shown."""
        self.schedule()
        self.clock.advance(INTERVAL - 1)
        assert self.began == []
        self.clock.advance(1)
        self.clock.advance(2.5)
        self.runs[0].callback(SAVED)
        assert self.metric("timestamp_seconds") == 1_000_000 + INTERVAL + 2.5
        assert self.metric("seconds") == 2.5
        assert self.metric("bytes") == 1234
        assert self.metric("records") == 56
        assert self.metric("failures_total") == 0
        assert self.logged == ["Saved: kind=snapshot records=56 bytes=1234 seconds=2.5"]
        self.clock.pump([INTERVAL] * 2)
        self.runs[1].callback(SAVED)
        self.clock.advance(INTERVAL)
        assert self.began == [INTERVAL, 2 * INTERVAL + 2.5, 4 * INTERVAL + 2.5]

    def test_the_first_run_may_be_earlier(self) -> None:
        """Such as at once."""
        self.schedule(first_after_s=10.0)
        self.clock.advance(10)
        self.runs[0].callback(SAVED)
        self.clock.advance(INTERVAL)
        assert self.began == [10, 10 + INTERVAL]

    def test_runs_never_overlap(self) -> None:
        """While one lasts, the next ones are left out."""
        self.schedule()
        self.clock.pump([INTERVAL] * 5)
        assert len(self.runs) == 1
        self.runs[0].callback(SAVED)
        self.clock.advance(INTERVAL)
        assert len(self.runs) == 2

    def test_failures_are_counted_and_do_not_end_the_schedule(self) -> None:
        """An error of the target is one line; an unexpected one has its traceback, too."""
        self.schedule()
        self.clock.advance(INTERVAL)
        self.runs[0].errback(TargetError("s3://b: writing: access is denied"))
        assert self.logged == ["Save failed: kind=snapshot error=s3://b: writing: access is denied"]
        assert self.flushLoggedErrors() == []
        self.clock.advance(INTERVAL)
        self.runs[1].errback(ZeroDivisionError("unheard of"))
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1
        assert self.metric("failures_total") == 2
        self.clock.advance(INTERVAL)
        self.runs[2].callback(SAVED)
        assert self.metric("failures_total") == 2
        self.clock.advance(INTERVAL)
        self.runs[3].errback(RedisUnavailableError("open", "r:1 refuses connections"))
        assert self.metrics.snapshot_errors == {"save": "r:1 refuses connections"}
        self.clock.advance(INTERVAL)
        self.runs[4].errback(StoreEmptiedError("the store was emptied during the copy"))
        assert self.logged[-2:] == [
            "Save skipped, store unavailable: kind=snapshot reason=r:1 refuses connections",
            "Save discarded: kind=snapshot reason=the store was emptied during the copy",
        ]
        assert self.flushLoggedErrors() == []
        assert self.metric("failures_total") == 4
        assert self.metric("records") == 56

    def test_run_without_snapshot_is_not_counted(self) -> None:
        """It was another replica's turn."""
        self.schedule()
        self.clock.advance(INTERVAL)
        self.runs[0].callback(None)
        assert self.metric("records") is None
        assert self.logged == []

    def test_closing_before_the_first_run(self) -> None:
        """No event follows; it may be closed again, or without having been opened."""
        schedule = self.schedule()
        self.successResultOf(self.closed(schedule))
        self.successResultOf(self.closed(schedule))
        assert self.clock.getDelayedCalls() == []
        unopened = Schedule(self.clock, self.save, 1.0, self.metrics, self.clock.seconds)
        self.successResultOf(self.closed(unopened))
        assert self.runs == []

    def test_closing_between_two_runs(self) -> None:
        """The same."""
        schedule = self.schedule()
        self.clock.advance(INTERVAL)
        self.runs[0].callback(None)
        self.successResultOf(self.closed(schedule))
        assert self.clock.getDelayedCalls() == []

    def test_closing_waits_for_a_run_in_progress(self) -> None:
        """The result of the run is recorded."""
        schedule = self.schedule()
        self.clock.advance(INTERVAL)
        closing = self.closed(schedule)
        self.clock.advance(19)
        self.assertNoResult(closing)
        self.runs[0].callback(SAVED)
        self.successResultOf(closing)
        assert self.metric("records") == 56
        assert self.clock.getDelayedCalls() == []

    def test_closing_cancels_a_run_after_the_grace(self) -> None:
        """Then what is under way is cancelled, waited for, and not counted as a failure."""
        cleaned: Deferred[None] = Deferred()

        async def save() -> SavedSnapshot | None:
            try:
                return await self.save()
            except CancelledError:
                await cleaned
                raise

        schedule = self.schedule(save)
        self.clock.advance(INTERVAL)
        closing = self.closed(schedule)
        self.clock.advance(20)
        self.assertNoResult(closing)
        cleaned.callback(None)
        self.successResultOf(closing)
        assert self.logged == ["Save cancelled at shutdown: kind=snapshot"]
        assert self.metric("failures_total") == 0
        assert self.clock.getDelayedCalls() == []

    def test_last_run_at_closing(self) -> None:
        """After what was under way, within the same patience."""
        schedule = self.schedule(at_end=True)
        self.clock.advance(INTERVAL)
        closing = self.closed(schedule)
        self.clock.advance(15)
        self.runs[0].callback(SAVED)
        assert len(self.runs) == 2
        self.assertNoResult(closing)
        self.clock.advance(4)
        self.assertNoResult(closing)
        self.clock.advance(1)
        self.successResultOf(closing)
        assert self.logged[-1] == "Save cancelled at shutdown: kind=snapshot"

    def test_last_run_may_complete_immediately(self) -> None:
        """A run that never waits is a run, too."""

        async def save() -> SavedSnapshot | None:
            self.began.append(self.clock.seconds())
            return SAVED

        schedule = self.schedule(save, at_end=True)
        self.clock.advance(INTERVAL)
        self.successResultOf(self.closed(schedule))
        assert self.began == [INTERVAL, INTERVAL]
        assert self.clock.getDelayedCalls() == []
