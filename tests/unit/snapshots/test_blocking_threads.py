"""Threads of their own: what they do is never left behind."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from ghmirror_tw.snapshots.blocking_threads import BlockingThreads
from ghmirror_tw.snapshots.snapshot_errors import TargetError

reactor: Any = global_reactor


class Threads(TestCase):
    """A pool."""

    def setUp(self) -> None:
        self.workers = BlockingThreads(reactor)
        self.workers.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.workers.close()))

    async def test_results_and_errors_come_back(self) -> None:
        """From a thread."""
        assert await self.workers.run(lambda a, b: a + b, 1, b=2) == 3
        with pytest.raises(ZeroDivisionError):
            await self.workers.run(lambda: 1 // 0)
        assert await self.workers.run(threading.get_ident) != threading.get_ident()

    async def test_no_more_than_two_at_a_time(self) -> None:
        """Others wait for them."""
        go = threading.Event()
        running = [Deferred.fromCoroutine(self.workers.run(go.wait)) for _ in range(8)]
        assert len(self.workers.pool.threads) == 2
        go.set()
        for each in running:
            assert await each
        assert len(self.workers.pool.threads) == 2

    async def test_cancelling_is_heard_when_the_work_has_ended(self) -> None:
        """Again and again, and whatever came of the work."""
        for outcome in (lambda: 1, lambda: 1 // 0):
            go = threading.Event()
            done: list[int] = []
            ended: list[Any] = []

            def work(outcome: Any = outcome, go: Any = go, done: Any = done) -> None:
                go.wait()
                done.append(1)
                outcome()

            running = Deferred.fromCoroutine(self.workers.run(work))
            running.addErrback(ended.append)
            running.cancel()
            running.cancel()
            assert not ended
            go.set()
            await running
            assert done == [1]
            assert ended[0].check(CancelledError)

    async def test_closing_waits_for_what_runs(self) -> None:
        """Without holding up the reactor; and it may be called again."""
        go = threading.Event()
        running = Deferred.fromCoroutine(self.workers.run(go.wait))
        closing = Deferred.fromCoroutine(self.workers.close())
        reactor.callLater(0, go.set)
        await closing
        assert await running
        await self.workers.close()

    async def test_who_is_at_it_may_end(self) -> None:
        """One thing after the other; what comes when the pool has stopped is refused."""
        done: list[int] = []

        async def both() -> None:
            for number in (1, 2, 3):
                await self.workers.run(done.append, number)

        running = Deferred.fromCoroutine(both())
        await self.workers.close()
        await running
        assert done == [1, 2, 3]
        with pytest.raises(TargetError, match="the mirror stops"):
            await self.workers.run(done.append, 4)

    async def test_who_is_cancelled_may_clean_up(self) -> None:
        """Even if the pool began to close before that."""
        go = threading.Event()
        done: list[str] = []

        async def work() -> None:
            try:
                await self.workers.run(go.wait)
            except CancelledError:
                await self.workers.run(done.append, "cleaned up")

        running = Deferred.fromCoroutine(work())
        closing = Deferred.fromCoroutine(self.workers.close())
        running.cancel()
        go.set()
        await closing
        await running
        assert done == ["cleaned up"]
