"""Threads for blocking calls (files and boto3); the reactor's own threads resolve host names."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, Final, ParamSpec, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, DeferredList
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from ghmirror_tw.runtime.event import Event
from ghmirror_tw.snapshots.snapshot_errors import TargetError

P = ParamSpec("P")
R = TypeVar("R")

_THREADS: Final = 2
_CLOSING: Final = "the mirror is shutting down"


class _DaemonThread(Thread):
    """A thread for which the end of the process does not wait."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, daemon=True, **options)


class _DaemonPool(ThreadPool):
    threadFactory = _DaemonThread


@define(eq=False)
class BlockingThreads:
    """A bounded thread pool; closing it waits for all calls, unless they are abandoned."""

    reactor: Any
    pool: ThreadPool = field(factory=lambda: _DaemonPool(0, _THREADS, name="snapshots"))
    #: The ends of the calls in progress, and how to set the result of each.
    _in_progress: dict[Event, Callable[[Any], None]] = field(init=False, factory=dict)
    _abandoned: bool = field(init=False, default=False)

    def open(self) -> None:
        """Start the pool."""
        self.pool.start()

    async def close(self) -> None:
        """Stop the pool after all calls have ended, without blocking the reactor.

        A caller whose call ends may make further calls to clean up.
        """
        while self._in_progress:
            await DeferredList([ended.wait() for ended in self._in_progress])
            await deferLater(self.reactor, 0)  # by now, a caller has started its next call
        if self.pool.started and not self.pool.joined and not self._abandoned:
            self.pool.stop()

    def abandon(self) -> None:
        """Let all calls fail, those in progress and later ones: a service does not respond.

        Their threads end with the process.
        """
        self._abandoned = True
        for end in list(self._in_progress.values()):
            end(Failure(TargetError(_CLOSING)))

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the result of *work*, which is called in a thread.

        A thread cannot be interrupted. So cancellation takes effect when the call has ended, and
        the caller can clean up without a call in progress.
        """
        if self.pool.joined or self._abandoned:
            raise TargetError(_CLOSING)
        outcome: list[R | Failure] = []
        ended = Event()

        def end(result: R | Failure) -> None:
            if self._in_progress.pop(ended, None) is not None:
                outcome.append(result)
                ended.set()

        self._in_progress[ended] = end
        deferToThreadPool(self.reactor, self.pool, work, *args, **kwargs).addBoth(end)
        cancelled: CancelledError | None = None
        while not outcome:
            try:
                await ended.wait()
            except CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        (result,) = outcome
        if isinstance(result, Failure):
            result.raiseException()
        return result
