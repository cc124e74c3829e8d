"""Write-behind, by a clock; and waiters and lag."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.runtime.deferreds import add_waiter, wake
from ghmirror_tw.runtime.reactor_lag import ReactorLag
from ghmirror_tw.store import write_behind_queue as write_behind_module
from ghmirror_tw.store.write_behind_queue import (
    BATCH,
    MAX_QUEUED,
    PAUSE_S,
    Write,
    WriteBehind,
    WriteKind,
)

AWAY = RedisUnavailableError("open", "it is away")


class Queue(SynchronousTestCase):
    """A queue, while writing is possible or not."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.possible = True
        self.emptied = 0
        self.written: list[str] = []
        self.lost: list[object] = []
        self.queue = WriteBehind(
            self.clock,
            lambda: self.possible,
            self.empty,
            lambda: 0.0,
            lost=lambda write: self.lost.append(write.name),
        )

    def empty(self) -> None:
        self.emptied += 1

    def enqueue(
        self,
        name: str,
        what: str = "",
        kind: WriteKind = WriteKind.RECORD,
        size: int = 0,
        write: Any = None,
    ) -> None:
        """Queue a write of *what*, or *write*."""

        async def append() -> None:
            self.written.append(what or name)

        self.queue.enqueue(Write(write or append, name, kind, size))

    def test_the_last_write_of_each_name_is_written_when_it_is_possible(self) -> None:
        """The queue is not flushed before, and no timer is left."""
        self.possible = False
        for what in ("old", "new"):
            self.enqueue("name", what)
        self.enqueue("other")
        assert len(self.queue) == 2
        self.clock.pump([PAUSE_S] * 10)
        assert (self.written, self.emptied) == ([], 0)
        self.possible = True
        self.clock.advance(PAUSE_S)
        assert (self.written, self.emptied) == (["new", "other"], 1)
        assert not self.queue
        assert self.clock.getDelayedCalls() == []

    def test_durable_flushed_fires_when_they_are_written(self) -> None:
        """It fires at once where there is nothing to write, and not while a batch is in flight."""
        self.successResultOf(self.queue.durable_flushed(60.0))
        reply: Deferred[None] = Deferred()

        async def write() -> None:
            await reply

        self.enqueue("a", kind=WriteKind.EPOCH, write=write)
        flushed = self.queue.durable_flushed(60.0)
        self.clock.advance(PAUSE_S)
        assert "a" in self.queue
        assert not self.queue
        self.assertNoResult(flushed)
        reply.callback(None)
        self.successResultOf(flushed)

    def test_writes_are_spread(self) -> None:
        """A hundred are written at a time, with pauses, so that a fleet does not write at once."""
        for number in range(BATCH + 1):
            self.enqueue(str(number))
        self.clock.advance(PAUSE_S)
        assert len(self.written) == BATCH
        self.clock.advance(PAUSE_S)
        assert len(self.written) == BATCH + 1

    def test_the_queue_is_bounded(self) -> None:
        """The oldest write is dropped first."""
        self.patch(write_behind_module, "MAX_QUEUED", 3)
        self.possible = False
        for number in range(5):
            self.enqueue(str(number))
        assert len(self.queue) == 3
        self.possible = True
        self.clock.advance(PAUSE_S)
        assert self.written == ["2", "3", "4"]
        assert MAX_QUEUED > 3

    def test_durable_writes_are_written_first(self) -> None:
        """They precede earlier writes, and are not dropped for writes of another kind."""
        self.patch(write_behind_module, "MAX_QUEUED", 2)
        self.possible = False
        self.enqueue("grant 0")
        self.enqueue("refusal", kind=WriteKind.REFUSAL)
        self.enqueue("epoch", kind=WriteKind.EPOCH)
        for number in (0, 1, 2):
            self.enqueue(f"404 {number}", kind=WriteKind.FIRST_REFUSAL)
        for number in (1, 2):
            self.enqueue(f"grant {number}")
        assert len(self.queue) == 6
        self.possible = True
        self.clock.advance(PAUSE_S)
        assert self.written == ["epoch", "refusal", "404 1", "404 2", "grant 1", "grant 2"]
        assert not self.queue
        assert self.lost == ["404 0"]

    def test_the_queue_is_bounded_by_bytes(self) -> None:
        """Of each kind; a write that replaces another one counts in its place."""
        self.queue.max_bytes = 100
        self.possible = False
        for name, size in (("a", 40), ("b", 40), ("a", 60), ("c", 1)):
            self.enqueue(name, size=size)
        assert (len(self.queue), self.queue.size) == (2, 61)
        self.enqueue("refusal", kind=WriteKind.REFUSAL, size=100)
        assert (len(self.queue), self.queue.size) == (3, 161)
        self.enqueue("another", kind=WriteKind.REFUSAL, size=1)
        assert (self.lost, self.queue.size) == (["refusal"], 62)
        self.possible = True
        self.clock.advance(PAUSE_S)
        assert self.written == ["another", "a", "c"]
        assert self.queue.size == 0

    def test_a_write_that_fails_is_queued_again(self) -> None:
        """A later write of the same name replaces it."""
        writes: list[Deferred[None]] = [Deferred(), Deferred()]
        sent = list(writes)

        async def write() -> None:
            await sent.pop(0)

        self.enqueue("a", write=write)
        self.enqueue("b", write=write)
        self.clock.advance(PAUSE_S)
        self.enqueue("b", "later")
        for each in writes:
            each.errback(AWAY)
        assert len(self.queue) == 2
        sent.append(succeed(None))
        self.clock.advance(PAUSE_S)
        assert self.written == ["later"]
        assert (len(self.queue), self.emptied) == (0, 1)

    def test_a_broken_write_is_logged_and_dropped(self) -> None:
        """The other writes are written."""

        async def broken() -> None:
            raise ValueError

        self.enqueue("broken", write=broken)
        self.enqueue("good")
        self.clock.advance(PAUSE_S)
        assert len(self.flushLoggedErrors()) == 1
        assert self.written == ["good"]
        assert not self.queue

    def test_closing_drops_the_queue(self) -> None:
        """No timer is left, and no caller waits."""
        self.enqueue("a")
        self.queue.close()
        self.queue.close()
        assert self.clock.getDelayedCalls() == []


class Waits(SynchronousTestCase):
    """Waiters in general, and lag."""

    def test_without_a_limit(self) -> None:
        """It waits until it is woken, with no timer."""
        waiters: list[Deferred[None]] = []
        clock = Clock()
        waiter = add_waiter(clock, waiters)
        assert clock.getDelayedCalls() == []
        wake(waiters)
        self.successResultOf(waiter)
        gone = add_waiter(clock, waiters)
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        assert waiters == []

    def test_lag_is_the_delay_of_timers(self) -> None:
        """Nothing while all succeed."""
        clock = Clock()
        lag = ReactorLag(clock)
        lag.open()
        clock.pump([0.025] * 10)
        assert abs(lag.seconds() - clock.seconds()) < 1e-9
        clock.advance(1.025)
        assert abs(clock.seconds() - lag.seconds() - 1.0) < 1e-9
        lag.close()
        lag.close()
        assert clock.getDelayedCalls() == []

    def test_lag_is_there_before_the_late_timer_is_called(self) -> None:
        """A reader in that moment has all of it; the call of the timer adds nothing."""
        clock = Clock()
        lag = ReactorLag(clock)
        lag.open()
        clock.rightNow += 1.025
        assert abs(lag.seconds() - 0.025) < 1e-9
        clock.advance(0.0)
        assert abs(lag.seconds() - 0.025) < 1e-9
        clock.rightNow += 0.525
        lag.close()
        assert abs(lag.seconds() - 0.05) < 1e-9
