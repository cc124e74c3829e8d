"""A task that runs again and again: seldom while it succeeds, with backoff while it fails."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ghmirror_tw.runtime.jittered_backoff import JitteredBackoff

#: After so long without a run, in seconds, the next requested run begins without a delay.
_CALM_S: Final = 10.0


@define(eq=False, kw_only=True)
class PeriodicTask:
    """Runs *task*, never twice at a time.

    After a run that returned True, the next one follows in *interval_s* (25 % more or less). After
    any other, it follows with exponential backoff and jitter. A task that raises is logged with
    *name*, and counts as failed. *random* gives numbers from 0 to 1.
    """

    name: str
    reactor: Any
    task: Callable[[], Coroutine[Deferred[Any], Any, bool]]
    interval_s: float
    random: Callable[[], float]
    _backoff: JitteredBackoff = field(init=False)
    _running: Deferred[bool] | None = field(default=None, init=False)
    _timer: Any = field(default=None, init=False)
    _ended_at: float = field(default=float("-inf"), init=False)
    _closed: bool = field(default=False, init=False)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.runtime"), init=False)

    def __attrs_post_init__(self) -> None:
        self._backoff = JitteredBackoff(self.random)

    def run_soon(self) -> None:
        """Run the task at once; with a delay, if there was a run lately.

        A run that has begun already is not repeated for this: its result decides.
        """
        if self._closed or self._running is not None:
            return
        if self.reactor.seconds() - self._ended_at >= _CALM_S:
            self._backoff.reset()
        self._schedule(self._ended_at + self._backoff.jittered_s())

    def close(self) -> None:
        """Run the task no more, and cancel the current run."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._running is not None:
            self._running.cancel()

    def _schedule(self, due: float) -> None:
        if self._timer is not None:
            if self._timer.getTime() <= due:
                return
            self._timer.cancel()
        delay_s = max(0.0, due - self.reactor.seconds())
        self._timer = self.reactor.callLater(delay_s, self._run)

    def _run(self) -> None:
        self._timer = None
        self._backoff.increase()
        self._running = running = Deferred.fromCoroutine(self.task())
        running.addBoth(self._ended)

    def _ended(self, result: Failure | bool) -> None:
        self._running = None
        self._ended_at = self.reactor.seconds()
        if self._closed:
            return
        if result is True:
            self._schedule(self._ended_at + self.interval_s * (0.75 + self.random() / 2))
            return
        if isinstance(result, Failure):
            self._log.failure("Periodic task failed: task={task}", failure=result, task=self.name)
        self.run_soon()
