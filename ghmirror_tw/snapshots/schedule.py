"""When snapshots are made."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.snapshots.snapshot_errors import StoreEmptiedError, TargetError

_log: Final = Logger(namespace="ghmirror.snapshots")


class Made(Protocol):
    """What a run that has made a snapshot tells of it; see `copies.Saved`."""

    @property
    def size_bytes(self) -> int:
        """Bytes as they are kept."""

    @property
    def records(self) -> int:
        """How many records it holds."""


class Report(Protocol):
    """Shows what was done; see `metrics.Metrics`."""

    def snapshot(
        self, operation: str, *, at: float, seconds: float, size_bytes: int, records: int
    ) -> None:
        """Take a snapshot that was made."""

    def snapshot_failed(self, operation: str) -> None:
        """Count one that failed."""


Save = Callable[[], Coroutine[Deferred[Any], Any, Made | None]]
"""Makes a snapshot; returns None where there was nothing to do, such as another replica's turn."""


@define(eq=False)
class Schedule:
    """Runs *save* every *interval_s*, one at a time, whatever becomes of it.

    The first run comes after *first_after_s*, or the interval. With *at_end* there is a last one
    when it closes. Closing waits *patience_s* for what is under way, then cancels it.
    """

    reactor: IReactorTime
    save: Save
    interval_s: float
    report: Report
    now: Callable[[], float]
    first_after_s: float | None = None
    at_end: bool = False
    patience_s: float = 20.0
    what: str = "snapshot"
    _loop: LoopingCall = field(init=False)
    _running: Deferred[None] | None = field(init=False, default=None)
    _waiting: list[Deferred[None]] = field(init=False, factory=list)
    _start: Any = field(init=False, default=None)
    _closed: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self._run)
        self._loop.clock = self.reactor

    def open(self) -> None:
        """Begin to wait for the first run."""
        after = self.interval_s if self.first_after_s is None else self.first_after_s
        self._start = self.reactor.callLater(after, self._begin)

    @property
    def due_at(self) -> float | None:
        """When the next run begins; None while one is under way, or if there is none."""
        next_call = self._loop.call if self._loop.running else self._start
        if next_call is None or not next_call.active():
            return None
        at: float = next_call.getTime()
        return at

    def _begin(self) -> None:
        self._loop.start(self.interval_s)

    async def close(self) -> None:
        """End it. May be called again."""
        if self._closed:
            return
        self._closed = True
        if self._start is not None and self._start.active():
            self._start.cancel()
        if self._loop.running:
            self._loop.stop()
        deadline = self.reactor.seconds() + self.patience_s
        await self._end(deadline)
        if self.at_end:
            self._run()
            await self._end(deadline)

    async def _end(self, deadline: float) -> None:
        """Wait for the run under way, and cut it off at the deadline."""
        running = self._running
        if running is None:
            return
        ended: Deferred[None] = Deferred()
        self._waiting.append(ended)
        timer = self.reactor.callLater(max(0.0, deadline - self.reactor.seconds()), running.cancel)
        try:
            await ended
        finally:
            if timer.active():
                timer.cancel()

    def _run(self) -> Deferred[None]:
        running = self._running = Deferred.fromCoroutine(self._save())
        return running.addBoth(self._ran)

    def _ran(self, _: object) -> None:
        self._running = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:
                each.callback(None)

    async def _save(self) -> None:
        began = self.reactor.seconds()
        try:
            made = await self.save()
        except CancelledError:
            _log.warn("The {what} under way was given up", what=self.what)
        except Exception as error:  # noqa: BLE001 - the next run must come, whatever this one did
            self._failed(error)
        else:
            if made is not None:
                self._made(made, self.reactor.seconds() - began)

    def _failed(self, error: Exception) -> None:
        self.report.snapshot_failed("save")
        if isinstance(error, TargetError):
            _log.error("The {what} failed: {error}", what=self.what, error=str(error))
        elif isinstance(error, StoreEmptiedError):
            _log.warn("Not published: {what}; {why}", what=self.what, why=str(error))
        elif isinstance(error, RedisUnavailableError):
            _log.warn(
                "Not made: {what}; the store is unavailable: {why}", what=self.what, why=error.why
            )
        else:
            _log.failure("The {what} failed", what=self.what)

    def _made(self, made: Made, seconds: float) -> None:
        self.report.snapshot(
            "save",
            at=self.now(),
            seconds=seconds,
            size_bytes=made.size_bytes,
            records=made.records,
        )
        _log.info(
            "A {what} of {records} records was made ({size} bytes, {seconds} s)",
            what=self.what,
            records=made.records,
            size=made.size_bytes,
            seconds=round(seconds, 3),
        )
