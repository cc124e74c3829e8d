"""Leases on permits, in a real Redis server."""

from __future__ import annotations

from secrets import token_hex
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.redis.unsharded_servers import SingleServer
from ghmirror_tw.redis_store.loss_detection import History
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.redis_store.redis_semaphores import RedisSemaphores
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.store.permit_lease_interface import (
    Capacity,
    IFleetSemaphores,
    LeaseRequest,
    PermitLease,
)
from ghmirror_tw.store.record_sealing import Codec
from tests.fakes.interposer import Interposer
from tests.harness.home import reactor
from tests.harness.redis_servers import RedisServer, start_redis
from tests.harness.redis_stores import DAY_S, PREFIX, SOON, node_at

ALICE = "a" * 32
KEY = f"{PREFIX}:{{{ALICE}}}:b:f"
#: No turn ends in a test, unless it is meant to.
NEVER_MS = 1_000_000


async def open_semaphores(
    case: TestCase, server: RedisServer | Interposer, **more: Any
) -> RedisSemaphores:
    """Return semaphores in a server, which is connected."""
    servers = SingleServer(node_at(server.address))
    records = RedisRecords(
        servers, Codec(b""), ContentThreads(reactor), reactor.seconds, PREFIX, DAY_S, DAY_S
    )
    servers.open()
    case.addCleanup(servers.close)
    await servers.settled()
    name = token_hex(8).encode()
    history = History(
        reactor, servers, name, lambda: False, records.change_history, records.note_server_clock
    )
    case.addCleanup(lambda: Deferred.fromCoroutine(history.close()))
    return RedisSemaphores(records, SOON, history, **more)


class RedisSemaphoresTests(TestCase):
    """A server, and replicas by name; the test remembers what each holds."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        self.semaphores = await open_semaphores(self, self.server, turn_ms=NEVER_MS)
        self.held: dict[str, int] = {}
        self.number = 0

    async def renew(
        self,
        owner: str,
        demand: int,
        *,
        held: int | None = None,
        want: int | None = None,
        least: int = 1,
        limit: int = 10,
        lease_s: float = 100.0,
    ) -> PermitLease:
        """Renew the lease of *owner*, with its last permits, or with *held*."""
        self.number += 1
        request = LeaseRequest(
            owner,
            self.number,
            self.held.get(owner, 0) if held is None else held,
            demand,
            demand if want is None else want,
            least,
            lease_s,
        )
        lease = await self.semaphores.renew(Capacity(ALICE, "f", limit), request)
        self.held[owner] = lease.held
        assert sum(self.held.values()) <= limit
        return lease

    async def test_lease_has_the_demand_and_some_spare_permits(self) -> None:
        """Spare ones are half of what is left at most."""
        verifyObject(IFleetSemaphores, self.semaphores)
        lease = await self.renew("one", 4, want=10)
        assert lease == PermitLease(held=7, target=7, replicas=1)
        assert (await self.renew("one", 10)).held == 10

    async def test_leases_never_exceed_the_limit(self) -> None:
        """A later replica gets what is left, and learns that it lacks some."""
        await self.renew("one", 8)
        lease = await self.renew("two", 5)
        assert (lease.held, lease.replicas, lease.contended) == (2, 2, True)

    async def test_target_falls_to_the_fair_share_under_contention(self) -> None:
        """Permits move once their holder has returned them."""
        await self.renew("one", 10)
        assert (await self.renew("two", 10)).held == 0
        lease = await self.renew("one", 10)
        assert (lease.held, lease.target, lease.contended) == (10, 5, True)
        assert (await self.renew("two", 10)).held == 0
        await self.renew("one", 10, held=6)
        assert (await self.renew("two", 10)).held == 4
        await self.renew("one", 10, held=5)
        assert (await self.renew("two", 10)).held == 5
        assert not (await self.renew("one", 10)).contended

    async def test_small_demands_are_met_first(self) -> None:
        """The others share the rest, and hold no spare permits then."""
        await self.renew("idle", 1, want=4)
        await self.renew("big", 6)
        assert self.held == {"idle": 4, "big": 6}
        await self.renew("small", 2)
        assert (await self.renew("idle", 1, want=4)).target == 1
        assert (await self.renew("big", 6)).target == 6
        await self.renew("idle", 1, held=1)
        assert (await self.renew("small", 2)).held == 2
        assert (await self.renew("big", 9)).held == 7

    async def test_server_without_memory_lowers_the_sum_to_the_limit(self) -> None:
        """Replicas report that they hold more than the limit."""
        one, two = (LeaseRequest(owner, 1, 8, 8, 8, 1, 100.0) for owner in ("one", "two"))
        capacity = Capacity(ALICE, "f", 10)
        await self.semaphores.renew(capacity, one)
        lease = await self.semaphores.renew(capacity, two)
        assert (lease.held, lease.target, lease.contended) == (8, 5, True)
        lease = await self.semaphores.renew(capacity, evolve(one, number=2))
        assert (lease.held, lease.target, lease.contended) == (8, 5, True)

    async def test_returned_permits_are_free(self) -> None:
        """A replica without permits leaves no row."""
        await self.renew("one", 10)
        await self.renew("one", 0, held=0)
        assert not self.server.send("EXISTS", KEY)
        assert (await self.renew("two", 10)).held == 10

    async def test_lease_without_renewal_ends(self) -> None:
        """At its end and not before; the key is deleted with the last lease."""
        await self.renew("dead", 10, lease_s=0.3)
        assert (await self.renew("two", 10, lease_s=0.01)).held == 0
        await deferLater(reactor, 0.31)
        del self.held["dead"]
        assert (await self.renew("two", 10, lease_s=0.01)).held == 10
        await deferLater(reactor, 0.02)
        assert not self.server.send("EXISTS", KEY)

    async def test_delayed_request_changes_nothing(self) -> None:
        """Requests of a replica may arrive out of order."""
        await self.renew("one", 9)
        late = LeaseRequest("one", 0, 2, 2, 2, 1, 100.0)
        await self.semaphores.renew(Capacity(ALICE, "f", 10), late)
        assert (await self.renew("two", 9)).held == 1

    async def test_more_replicas_than_permits_alternate(self) -> None:
        """A replica that has received permits moves to the end of the queue."""
        self.semaphores.turn_ms = 0
        names = [f"p{number}" for number in range(7)]
        turns = dict.fromkeys(names, 0)
        for time in range(20):
            for name in names:
                lease = await self.renew(name, 3, limit=2)
                turns[name] += lease.held
                assert lease.contended or not time
                if lease.target < lease.held:
                    await self.renew(name, 3, held=lease.target, limit=2)
        assert min(turns.values()) * 2 >= max(turns.values()) > 0

    async def test_turn_is_not_cut_short(self) -> None:
        """Other replicas wait."""
        for name in ("one", "two", "three", "one", "two", "three"):
            await self.renew(name, 1, limit=2)
        assert self.held == {"one": 1, "two": 1, "three": 0}
        assert (await self.renew("one", 1, limit=2)).target == 1

    async def test_fewer_permits_than_the_least_are_left_to_others(self) -> None:
        """A write needs five points at once."""
        await self.renew("one", 7)
        assert (await self.renew("two", 5, least=5)).held == 0
        assert (await self.renew("three", 3)).held == 2
        assert (await self.renew("one", 7)).target == 2
        await self.renew("one", 7, held=3)
        assert (await self.renew("two", 5, least=5)).held == 5

    async def test_secondary_limit_is_known_to_all_replicas(self) -> None:
        """For as long as it counts."""
        other = await open_semaphores(self, self.server)
        assert (await self.renew("one", 1)).limited_s == 0
        other.note_secondary_limit(ALICE, 3600.0)
        while not self.server.send("EXISTS", f"{PREFIX}:{{{ALICE}}}:c"):
            await deferLater(reactor, 0)
        assert 3500 < (await self.renew("one", 1)).limited_s <= 3600

    async def test_unreadable_rows_are_replaced(self) -> None:
        """With any content."""
        self.server.send("SET", KEY, "x")
        assert (await self.renew("one", 2)).held == 2
        self.server.send("HSET", KEY, "nonsense", "yes", "more", "1 2 3")
        assert (await self.renew("one", 10)).held == 10
        assert self.server.send("HLEN", KEY) == 1

    async def test_unreachable_server_fails_the_request(self) -> None:
        """A note of a secondary limit that cannot be stored is no failure."""
        self.server.kill()
        self.semaphores.note_secondary_limit(ALICE, 1.0)
        with self.assertRaises(RedisUnavailableError):
            await self.renew("one", 1)
