"""Confirmations are written together at the end of an iteration of the reactor, in order."""

from __future__ import annotations

import random

from attrs import evolve
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Grant, Known
from ghmirror_tw.redis.unsharded_servers import SingleServer
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.store import record_names
from ghmirror_tw.store.store_interface import Deadline
from tests.harness.home import reactor
from tests.harness.redis_servers import start_redis
from tests.harness.redis_sets import open_cluster
from tests.harness.redis_stores import node_at, open_store, settled, written
from tests.unit.redis.test_cluster import working
from tests.unit.store.store_contract import ALICE, BOB, HELD, KEY, entry, grant

KEYS = [CacheKey(b"/%d" % number) for number in range(20)]


class SingleConnection(TestCase):
    """One connection to one server."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        self.node = node_at(self.server.address, pool_size=1)
        self.store = await open_store(self, SingleServer(self.node))
        while self.under_way():  # its own figures
            await deferLater(reactor, 0.0)

    def under_way(self) -> int:
        """Return the number of commands without a reply."""
        return sum(len(connection.sent) for connection in self.node.pool.connections)

    async def granted(self, key: CacheKey, credential: str = ALICE) -> Grant | None:
        """Return the grant in Redis, without this process's own memory."""
        known: Known = await self.store.redis.look_up(key, credential, 60.0, current=True)
        return known.grant

    async def test_many_are_sent_together(self) -> None:
        """At the end of the iteration, and none before."""
        for key in KEYS:
            self.store.freshen(key, ALICE, grant(2.0), entry(2.0))
        assert self.under_way() == 0
        assert self.store.writes.in_flight == len(KEYS)
        await deferLater(reactor, 0.0)
        assert self.under_way() == len(KEYS)
        await settled(self.store)
        for key in KEYS:
            assert await self.granted(key) == grant(2.0)

    async def test_a_look_up_of_the_same_key_is_sent_after_them(self) -> None:
        """By any credential; look-ups of other keys are independent."""
        for credential in (ALICE, BOB):
            self.store.freshen(KEY, ALICE, grant(2.0), entry(2.0))
            other = self.store.look_up(KEYS[0], ALICE, Deadline(60.0))
            assert self.under_way() == 2
            same = self.store.look_up(KEY, credential, Deadline(60.0))
            assert self.under_way() == 2 + 1 + 2
            known = [await other, await same]
            assert [len(each.entries) for each in known] == [0, 1]
            await settled(self.store)

    async def test_a_refusal_is_sent_after_them(self) -> None:
        """At once."""
        self.store.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        await settled(self.store)
        self.store.freshen(KEY, ALICE, grant(2.0), entry(2.0))
        self.store.deny(KEY, ALICE, 3.0)
        assert self.under_way() == 2
        await settled(self.store)
        assert await self.granted(KEY) is None

    async def test_an_unavailable_redis_queues_them_at_once(self) -> None:
        """Without waiting for the end of the iteration."""
        self.server.kill()
        while self.store.available:
            await deferLater(reactor, 0.01)
        self.store.freshen(KEY, ALICE, grant(2.0), entry(2.0))
        assert len(self.store.writes.queue) == 1
        assert not self.store.writes.in_flight

    async def test_queued_writes_count_as_part_of_the_memory_store(self) -> None:
        """With their targets and links, which clients and GitHub choose."""
        self.server.kill()
        while self.store.available:
            await deferLater(reactor, 0.01)
        queue, link = self.store.writes.queue, b"<" + b"x" * 5_000 + b'>; rel="next"'
        of_page = evolve(grant(2.0), link=link)
        self.store.freshen(KEY, ALICE, of_page, entry(2.0, link=link))
        assert queue.size > 2 * len(link)
        assert self.store.memory.max_size == self.store.sizes.instead - queue.size
        long = CacheKey(b"/" + b"x" * 8_000)
        most = self.store.sizes.instead // 8
        for number in range(most // 8_000 + 1):
            self.store.deny(long, f"{number:032x}", 2.0)
        assert 10_000 < queue.size < most + 2 * len(link) + 10_000
        assert self.store.memory.max_size == self.store.sizes.instead - queue.size

    async def test_a_connection_lost_at_the_end_queues_them(self) -> None:
        """Redis became unavailable in that iteration."""
        for key in KEYS:
            self.store.freshen(key, ALICE, grant(2.0), entry(2.0))
        self.node.pool.connections[0].abort("this is a test")
        await settled(self.store)
        assert len(self.store.writes.queue) == len(KEYS)
        await written(self.store)
        assert await self.granted(KEYS[-1]) == grant(2.0)

    async def test_closing_the_store_writes_them(self) -> None:
        """All of them are in Redis then."""
        self.store.freshen(KEY, ALICE, grant(2.0), entry(2.0))
        await self.store.close()
        later = await open_store(self, self.server.address)
        known = await later.look_up(KEY, ALICE, Deadline(60.0))
        assert known.grant == grant(2.0)

    async def test_closing_writes_lost_content(self) -> None:
        """Large content as well, which is sealed in a thread."""
        size = 300 * 1024
        large = evolve(HELD, packed=random.Random(1).randbytes(size), size=size)
        self.store.store_response(KEY, ALICE, large, grant(1.0), entry(1.0))
        await settled(self.store)
        name = self.store.redis.key(record_names.representation(KEY, large.digest)).decode()
        assert self.server.send("DEL", name) == 1
        self.store.freshen(KEY, ALICE, grant(2.0), entry(2.0))
        await self.store.close()
        assert self.server.send("EXISTS", name) == 1
        assert not self.store.writes.queue

    async def test_an_error_queues_one_of_them(self) -> None:
        """The others are written."""
        patch = self.patch(RedisRecords, "life", lambda _self, _seconds: b"never")
        self.store.freshen(KEY, ALICE, grant(2.0), entry(2.0))
        patch.restore()
        for key in KEYS:
            self.store.freshen(key, ALICE, grant(2.0), entry(2.0))
        await settled(self.store)
        assert self.store.available
        for key in KEYS:
            assert await self.granted(key) == grant(2.0)
        await written(self.store)
        assert await self.granted(KEY) == grant(2.0)


class Sharded(TestCase):
    """A cluster."""

    async def test_each_shard_receives_its_own(self) -> None:
        """No command is redirected."""
        servers = await open_cluster(self)
        store = await open_store(self, await working(self, servers))

        def redirected() -> list[str]:
            """Return how many commands each server has redirected."""
            text = (server.send("INFO", "errorstats").decode() for server in servers.servers)
            return [line for each in text for line in each.split() if "MOVED" in line]

        before = redirected()
        for key in KEYS:
            store.freshen(key, ALICE, grant(2.0), entry(2.0))
        await settled(store)
        for key in KEYS:
            known = await store.redis.look_up(key, ALICE, 60.0, current=True)
            assert known.grant == grant(2.0)
        assert redirected() == before
