"""Locks of other processes, which are polled, and leases of own ones: by a clock."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.store.fleet_lock import LEASE_S, LeaseRenewals, LockPolls
from ghmirror_tw.store.store_interface import LockName
from tests.unit.store.store_contract import ALICE, COLD, KEY

AWAY = RedisUnavailableError("open", "it is away")


class Polls(SynchronousTestCase):
    """Locks of other processes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.claimed: Any = True
        self.possible = True
        self.poll_count = 0
        self.polls = LockPolls(self.clock, self.is_locked, lambda: self.possible, lambda: 0.5)

    async def is_locked(self, _: LockName) -> bool:
        self.poll_count += 1
        if isinstance(self.claimed, Exception):
            raise self.claimed
        return bool(self.claimed)

    def test_waiters_are_notified_when_the_lock_is_released(self) -> None:
        """One poll serves all that wait for the same lock; pauses between polls grow."""
        self.polls.begin(COLD)
        self.polls.begin(COLD)
        waiters = [self.polls.released(COLD, 60.0) for _ in "123"]
        assert COLD in self.polls
        assert LockName(KEY, ALICE) not in self.polls
        self.clock.pump([0.01] * 1000)
        assert 40 < self.poll_count < 80
        self.assertNoResult(waiters[0])
        self.claimed = False
        self.clock.advance(0.3)
        for waiter in waiters:
            self.successResultOf(waiter)
        assert COLD not in self.polls
        assert self.clock.getDelayedCalls() == []

    def test_a_lock_without_waiters_is_not_polled(self) -> None:
        """It is dropped when the last waiter has been cancelled."""
        self.polls.begin(COLD)
        gone = self.polls.released(COLD, 60.0)
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.clock.advance(0.3)
        assert self.poll_count == 0
        assert COLD not in self.polls
        self.successResultOf(self.polls.released(COLD, 60.0))

    def test_a_failed_poll_notifies_no_waiter(self) -> None:
        """Unless Redis can't be read at all."""
        self.claimed = AWAY
        self.polls.begin(COLD)
        waiter = self.polls.released(COLD, 60.0)
        self.clock.pump([0.1] * 10)
        self.assertNoResult(waiter)
        self.possible = False
        self.clock.advance(0.3)
        self.successResultOf(waiter)

    def test_an_unexpected_error_notifies_all_waiters(self) -> None:
        """It is logged, and no request waits for ever."""
        self.claimed = ValueError("broken")
        self.polls.begin(COLD)
        waiter = self.polls.released(COLD, 60.0)
        self.clock.advance(0.3)
        self.successResultOf(waiter)
        assert len(self.flushLoggedErrors(ValueError)) == 1

    def test_closing_notifies_all_waiters(self) -> None:
        """A reply after that has no effect, and no timer is left."""
        locked: Deferred[bool] = Deferred()
        self.patch(self, "is_locked", lambda _: locked)
        polls = LockPolls(self.clock, lambda _: locked, lambda: True, lambda: 0.5)
        polls.begin(COLD)
        waiter = polls.released(COLD, 60.0)
        self.clock.advance(0.3)
        polls.close()
        self.successResultOf(waiter)
        locked.callback(True)
        assert self.clock.getDelayedCalls() == []


class Leasing(SynchronousTestCase):
    """Locks of this process."""

    def test_a_lease_is_renewed_until_it_ends(self) -> None:
        """It is renewed well before it ends; a renewal that fails is sent again."""
        clock = Clock()
        renewed: list[str] = []

        async def renew(_: LockName, owner: str) -> None:
            renewed.append(owner)
            await (fail(AWAY) if len(renewed) == 1 else succeed(None))

        leases = LeaseRenewals(clock, renew)
        leases.begin(COLD, "a")
        clock.pump([LEASE_S / 3] * 3)
        assert renewed == ["a"] * 3
        assert leases.end(COLD, "a")
        assert not leases.end(COLD, "a")
        leases.begin(COLD, "b")
        leases.close()
        assert clock.getDelayedCalls() == []
