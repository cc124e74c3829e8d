"""Who gets how much of a budget, in a real Redis server."""

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
from ghmirror_tw.redis_store.redis_history import History
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.redis_store.redis_semaphores import RedisSemaphores
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.store.codec import Codec
from ghmirror_tw.store.semaphore_interface import (
    Capacity,
    IFleetSemaphores,
    LeaseRequest,
    PermitLease,
)
from tests.fakes.interposer import Interposer
from tests.harness.home import reactor
from tests.harness.redis_house import DAY_S, PREFIX, SOON, node_at
from tests.harness.redis_servers import RedisServer, start_redis

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
    history = History(reactor, servers, name, lambda: False, records.change_history)
    case.addCleanup(lambda: Deferred.fromCoroutine(history.close()))
    return RedisSemaphores(records, SOON, history, **more)


class RedisSemaphoresTests(TestCase):
    """A server, and processes that bid by name; each remembers what it holds, as it must."""

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
        """Bid for *owner*, who holds what it was given unless it says less."""
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

    async def test_one_gets_what_it_needs_and_a_little_more(self) -> None:
        """But of what is left over, no more than half."""
        verifyObject(IFleetSemaphores, self.semaphores)
        lease = await self.renew("one", 4, want=10)
        assert lease == PermitLease(held=7, target=7, replicas=1)
        assert (await self.renew("one", 10)).held == 10

    async def test_together_they_never_get_more_than_there_is(self) -> None:
        """Who comes late gets what is left, and knows that it lacks some."""
        await self.renew("one", 8)
        lease = await self.renew("two", 5)
        assert (lease.held, lease.replicas, lease.contended) == (2, 2, True)

    async def test_who_has_more_than_its_part_should_let_go(self) -> None:
        """Once it says that it did, the other one gets it."""
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

    async def test_small_needs_are_met_first(self) -> None:
        """What they don't need is shared by the others; nobody holds more than it needs then."""
        await self.renew("idle", 1, want=4)
        await self.renew("big", 6)
        assert self.held == {"idle": 4, "big": 6}
        await self.renew("small", 2)
        assert (await self.renew("idle", 1, want=4)).target == 1
        assert (await self.renew("big", 6)).target == 6
        await self.renew("idle", 1, held=1)
        assert (await self.renew("small", 2)).held == 2
        assert (await self.renew("big", 9)).held == 7

    async def test_what_is_held_too_much_is_let_go(self) -> None:
        """A server that has lost everything hears of more than there is; it becomes less again."""
        one, two = (LeaseRequest(owner, 1, 8, 8, 8, 1, 100.0) for owner in ("one", "two"))
        capacity = Capacity(ALICE, "f", 10)
        await self.semaphores.renew(capacity, one)
        lease = await self.semaphores.renew(capacity, two)
        assert (lease.held, lease.target, lease.contended) == (8, 5, True)
        lease = await self.semaphores.renew(capacity, evolve(one, number=2))
        assert (lease.held, lease.target, lease.contended) == (8, 5, True)

    async def test_what_is_let_go_is_free(self) -> None:
        """And who holds nothing leaves nothing behind."""
        await self.renew("one", 10)
        await self.renew("one", 0, held=0)
        assert not self.server.ask("EXISTS", KEY)
        assert (await self.renew("two", 10)).held == 10

    async def test_who_is_not_heard_of_loses_all(self) -> None:
        """After its life, and not before; the rest goes with the last one."""
        await self.renew("dead", 10, lease_s=0.3)
        assert (await self.renew("two", 10, lease_s=0.01)).held == 0
        await deferLater(reactor, 0.31)
        del self.held["dead"]
        assert (await self.renew("two", 10, lease_s=0.01)).held == 10
        await deferLater(reactor, 0.02)
        assert not self.server.ask("EXISTS", KEY)

    async def test_a_late_bid_is_not_heard(self) -> None:
        """What a process said before doesn't undo what it has said since."""
        await self.renew("one", 9)
        late = LeaseRequest("one", 0, 2, 2, 2, 1, 100.0)
        await self.semaphores.renew(Capacity(ALICE, "f", 10), late)
        assert (await self.renew("two", 9)).held == 1

    async def test_with_less_than_one_each_they_take_turns(self) -> None:
        """Who has had its turn lets go, and is last in the queue; nobody is left out."""
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

    async def test_a_turn_is_not_cut_short(self) -> None:
        """Who waits, waits."""
        for name in ("one", "two", "three", "one", "two", "three"):
            await self.renew(name, 1, limit=2)
        assert self.held == {"one": 1, "two": 1, "three": 0}
        assert (await self.renew("one", 1, limit=2)).target == 1

    async def test_less_than_it_takes_is_not_taken(self) -> None:
        """A write needs five at a time; what is too little for it is left to others."""
        await self.renew("one", 7)
        assert (await self.renew("two", 5, least=5)).held == 0
        assert (await self.renew("three", 3)).held == 2
        assert (await self.renew("one", 7)).target == 2
        await self.renew("one", 7, held=3)
        assert (await self.renew("two", 5, least=5)).held == 5

    async def test_a_complaint_is_known_to_all(self) -> None:
        """For as long as it counts."""
        other = await open_semaphores(self, self.server)
        assert (await self.renew("one", 1)).limited_s == 0
        other.note_secondary_limit(ALICE, 3600.0)
        while not self.server.ask("EXISTS", f"{PREFIX}:{{{ALICE}}}:c"):
            await deferLater(reactor, 0)
        assert 3500 < (await self.renew("one", 1)).limited_s <= 3600

    async def test_what_is_no_budget_is_replaced(self) -> None:
        """Whatever somebody has put there."""
        self.server.ask("SET", KEY, "x")
        assert (await self.renew("one", 2)).held == 2
        self.server.ask("HSET", KEY, "nonsense", "yes", "more", "1 2 3")
        assert (await self.renew("one", 10)).held == 10
        assert self.server.ask("HLEN", KEY) == 1

    async def test_a_server_that_is_away_is_away(self) -> None:
        """It is said so, and a complaint that can't be told is no fault."""
        self.server.kill()
        self.semaphores.note_secondary_limit(ALICE, 1.0)
        with self.assertRaises(RedisUnavailableError):
            await self.renew("one", 1)
