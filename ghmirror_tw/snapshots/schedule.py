"""Runs saves at an interval, and once more at shutdown."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ghmirror_tw.redis import RedisUnavailableError
from ghmirror_tw.runtime.event import Event
from ghmirror_tw.snapshots.snapshot_errors import StoreEmptiedError, TargetError

_log: Final = Logger(namespace="ghmirror.snapshots")


class SnapshotSizes(Protocol):
    """The size of a snapshot that was made; see `SavedSnapshot`."""

    @property
    def size_bytes(self) -> int:
        """Bytes at the target."""

    @property
    def records(self) -> int:
        """The number of records."""


class SnapshotMetrics(Protocol):
    """Counts saves and restores; see `telemetry.metrics.Metrics`."""

    def snapshot(
        self, operation: str, *, at: float, seconds: float, size_bytes: int, records: int
    ) -> None:
        """Show a completed save or restore."""

    def snapshot_failed(self, operation: str, error: str) -> None:
        """Count a failure."""

    def snapshot_recovered(self, operation: str) -> None:
        """Show no failure any longer."""


Save = Callable[[], Coroutine[Deferred[Any], Any, SnapshotSizes | None]]
"""Makes a snapshot; returns None if there was nothing to do, such as if another replica saves."""


@define(eq=False)
class Schedule:
    """Runs *save* every *interval_s*, one run at a time; a failure does not end the schedule.

    The first run is after *first_after_s*, or the interval. With *at_end* there is a last run at
    closing. Closing waits up to *grace_s* for a run in progress, then cancels it.
    """

    reactor: IReactorTime
    save: Save
    interval_s: float
    metrics: SnapshotMetrics
    now: Callable[[], float]
    first_after_s: float | None = None
    at_end: bool = False
    grace_s: float = 20.0
    kind: str = "snapshot"
    _loop: LoopingCall = field(init=False)
    #: The run in progress, and its end.
    running: Deferred[None] | None = field(init=False, default=None)
    _ended: Event = field(init=False, factory=Event)
    _start: Any = field(init=False, default=None)
    _closed: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self._run)
        self._loop.clock = self.reactor

    def open(self) -> None:
        """Schedule the first run."""
        after = self.interval_s if self.first_after_s is None else self.first_after_s
        self._start = self.reactor.callLater(after, self._begin)

    @property
    def due_at(self) -> float | None:
        """The time of the next run; None during a run, or if there is none."""
        next_call = self._loop.call if self._loop.running else self._start
        if next_call is None or not next_call.active():
            return None
        at: float = next_call.getTime()
        return at

    def _begin(self) -> None:
        self._loop.start(self.interval_s)

    async def close(self) -> None:
        """Stop the schedule; may be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._start is not None and self._start.active():
            self._start.cancel()
        if self._loop.running:
            self._loop.stop()
        deadline = self.reactor.seconds() + self.grace_s
        await self._end(deadline)
        if self.at_end:
            self._run()
            await self._end(deadline)

    async def _end(self, deadline: float) -> None:
        """Wait for the run in progress, and cancel it at the deadline."""
        if self.running is not None:
            self.running.addTimeout(max(0.0, deadline - self.reactor.seconds()), self.reactor)
            await self._ended.wait()

    def _run(self) -> Deferred[None]:
        self._ended = Event()
        running = self.running = Deferred.fromCoroutine(self.save_once())
        return running.addBoth(self._ran)

    def _ran(self, _: object) -> None:
        self.running = None
        self._ended.set()

    async def save_once(self) -> None:
        """Save now; a failure is counted and logged."""
        began = self.reactor.seconds()
        try:
            made = await self.save()
        except CancelledError:
            _log.warn("Save cancelled at shutdown: kind={kind}", kind=self.kind)
        except Exception as error:  # noqa: BLE001 - a failure must not end the schedule
            self._failed(error)
        else:
            if made is not None:
                self._made(made, self.reactor.seconds() - began)

    def _failed(self, error: Exception) -> None:
        self.metrics.snapshot_failed("save", str(error))
        if isinstance(error, TargetError):
            _log.error("Save failed: kind={kind} error={error}", kind=self.kind, error=str(error))
        elif isinstance(error, StoreEmptiedError):
            _log.warn("Save discarded: kind={kind} reason={why}", kind=self.kind, why=str(error))
        elif isinstance(error, RedisUnavailableError):
            _log.warn(
                "Save skipped, store unavailable: kind={kind} reason={why}",
                kind=self.kind,
                why=error.why,
            )
        else:
            _log.failure("Save failed: kind={kind}", kind=self.kind)

    def _made(self, made: SnapshotSizes, seconds: float) -> None:
        self.metrics.snapshot(
            "save",
            at=self.now(),
            seconds=seconds,
            size_bytes=made.size_bytes,
            records=made.records,
        )
        _log.info(
            "Saved: kind={kind} records={records} bytes={size} seconds={seconds}",
            kind=self.kind,
            records=made.records,
            size=made.size_bytes,
            seconds=round(seconds, 3),
        )
