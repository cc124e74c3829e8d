"""One operation of a replica at a time, of any duration; by a clock."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.runtime.restore_barrier import RestoreBarrier
from ghmirror_tw.snapshots.lease import LEASE_S, RESTORE, LeaseLostError, run_with_lease
from ghmirror_tw.snapshots.restorer import Restorer
from ghmirror_tw.snapshots.snapshot_errors import PermanentTargetError
from ghmirror_tw.telemetry.metrics import Metrics


@define
class Leases:
    """The leases of a store without records; the result of each attempt is *has_it*."""

    has_it: Any = True
    taken: list[tuple[str, str, float]] = field(factory=list)
    let_go_of: list[str] = field(factory=list)
    marked: bool = False

    async def acquire_lease(self, what: str, owner: str, lease_s: float) -> bool:
        self.taken.append((what, owner, lease_s))
        if isinstance(self.has_it, Exception):
            raise self.has_it
        return bool(await self.has_it if isinstance(self.has_it, Deferred) else self.has_it)

    async def release_lease(self, what: str, _: str) -> None:
        self.let_go_of.append(what)

    async def mark(self) -> str | None:
        return "mark" if self.marked else None

    async def mark_filled(self) -> None:
        self.marked = True

    async def filled_by_others(self) -> str | None:
        return None


@define
class Denied:
    """A target's copies that no waiting will make readable."""

    read_at: float = 0.0

    async def clean(self) -> None:
        """Nothing is left behind."""

    async def newest_usable(self, _: str | None = None) -> None:
        raise PermanentTargetError("access is denied")


@define
class Slow:
    """The copies of a target, whose list of none is slow."""

    listings: list[Deferred[None]] = field(factory=list)
    read_at: float = 0.0

    async def clean(self) -> None:
        """Nothing is left behind."""

    async def newest_usable(self, _: str | None = None) -> None:
        if not self.listings:
            self.listings.append(Deferred())
            await self.listings[-1]


class Keeping(SynchronousTestCase):
    """A holder of a lease, and its work."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.leases = Leases()
        self.step: Deferred[str] = Deferred()
        self.run_with_lease = self.keep(self.step)

    def keep(self, step: Deferred[str]) -> Deferred[str]:
        async def work() -> str:
            return await step

        return Deferred.fromCoroutine(run_with_lease(self.clock, self.leases, "x", "me", work()))

    def test_lease_is_renewed_during_the_work(self) -> None:
        """It never runs out; and no timer is left afterwards."""
        self.clock.pump([1.0] * 60)
        assert self.leases.taken == [("x", "me", LEASE_S)] * 12
        self.step.callback("done")
        assert self.successResultOf(self.run_with_lease) == "done"
        assert self.clock.getDelayedCalls() == []

    def test_work_is_cancelled_when_another_replica_has_the_lease(self) -> None:
        """They go on with it."""
        self.leases.has_it = False
        self.clock.advance(LEASE_S)
        self.failureResultOf(self.run_with_lease, LeaseLostError)
        assert self.step.called
        assert self.clock.getDelayedCalls() == []

    def test_failed_renewal_does_not_end_the_work(self) -> None:
        """The next time it may go better."""
        for trouble in (RedisUnavailableError("open", "it is away"), ValueError("broken")):
            self.leases.has_it = trouble
            self.clock.advance(LEASE_S / 3)
        assert len(self.flushLoggedErrors(ValueError)) == 1
        self.leases.has_it = True
        self.clock.advance(LEASE_S / 3)
        assert len(self.leases.taken) == 3
        self.step.errback(ZeroDivisionError())
        self.failureResultOf(self.run_with_lease, ZeroDivisionError)

    def test_lease_is_not_renewed_after_the_work(self) -> None:
        """A renewal in flight is awaited, so that no lease is left after the work."""
        self.leases.has_it = Deferred()
        self.clock.advance(LEASE_S / 3)
        self.step.callback("done")
        self.assertNoResult(self.run_with_lease)
        self.leases.has_it.callback(True)
        assert self.successResultOf(self.run_with_lease) == "done"

    def test_work_may_be_cancelled(self) -> None:
        """That is no lost lease."""
        self.run_with_lease.cancel()
        self.failureResultOf(self.run_with_lease, CancelledError)
        for done in (succeed("done"), fail(ZeroDivisionError())):
            self.keep(done).addErrback(lambda failure: failure.trap(ZeroDivisionError))
        assert self.clock.getDelayedCalls() == []


class Filling(SynchronousTestCase):
    """A restore from a target that is slow."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.leases, self.repository = Leases(), Slow()
        self.barrier = RestoreBarrier(self.clock, 1000.0)
        self.metrics = Metrics(self.clock.seconds)
        repository: Any = self.repository
        self.restorer = Restorer(
            self.clock,
            self.leases,
            repository,
            self.barrier,
            "owner",
            "me",
            self.metrics,
            self.clock.seconds,
        )

    def test_lease_is_renewed_while_a_snapshot_is_checked(self) -> None:
        """Otherwise a fleet would repeat a check that is longer than a lease for ever."""
        self.restorer.fill()
        self.clock.pump([1.0] * 60)
        assert self.leases.taken == [(RESTORE, "me", LEASE_S)] * 13
        self.repository.listings[0].callback(None)
        assert self.leases.marked
        assert self.leases.let_go_of == [RESTORE]
        assert self.clock.getDelayedCalls() == []

    def test_restore_is_repeated_after_cancellation(self) -> None:
        """Even if the first had not ended yet when the second one began."""
        self.leases.has_it = Deferred()
        self.restorer.fill()
        first, self.leases.has_it = self.leases.has_it, True
        first.callback(True)
        self.patch(self.leases.__class__, "release_lease", lambda *_: letting_go)
        letting_go: Deferred[None] = Deferred()
        self.restorer.stop()
        assert self.barrier.is_shut
        self.restorer.fill()
        letting_go.callback(None)
        assert self.leases.marked
        assert not self.barrier.is_shut

    def test_requests_do_not_wait_after_a_permanent_failure(self) -> None:
        """The gate opens at once; the attempts go on beside the requests, and may succeed."""
        denied: Any = Denied()
        self.restorer.repository = denied
        self.restorer.fill()
        assert list(self.metrics.snapshot_errors) == [RESTORE]
        assert self.restorer.is_running
        assert not self.barrier.is_shut
        working: Any = self.repository
        self.restorer.repository = working
        self.clock.advance(60.0)
        self.repository.listings[0].callback(None)
        assert self.leases.marked
        assert not self.metrics.snapshot_errors
        assert not self.restorer.is_running

    def requests_wait(self) -> bool:
        return self.barrier.is_shut

    def test_requests_wait_only_while_a_restore_progresses(self) -> None:
        """They do not wait for a target that hangs; its late records are used all the same."""
        self.restorer.fill()
        for _ in range(4):
            self.clock.advance(4.0)
            self.repository.read_at = self.clock.seconds()
            assert self.requests_wait()
        self.clock.pump([1.0] * 4)
        assert self.requests_wait()
        self.clock.advance(1.0)
        assert not self.requests_wait()
        self.repository.listings[0].callback(None)
        assert self.leases.marked
        assert self.clock.getDelayedCalls() == []

    def test_requests_wait_while_another_replica_restores_the_store(self) -> None:
        """Data received there is not seen here."""
        self.leases.has_it = False
        self.restorer.fill()
        self.clock.pump([0.5] * 60)
        assert self.requests_wait()
        self.leases.marked = True
        self.clock.advance(0.5)
        assert not self.requests_wait()
        assert self.clock.getDelayedCalls() == []

    def test_closed_restorer_does_not_restore(self) -> None:
        """No request waits any more."""
        self.restorer.fill()
        self.restorer.stop()
        assert not self.barrier.is_shut
        assert not self.leases.marked
        assert self.clock.getDelayedCalls() == []
