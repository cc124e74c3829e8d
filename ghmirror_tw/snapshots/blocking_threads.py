"""Threads for blocking calls (files and boto3); the reactor's own threads resolve host names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from ghmirror_tw.snapshots.snapshot_errors import TargetError

P = ParamSpec("P")
R = TypeVar("R")

_THREADS: Final = 2


@define(eq=False)
class BlockingThreads:
    """A bounded thread pool; closing it waits for all calls."""

    reactor: Any
    pool: ThreadPool = field(factory=lambda: ThreadPool(0, _THREADS, name="snapshots"))
    _in_progress: set[Deferred[None]] = field(init=False, factory=set)

    def open(self) -> None:
        """Start the pool."""
        self.pool.start()

    async def close(self) -> None:
        """Stop the pool after all calls have ended, without blocking the reactor.

        A caller whose call ends may make further calls to clean up.
        """
        while self._in_progress:
            await DeferredList(list(self._in_progress))
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
        ended: Deferred[None] = Deferred()
        self._in_progress.add(ended)

        def end(result: R | Failure) -> None:
            outcome.append(result)
            self._in_progress.discard(ended)
            ended.callback(None)

        deferToThreadPool(self.reactor, self.pool, work, *args, **kwargs).addBoth(end)
        cancelled: CancelledError | None = None
        while not outcome:
            waiting: Deferred[None] = Deferred()
            ended.addCallback(_wake, waiting)
            try:
                await waiting
            except CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        (result,) = outcome
        if isinstance(result, Failure):
            result.raiseException()
        return result


def _wake(result: None, waiting: Deferred[None]) -> None:
    if not waiting.called:
        waiting.callback(None)
    return result
