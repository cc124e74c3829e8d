"""Many replicas that share one Redis send GitHub no more than one replica may."""

from __future__ import annotations

import random
import re
from collections import Counter, deque
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.store import fleet_semaphore
from ghmirror_tw.store.fleet_semaphore import FleetSemaphore
from ghmirror_tw.upstream import points_limit, rate_limiter, request_queues
from ghmirror_tw.upstream.rate_limiter import RateLimiter
from ghmirror_tw.upstream.request_queue import Permit
from tests.fakes.interposer import Interposer, interpose
from tests.harness.home import reactor, turn, until
from tests.harness.redis_servers import RedisServer, start_redis
from tests.harness.redis_stores import SOON, at_rest
from tests.unit.redis_store.test_redis_semaphores import ALICE, open_semaphores

BOB = "b" * 32


def slots_of(replica: RateLimiter, credential: str = ALICE) -> FleetSemaphore:
    """Return the semaphore of requests in flight of a credential."""
    in_flight = replica.queues.of(credential).in_flight
    assert isinstance(in_flight, FleetSemaphore)
    return in_flight


def usable_by(replica: RateLimiter) -> int:
    """Return how many requests a replica may have in flight, with those that are already."""
    in_flight = slots_of(replica)
    return max(in_flight.used, in_flight.allowed())


def redis_of(replica: RateLimiter) -> Any:
    """Return the semaphores in Redis."""
    return replica.semaphores


@define(eq=False)
class Counting:
    """GitHub's secondary limits: counts the requests in flight, and the points of a window."""

    window_s: float = 60.0
    takes_s: float = 0.005
    in_flight: int = 0
    most_in_flight: int = 0
    most_in_window: int = 0
    served: Counter[Any] = field(factory=Counter)
    _points: deque[tuple[float, int]] = field(factory=deque)
    _sum: int = 0

    async def serve(self, credential: Any, points: int) -> None:
        """Respond to a request of *credential*."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        now = reactor.seconds()
        while self._points and self._points[0][0] <= now - self.window_s:
            self._sum -= self._points.popleft()[1]
        self._points.append((now, points))
        self._sum += points
        self.most_in_window = max(self.most_in_window, self._sum)
        try:
            await deferLater(reactor, self.takes_s)
        finally:
            self.in_flight -= 1
        self.served[credential] += 1


class Fleet(TestCase):
    """Several rate limiters, one Redis, one GitHub."""

    server: RedisServer

    def setUp(self) -> None:
        self.server = start_redis(self)
        self.github = Counting()
        self.fleet: list[RateLimiter] = []
        self.stopping = False
        self.refused = 0

    async def start(
        self,
        count: int,
        *,
        server: RedisServer | Interposer | None = None,
        counted: bool = True,
        **more: Any,
    ) -> list[RateLimiter]:
        """Start *count* more, which count the replicas first if *counted*."""
        values: dict[str, Any] = {
            "max_connections": 100,
            "max_in_flight": 8,
            "points_per_minute": 0,
            "reserve": 0,
            **more,
        }
        started = []
        for _ in range(count):
            semaphores = await open_semaphores(self, server or self.server, turn_ms=50)
            if counted:
                semaphores.history.look()
                await semaphores.history.looked_up(SOON)
            started.append(RateLimiter(reactor, semaphores, **values))
        for each in started:
            self.addCleanup(each.close)
        self.fleet += started
        return started

    async def send(self, replica: RateLimiter, credential: str = ALICE, points: int = 1) -> None:
        """Send one request by way of a replica, after a look-up."""
        with replica.prefetch(credential):
            await turn()
        permit = await replica.acquire(credential, "core", points)
        try:
            await self.github.serve(replica, points)
        finally:
            permit.release()

    def send_all(
        self, times: int, *, fleet: list[RateLimiter] | None = None, **more: Any
    ) -> Deferred[Any]:
        """Send so many requests by way of each replica, all at once."""
        chosen = self.fleet if fleet is None else fleet
        pending = [start(self.send(each, **more)) for each in chosen for _ in range(times)]
        return DeferredList(pending, fireOnOneErrback=True, consumeErrors=True)

    async def poll(self, replica: RateLimiter, credential: str = ALICE) -> None:
        """Send one request after the other, until `stopping`."""
        while not self.stopping:
            try:
                await self.send(replica, credential)
            except MirrorError:
                self.refused += 1

    async def test_fleet_has_no_more_requests_in_flight_than_the_limit(self) -> None:
        """With any demand of each replica; all requests are served."""
        await self.start(5)
        await self.send_all(60)
        assert self.github.served == dict.fromkeys(self.fleet, 60)
        assert self.github.most_in_flight <= 8

    async def test_slow_responses_of_redis_do_not_raise_the_limit(self) -> None:
        """Each replica reaches Redis with another delay."""
        fleet = []
        for number in range(4):
            between = interpose(self, self.server.address)
            between.delay_s = 0.02 * number
            fleet += await self.start(1, max_in_flight=12, server=between)
        rng = random.Random(1)

        async def bursts(replica: RateLimiter) -> None:
            while self.github.served[replica] < 300:
                pending = [start(self.send(replica)) for _ in range(rng.randrange(1, 12))]
                await DeferredList(pending, fireOnOneErrback=True, consumeErrors=True)
                await deferLater(reactor, rng.choice((0.0, 0.01, 0.1)))

        going = [Deferred.fromCoroutine(bursts(each)) for each in fleet]
        await DeferredList(going, fireOnOneErrback=True, consumeErrors=True)
        assert 8 < self.github.most_in_flight <= 12

    async def test_one_replica_with_demand_gets_all_permits(self) -> None:
        """Idle replicas hold none back."""
        await self.start(3)
        await self.send_all(1)
        first = self.fleet[:1]
        while self.github.most_in_flight < 8:
            await self.send_all(40, fleet=first)
        assert self.github.most_in_flight == 8

    async def test_more_replicas_than_permits_all_proceed(self) -> None:
        """They alternate; no request is rejected."""
        await self.start(6, max_in_flight=2)
        polling = [start(self.poll(each)) for each in self.fleet]
        await until(lambda: min(self.github.served[each] for each in self.fleet) > 20)
        self.stopping = True
        await DeferredList(polling, fireOnOneErrback=True, consumeErrors=True)
        assert self.github.most_in_flight <= 2
        assert not self.refused

    async def test_late_replica_gets_its_share(self) -> None:
        """Though others hold all permits, and have demand for more."""
        early = await self.start(2)
        polling = [start(self.poll(each)) for each in early for _ in range(20)]
        await until(lambda: self.github.most_in_flight == 8)
        (late,) = await self.start(1)
        polling += [start(self.poll(late)) for _ in range(20)]
        await until(lambda: self.github.served[late] > 100)
        self.stopping = True
        await DeferredList(polling, fireOnOneErrback=True, consumeErrors=True)
        assert self.github.most_in_flight <= 8

    async def test_permit_in_use_is_not_reassigned(self) -> None:
        """A replica with demand waits for its release."""
        first, second = await self.start(2)
        permits = [await first.acquire(ALICE, "core") for _ in range(8)]
        pending = second.acquire(ALICE, "core")
        before = self.renewals()
        await until(lambda: self.renewals() > before + 20)
        assert not pending.called
        permits.pop().release()
        (await pending).release()
        for permit in permits:
            permit.release()

    def renewals(self) -> int:
        """Return how many renewals of leases the server has received."""
        info = self.server.send("INFO", "commandstats").decode()
        return sum(map(int, re.findall(r"cmdstat_evalsha:calls=(\d+)", info)))

    async def test_credentials_have_limits_of_their_own(self) -> None:
        """One does not wait for the permits of another."""
        first, second = await self.start(2, max_in_flight=2)
        permits = [await first.acquire(ALICE, "core") for _ in range(2)]
        alice = start(second.acquire(ALICE, "core"))
        await self.send_all(10, credential=BOB)
        assert not alice.called
        for permit in permits:
            permit.release()
        (await alice).release()
        assert self.github.most_in_flight <= 2

    async def test_idle_permits_are_returned(self) -> None:
        """No row is left in Redis, and no queue in the process."""
        await self.start(2)
        await self.send_all(10)
        await until(lambda: not any(each.queues.accepted for each in self.fleet))
        assert self.server.send("KEYS", "*:b:*") == []

    async def test_permits_of_a_killed_replica_are_free_after_its_lease(self) -> None:
        """Until then the others use the rest."""
        self.patch(fleet_semaphore, "LEASE_S", 1.0)
        dead, alive = await self.start(2)
        permits = [await dead.acquire(ALICE, "core") for _ in range(8)]
        slots_of(dead).close()  # it renews nothing from now on
        pending = start(alive.acquire(ALICE, "core"))
        before = self.renewals()
        await until(lambda: self.renewals() > before + 2)
        assert not pending.called
        (await pending).release()
        assert not self.server.send("HEXISTS", f"ghmirror:{{{ALICE}}}:b:f", slots_of(dead).owner)
        assert len(permits) == 8

    async def test_closed_replica_returns_its_permits_at_once(self) -> None:
        """No other replica waits for the end of its lease."""
        first, second = await self.start(2)
        for _ in range(8):
            (await first.acquire(ALICE, "core")).release()
        await first.close()
        assert self.server.send("KEYS", "*:b:*") == []
        (await second.acquire(ALICE, "core")).release()

    async def test_burst_of_requests_needs_two_round_trips(self) -> None:
        """However late Redis responds."""
        (one,) = await self.start(1, max_in_flight=80)
        before = self.renewals()
        self.server.pause()
        with ExitStack() as expected:
            for _ in range(30):
                expected.enter_context(one.prefetch(ALICE))
            in_flight = slots_of(one)
            self.server.resume()
            await until(lambda: in_flight.available >= 30)
            assert self.renewals() <= before + 3  # and one for a script that is not known yet
        pending = [one.acquire(ALICE, "core") for _ in range(30)]
        assert all(each.called for each in pending)
        for each in pending:
            (await each).release()

    # Points.

    async def test_fleet_spends_no_more_points_than_the_limit(self) -> None:
        """In any window, here a short one; writes proceed as well."""
        self.patch(request_queues, "_MINUTE_S", 0.5)
        self.github.window_s = 0.5
        await self.start(4, points_per_minute=40, max_in_flight=80)
        await DeferredList([self.send_all(20), self.send_all(4, points=5)], fireOnOneErrback=True)
        assert self.github.most_in_window <= 40
        assert self.github.served == dict.fromkeys(self.fleet, 24)

    async def test_writes_proceed_with_fewer_points_than_replicas_need(self) -> None:
        """They alternate in the use of five points."""
        self.patch(request_queues, "_MINUTE_S", 0.2)
        self.github.window_s = 0.2
        await self.start(4, points_per_minute=10)
        await self.send_all(5, points=5)
        assert self.github.most_in_window <= 10
        assert self.github.served == dict.fromkeys(self.fleet, 5)

    async def test_secondary_limit_makes_all_replicas_count_points(self) -> None:
        """From then on the fleet observes the limit."""
        self.patch(points_limit, "AUTO_POINTS", 30)
        self.patch(request_queues, "_MINUTE_S", 0.5)
        self.github.window_s = 0.5
        first, second = await self.start(2, points_per_minute="auto")
        await self.send_all(100, fleet=[first])
        assert self.github.most_in_window > 30
        first.note_secondary_limit(ALICE)
        polling = start(self.poll(second))
        await until(lambda: second.points.counts(ALICE))
        await deferLater(reactor, 0.5)
        self.github.most_in_window = 0
        await self.send_all(30)
        self.stopping = True
        await polling
        assert 0 < self.github.most_in_window <= 30

    # Redis away.

    async def test_without_redis_each_replica_uses_its_part(self) -> None:
        """No request waits for Redis, and none is rejected; afterwards the limit holds again."""
        await self.start(4)
        await self.send_all(30)
        self.github.most_in_flight = 0
        self.server.kill()
        polling = [start(self.poll(each)) for each in self.fleet for _ in range(5)]
        done = sum(self.github.served.values())
        await until(lambda: sum(self.github.served.values()) > done + 500)
        assert not self.refused
        self.server.restart()
        await until(lambda: bool(self.server.send("KEYS", "*:b:*")))
        await until(lambda: all(slots_of(each).is_connected for each in self.fleet))
        # A replica may have more requests in flight than its lease now permits, from before.
        await until(lambda: sum(map(usable_by, self.fleet)) <= 8)
        self.github.most_in_flight = 0
        done = sum(self.github.served.values())
        await until(lambda: sum(self.github.served.values()) > done + 200)
        self.stopping = True
        await DeferredList(polling, fireOnOneErrback=True, consumeErrors=True)
        assert self.github.most_in_flight <= 8
        assert not self.refused

    async def lose_redis(self, settled_for_s: float = 0.0) -> None:
        """Kill it once each replica has counted the others, and let all of them notice."""
        fleet: list[Any] = [each.semaphores for each in self.fleet]
        for semaphores in fleet:
            semaphores.history.look()
            await until(lambda s=semaphores: s.members == len(fleet))  # type: ignore[misc]
        self.server.kill()
        for semaphores in fleet:
            await until(lambda s=semaphores: not s.records.servers.writing)  # type: ignore[misc]
            # All leases may have ended long before the next request of a client.
            semaphores.history.looked_at -= settled_for_s
            semaphores.renewed_at -= settled_for_s

    async def test_without_redis_the_parts_sum_up_to_the_limit(self) -> None:
        """Though no replica had requests of this credential before."""
        self.github.takes_s = 0.05
        await self.start(8, max_in_flight=80)
        await self.lose_redis(settled_for_s=60.0)
        await self.send_all(30)
        assert self.github.served == dict.fromkeys(self.fleet, 30)
        assert 8 < self.github.most_in_flight <= 80

    async def test_without_redis_leases_from_before_are_respected(self) -> None:
        """While they may last, other replicas use little more than they hold."""
        self.github.takes_s = 0.05
        first, *others = await self.start(8, max_in_flight=80)
        permits = [await first.acquire(ALICE, "core") for _ in range(80)]
        self.github.in_flight += len(permits)
        await self.lose_redis()
        await self.send_all(30, fleet=others)
        assert self.github.served == dict.fromkeys(others, 30)
        assert 80 < self.github.most_in_flight < 100
        for permit in permits:
            permit.release()

    async def test_without_redis_each_replica_has_one_permit_at_least(self) -> None:
        """No replica starves."""
        await self.start(4, max_in_flight=2)
        await self.lose_redis(settled_for_s=60.0)
        await self.send_all(10)
        assert self.github.served == dict.fromkeys(self.fleet, 10)
        assert self.github.most_in_flight <= 4

    async def test_without_redis_the_points_are_divided(self) -> None:
        """Each replica has its part of the points of a minute."""
        self.patch(rate_limiter, "LONGEST_WAIT_S", 0.2)
        await self.start(6, points_per_minute=60, max_in_flight=80)
        await self.lose_redis(settled_for_s=60.0)
        polling = [start(self.poll(each)) for each in self.fleet]
        await until(lambda: self.refused >= 6)
        self.stopping = True
        await DeferredList(polling, fireOnOneErrback=True, consumeErrors=True)
        assert self.github.served == dict.fromkeys(self.fleet, 10)

    async def test_without_redis_the_part_of_the_points_is_available_at_once(self) -> None:
        """Used points count for a minute, as before."""
        (one,) = await self.start(1, points_per_minute=900, max_in_flight=80)
        await self.send_all(30)
        self.server.kill()
        await until(lambda: not redis_of(one).records.servers.writing)
        await self.send_all(60)
        assert self.github.served == {one: 90}

    async def test_one_failed_renewal_does_not_raise_the_limit(self) -> None:
        """A single late or lost one does not show that Redis is unavailable."""
        (big,) = await self.start(1, max_in_flight=20)
        between = interpose(self, self.server.address)
        (small,) = await self.start(1, max_in_flight=20, server=between)
        semaphores = redis_of(small)
        mine = [await small.acquire(ALICE, "core")]
        in_flight = slots_of(small)
        theirs = [await big.acquire(ALICE, "core") for _ in range(17)]
        for accident in ("late", "lost"):
            # it befalls the next bid and no other, nor what is on its way from before
            await at_rest(*semaphores.records.servers.nodes())
            if accident == "late":
                semaphores.timeout_s = 0.25
                between.silent = True
            else:
                between.cut_after = 1
            waiting = [small.acquire(ALICE, "core")]
            while waiting[-1].called:
                waiting.append(small.acquire(ALICE, "core"))
            await until(lambda: in_flight.renewing is not None or in_flight.failures > 0)
            semaphores.timeout_s = SOON
            await until(lambda: in_flight.failures > 0)
            waiting += [small.acquire(ALICE, "core") for _ in range(10)]
            between.silent = False
            failures = in_flight.failures
            await until(lambda: not in_flight.failures)
            assert failures == 1
            assert in_flight.is_connected
            assert len(mine + theirs) + sum(each.called for each in waiting) <= 20
            for each in waiting:
                each.addErrback(lambda _: None)
                each.cancel()
        for permit in mine + theirs:
            permit.release()

    async def test_slow_redis_at_the_start_leaves_a_tenth(self) -> None:
        """Other replicas may exist; requests do not wait to learn of them."""
        (slow,) = await self.start(1, counted=False, max_in_flight=40)
        redis_of(slow).timeout_s = 0.05
        self.server.pause()
        self.addCleanup(self.server.resume)
        await self.send_all(60)
        assert self.github.most_in_flight == 40 // 10

    async def test_lease_that_was_not_returned_is_replaced(self) -> None:
        """A new semaphore of the same process replaces it."""
        (one,) = await self.start(1)
        self.patch(fleet_semaphore, "LEASE_S", 3600.0)
        await self.send_all(1)
        key = f"ghmirror:{{{ALICE}}}:b:f"
        (row,) = self.server.send("HVALS", key)
        owner = slots_of(one).owner
        await until(lambda: not one.queues.accepted)
        self.server.send("HSET", key, owner, row.replace(row.split()[0], b"0", 1))
        (await one.acquire(ALICE, "core")).release()

    async def test_single_replica_without_redis_has_the_whole_limit(self) -> None:
        """No other replica was ever counted."""
        (alone,) = await self.start(1)
        self.server.kill()
        await self.send_all(50)
        assert self.github.served == {alone: 50}
        assert self.github.most_in_flight == 8


def start(operation: Coroutine[Deferred[Any], Any, Any] | Deferred[Permit]) -> Deferred[Any]:
    """Begin, and go on before it is done."""
    return operation if isinstance(operation, Deferred) else Deferred.fromCoroutine(operation)
