"""Threads for what blocks: files and boto3. Never the reactor's own, which resolve names."""

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
    """A bounded thread pool whose calls are never left behind."""

    reactor: Any
    pool: ThreadPool = field(factory=lambda: ThreadPool(0, _THREADS, name="snapshots"))
    _under_way: set[Deferred[None]] = field(init=False, factory=set)

    def open(self) -> None:
        """Start the pool."""
        self.pool.start()

    async def close(self) -> None:
        """Stop the pool when what runs in it has ended, without holding up the reactor.

        Whoever was at it may clean up first; who has nothing running has to be ended before.
        """
        while self._under_way:
            await DeferredList(list(self._under_way))
            await deferLater(self.reactor, 0)  # what comes next of it has begun by now
        if self.pool.started and not self.pool.joined:
            self.pool.stop()

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what *work* returns, done in a thread.

        A thread can't be interrupted: cancelling this is heard when the work has ended, so that
        nothing goes on behind the back of who cleans up after it.
        """
        if self.pool.joined:
            raise TargetError("nothing is kept any more: the mirror stops")
        outcome: list[R | Failure] = []
        ended: Deferred[None] = Deferred()
        self._under_way.add(ended)

        def end(result: R | Failure) -> None:
            outcome.append(result)
            self._under_way.discard(ended)
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
