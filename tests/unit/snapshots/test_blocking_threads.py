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
        self.threads = BlockingThreads(reactor)
        self.threads.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.threads.close()))

    async def test_results_and_errors_are_returned(self) -> None:
        """From a thread."""
        assert await self.threads.run(lambda a, b: a + b, 1, b=2) == 3
        with pytest.raises(ZeroDivisionError):
            await self.threads.run(lambda: 1 // 0)
        assert await self.threads.run(threading.get_ident) != threading.get_ident()

    async def test_no_more_than_two_at_a_time(self) -> None:
        """Others wait for them."""
        go = threading.Event()
        running = [Deferred.fromCoroutine(self.threads.run(go.wait)) for _ in range(8)]
        assert len(self.threads.pool.threads) == 2
        go.set()
        for each in running:
            assert await each
        assert len(self.threads.pool.threads) == 2

    async def test_cancellation_takes_effect_after_the_call(self) -> None:
        """Repeatedly, and after any outcome of the work."""
        for outcome in (lambda: 1, lambda: 1 // 0):
            go = threading.Event()
            done: list[int] = []
            ended: list[Any] = []

            def work(outcome: Any = outcome, go: Any = go, done: Any = done) -> None:
                go.wait()
                done.append(1)
                outcome()

            running = Deferred.fromCoroutine(self.threads.run(work))
            running.addErrback(ended.append)
            running.cancel()
            running.cancel()
            assert not ended
            go.set()
            await running
            assert done == [1]
            assert ended[0].check(CancelledError)

    async def test_closing_waits_for_running_calls(self) -> None:
        """Without holding up the reactor; and it may be called again."""
        go = threading.Event()
        running = Deferred.fromCoroutine(self.threads.run(go.wait))
        closing = Deferred.fromCoroutine(self.threads.close())
        reactor.callLater(0, go.set)
        await closing
        assert await running
        await self.threads.close()

    async def test_caller_may_make_further_calls_during_close(self) -> None:
        """One call after another; a call after the end of the pool is refused."""
        done: list[int] = []

        async def both() -> None:
            for number in (1, 2, 3):
                await self.threads.run(done.append, number)

        running = Deferred.fromCoroutine(both())
        await self.threads.close()
        await running
        assert done == [1, 2, 3]
        with pytest.raises(TargetError, match="the mirror is shutting down"):
            await self.threads.run(done.append, 4)

    async def test_abandoned_calls_fail(self) -> None:
        """Those in progress and later ones; closing waits for no thread, and no thread for it."""
        go = threading.Event()
        self.addCleanup(go.set)
        running, cancelled = [Deferred.fromCoroutine(self.threads.run(go.wait)) for _ in range(2)]
        cancelled.cancel()
        closing = Deferred.fromCoroutine(self.threads.close())
        self.threads.abandon()
        with pytest.raises(TargetError, match="the mirror is shutting down"):
            await running
        with pytest.raises(CancelledError):
            await cancelled
        await closing
        with pytest.raises(TargetError, match="the mirror is shutting down"):
            await self.threads.run(go.wait)
        assert all(thread.daemon for thread in self.threads.pool.threads)

    async def test_cancelled_caller_may_clean_up(self) -> None:
        """Even if the pool began to close before that."""
        go = threading.Event()
        done: list[str] = []

        async def work() -> None:
            try:
                await self.threads.run(go.wait)
            except CancelledError:
                await self.threads.run(done.append, "cleaned up")

        running = Deferred.fromCoroutine(work())
        closing = Deferred.fromCoroutine(self.threads.close())
        running.cancel()
        go.set()
        await closing
        await running
        assert done == ["cleaned up"]
