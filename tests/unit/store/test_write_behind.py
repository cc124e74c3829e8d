"""What could not be written, who waits for claims, and leases: by a clock."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.runtime.lag import Lag
from ghmirror_tw.runtime.waiting import waiting, wake
from ghmirror_tw.store import write_behind as owed_module
from ghmirror_tw.store.claim_leases import LEASE_S, Leases
from ghmirror_tw.store.claim_watch import Watch
from ghmirror_tw.store.store_interface import LockName
from ghmirror_tw.store.write_behind import BATCH, MOST, PAUSE_S, WriteBehind
from tests.unit.store.contract import ALICE, COLD, KEY

AWAY = RedisUnavailableError("open", "it is away")


class Owing(SynchronousTestCase):
    """What is owed, while writing is possible or not."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.possible = True
        self.settled = 0
        self.written: list[str] = []
        self.owed = WriteBehind(self.clock, lambda: self.possible, self.settle, lambda: 0.0)

    def settle(self) -> None:
        self.settled += 1

    def writing(self, what: str) -> Any:
        async def write() -> None:
            self.written.append(what)

        return write

    def test_it_is_paid_when_it_can_be(self) -> None:
        """Not before; and the last of each name only."""
        self.possible = False
        for what in ("old", "new"):
            self.owed.owe("name", self.writing(what))
        self.owed.owe("other", self.writing("other"))
        assert len(self.owed) == 2
        self.clock.pump([PAUSE_S] * 10)
        assert (self.written, self.settled) == ([], 0)
        self.possible = True
        self.clock.advance(PAUSE_S)
        assert (self.written, self.settled) == (["new", "other"], 1)
        assert not self.owed
        assert self.clock.getDelayedCalls() == []

    def test_it_is_spread(self) -> None:
        """A hundred at a time, with pauses, so that a fleet's debts don't come all at once."""
        for number in range(BATCH + 1):
            self.owed.owe(number, self.writing(str(number)))
        self.clock.advance(PAUSE_S)
        assert len(self.written) == BATCH
        self.clock.advance(PAUSE_S)
        assert len(self.written) == BATCH + 1

    def test_it_is_bounded(self) -> None:
        """What is owed longest is forgotten first."""
        self.patch(owed_module, "MOST", 3)
        self.possible = False
        for number in range(5):
            self.owed.owe(number, self.writing(str(number)))
        assert len(self.owed) == 3
        self.possible = True
        self.clock.advance(PAUSE_S)
        assert self.written == ["2", "3", "4"]
        assert MOST > 3

    def test_what_comes_first(self) -> None:
        """It is done before what was owed earlier, and nothing else takes its place."""
        self.patch(owed_module, "MOST", 2)
        self.possible = False
        self.owed.owe("grant 0", self.writing("grant 0"))
        self.owed.owe("refusal", self.writing("refusal"), first=True)
        for number in (1, 2):
            self.owed.owe(f"grant {number}", self.writing(f"grant {number}"))
        assert len(self.owed) == 3
        self.possible = True
        self.clock.advance(PAUSE_S)
        assert self.written == ["refusal", "grant 1", "grant 2"]
        assert not self.owed

    def test_what_fails_is_owed_again(self) -> None:
        """Unless something later took its place meanwhile."""
        answers: list[Deferred[None]] = [Deferred(), Deferred()]
        asked = list(answers)

        async def write() -> None:
            await asked.pop(0)

        self.owed.owe("a", write)
        self.owed.owe("b", write)
        self.clock.advance(PAUSE_S)
        self.owed.owe("b", self.writing("later"))
        for answer in answers:
            answer.errback(AWAY)
        assert len(self.owed) == 2
        asked.append(succeed(None))
        self.clock.advance(PAUSE_S)
        assert self.written == ["later"]
        assert (len(self.owed), self.settled) == (0, 1)

    def test_a_write_that_is_broken_is_logged_and_not_tried_for_ever(self) -> None:
        """Whatever it was, the rest is paid."""

        async def broken() -> None:
            raise ValueError

        self.owed.owe("broken", broken)
        self.owed.owe("good", self.writing("good"))
        self.clock.advance(PAUSE_S)
        assert len(self.flushLoggedErrors()) == 1
        assert self.written == ["good"]
        assert not self.owed

    def test_it_is_forgotten_at_the_end(self) -> None:
        """No timer is left."""
        self.owed.owe("a", self.writing("a"))
        self.owed.close()
        self.owed.close()
        assert self.clock.getDelayedCalls() == []


class Watching(SynchronousTestCase):
    """Claims of others."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.claimed: Any = True
        self.possible = True
        self.asked = 0
        self.watch = Watch(self.clock, self.is_locked, lambda: self.possible, lambda: 0.5)

    async def is_locked(self, _: LockName) -> bool:
        self.asked += 1
        if isinstance(self.claimed, Exception):
            raise self.claimed
        return bool(self.claimed)

    def test_who_waits_is_woken_when_it_ends(self) -> None:
        """One question for all who wait for the same, ever less often."""
        self.watch.begin(COLD)
        self.watch.begin(COLD)
        waiters = [self.watch.released(COLD, 60.0) for _ in "123"]
        assert self.watch.knows(COLD)
        assert not self.watch.knows(LockName(KEY, ALICE))
        self.clock.pump([0.01] * 1000)
        assert 40 < self.asked < 80
        self.assertNoResult(waiters[0])
        self.claimed = False
        self.clock.advance(0.3)
        for waiter in waiters:
            self.successResultOf(waiter)
        assert not self.watch.knows(COLD)
        assert self.clock.getDelayedCalls() == []

    def test_nobody_is_asked_for_nobody(self) -> None:
        """When all have gone, the claim is of no interest any more."""
        self.watch.begin(COLD)
        gone = self.watch.released(COLD, 60.0)
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.clock.advance(0.3)
        assert self.asked == 0
        assert not self.watch.knows(COLD)
        self.successResultOf(self.watch.released(COLD, 60.0))

    def test_an_answer_that_does_not_come_ends_nothing(self) -> None:
        """Unless nobody can be asked any more."""
        self.claimed = AWAY
        self.watch.begin(COLD)
        waiter = self.watch.released(COLD, 60.0)
        self.clock.pump([0.1] * 10)
        self.assertNoResult(waiter)
        self.possible = False
        self.clock.advance(0.3)
        self.successResultOf(waiter)

    def test_trouble_wakes_everybody(self) -> None:
        """Whatever it is, it is logged, and nobody waits for ever."""
        self.claimed = ValueError("broken")
        self.watch.begin(COLD)
        waiter = self.watch.released(COLD, 60.0)
        self.clock.advance(0.3)
        self.successResultOf(waiter)
        assert len(self.flushLoggedErrors(ValueError)) == 1

    def test_an_answer_after_the_end_is_nobodys(self) -> None:
        """Closing wakes all, and leaves nothing behind."""
        answer: Deferred[bool] = Deferred()
        self.patch(self, "is_locked", lambda _: answer)
        watch = Watch(self.clock, lambda _: answer, lambda: True, lambda: 0.5)
        watch.begin(COLD)
        waiter = watch.released(COLD, 60.0)
        self.clock.advance(0.3)
        watch.close()
        self.successResultOf(waiter)
        answer.callback(True)
        assert self.clock.getDelayedCalls() == []


class Leasing(SynchronousTestCase):
    """Claims of our own."""

    def test_a_lease_is_renewed_until_it_ends(self) -> None:
        """Well before it runs out; a failure is tried again."""
        clock = Clock()
        renewed: list[str] = []

        async def renew(_: LockName, owner: str) -> None:
            renewed.append(owner)
            await (fail(AWAY) if len(renewed) == 1 else succeed(None))

        leases = Leases(clock, renew)
        leases.begin(COLD, "a")
        clock.pump([LEASE_S / 3] * 3)
        assert renewed == ["a"] * 3
        assert leases.end(COLD, "a")
        assert not leases.end(COLD, "a")
        leases.begin(COLD, "b")
        leases.close()
        assert clock.getDelayedCalls() == []


class Waits(SynchronousTestCase):
    """Waiters in general, and lag."""

    def test_without_a_limit(self) -> None:
        """It waits until it is woken, with no timer."""
        waiters: list[Deferred[None]] = []
        clock = Clock()
        waiter = waiting(clock, waiters)
        assert clock.getDelayedCalls() == []
        wake(waiters)
        self.successResultOf(waiter)
        gone = waiting(clock, waiters)
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        assert waiters == []

    def test_lag_is_what_timers_are_late_by(self) -> None:
        """Nothing while all goes well."""
        clock = Clock()
        lag = Lag(clock)
        lag.open()
        clock.pump([0.025] * 10)
        assert lag.total_s < 1e-9
        clock.advance(1.025)
        assert abs(lag.total_s - 1.0) < 1e-9
        lag.close()
        lag.close()
        assert clock.getDelayedCalls() == []

    def test_lag_is_there_before_the_late_timer_is_called(self) -> None:
        """Whoever looks in that moment sees all of it; calling the timer adds nothing."""
        clock = Clock()
        lag = Lag(clock)
        lag.open()
        clock.rightNow += 1.025
        assert abs(lag.total_s - 1.0) < 1e-9
        clock.advance(0.0)
        assert abs(lag.total_s - 1.0) < 1e-9
        clock.rightNow += 0.525
        lag.close()
        assert abs(lag.total_s - 1.5) < 1e-9
