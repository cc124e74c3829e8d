"""Threads for blocking calls (files and boto3); the reactor's own threads resolve host names."""

from __future__ import annotations

from collections.abc import Callable
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


@define(eq=False)
class BlockingThreads:
    """A bounded thread pool; closing it waits for all calls."""

    reactor: Any
    pool: ThreadPool = field(factory=lambda: ThreadPool(0, _THREADS, name="snapshots"))
    #: The ends of the calls in progress.
    _in_progress: set[Event] = field(init=False, factory=set)

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
        if self.pool.started and not self.pool.joined:
            self.pool.stop()

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the result of *work*, which is called in a thread.

        A thread cannot be interrupted. So cancellation takes effect when the call has ended, and
        the caller can clean up without a call in progress.
        """
        if self.pool.joined:
            raise TargetError("the mirror is shutting down")
        outcome: list[R | Failure] = []
        ended = Event()
        self._in_progress.add(ended)

        def end(result: R | Failure) -> None:
            outcome.append(result)
            self._in_progress.discard(ended)
            ended.set()

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
