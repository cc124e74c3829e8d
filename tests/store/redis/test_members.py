"""How many replicas share a Redis, counted in a real one."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from ghmirror_tw.store.redis import members as members_module
from ghmirror_tw.store.redis.interfaces import Unavailable
from ghmirror_tw.store.redis.members import Members
from tests.home import reactor, until
from tests.redis_house import PREFIX, SOON
from tests.redis_servers import RedisServer, start_redis
from tests.store.redis.test_budgets import open_budgets

KEY = f"{PREFIX}:{{members}}:m"


class Counted(TestCase):
    """A server, and members by name."""

    timeout = 30
    server: RedisServer

    def setUp(self) -> None:
        self.server = start_redis(self)

    async def member(self, owner: str) -> Members:
        """Return a member that has not joined."""
        budgets = await open_budgets(self, self.server)
        member = Members(reactor, budgets.records, SOON, owner)
        self.addCleanup(member.close)
        return member

    async def test_each_counts_all(self) -> None:
        """Once each, however often they write."""
        one, other = await self.member("one"), await self.member("other")
        assert one.count == 0
        for _ in range(2):
            await one.beat()
            await other.beat()
        assert (one.count, other.count) == (2, 2)
        assert set(self.server.ask("HKEYS", KEY)) == {b"one", b"other"}

    async def test_they_write_by_themselves(self) -> None:
        """As soon as Redis is there, and again and again; what ends leaves."""
        self.patch(members_module, "BEAT_S", 0.01)
        one, other = await self.member("one"), await self.member("other")
        one.open()
        other.open()
        await until(lambda: (one.count, other.count) == (2, 2))
        await other.close()
        assert self.server.ask("HKEYS", KEY) == [b"one"]

    async def test_the_dead_are_forgotten(self) -> None:
        """And the hash with the last one."""
        self.patch(members_module, "LIFE_S", 0.02)
        one, other = await self.member("one"), await self.member("other")
        await other.beat()
        await until(lambda: not self.server.ask("EXISTS", KEY))
        await one.beat()
        assert one.count == 1

    async def test_the_last_count_holds_while_redis_is_away(self) -> None:
        """And a moment longer: an emptied Redis knows of nobody at first."""
        one, other = await self.member("one"), await self.member("other")
        for each in (one, other, one):
            await each.beat()
        heard_at = one.heard_at
        self.server.ask("FLUSHALL")
        await one.beat()
        assert one.count == 2
        self.server.kill()
        await self.assertFailure(Deferred.fromCoroutine(one.beat()), Unavailable)
        assert one.count == 2
        assert one.heard_at > heard_at

    async def test_what_is_no_hash_is_replaced(self) -> None:
        """Whoever has put it there."""
        self.server.ask("SET", KEY, "x")
        one = await self.member("one")
        await one.beat()
        assert one.count == 1

    async def test_an_error_is_as_good_as_none(self) -> None:
        """Such as that of a server that is read only."""
        one = await self.member("one")
        await one.beat()
        self.server.ask("CONFIG", "SET", "min-replicas-to-write", "3")
        await self.assertFailure(Deferred.fromCoroutine(one.beat()), Unavailable)
        assert one.count == 1
