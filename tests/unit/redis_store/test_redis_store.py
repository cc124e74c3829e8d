"""The rules of every store, for replicas on one Redis."""

from __future__ import annotations

from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from ghmirror_tw.redis.server_statistics import total
from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.store.store_interface import IStore
from tests.harness.home import reactor
from tests.harness.redis_servers import start_redis
from tests.harness.redis_stores import open_store, settled
from tests.unit.store.store_contract import Contract, Rules


class Redis(Rules, Contract):
    """Two replicas and one real server."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        self.store = await open_store(self, self.server.address)
        self.other = await open_store(self, self.server.address)

    async def settled(self) -> None:
        await settled(self.store, self.other)

    async def test_it_is_a_store(self) -> None:
        """It implements the interface."""
        assert verifyObject(IStore, self.store)


class Statistics(TestCase):
    """Statistics of the servers."""

    async def test_the_statistics_are_sums_over_servers(self) -> None:
        """Unknown while a server is unavailable."""
        server = start_redis(self)
        store = await open_store(self, server.address)
        await store.figures.read()
        assert (store.figures.used_bytes or 0) > 100_000
        assert store.figures.evictions == 0
        server.kill()
        while store.available:
            await deferLater(reactor, 0.01)
        try:
            await store.figures.read()
        except RedisUnavailableError:
            assert store.figures.used_bytes is None
        assert total("used_memory", [b"a:1\r\nused_memory:5\r\n", b"used_memory:7", None]) == 12
        assert total("used_memory", [b"used_memory_rss:5"]) is None
        assert total("used_memory", [b"used_memory:" + b"9" * 5_000]) is None
