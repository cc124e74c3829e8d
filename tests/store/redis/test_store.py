"""The store in Redis keeps the rules that every store must keep, between replicas."""

from __future__ import annotations

from zope.interface.verify import verifyObject

from ghmirror_tw.store.interfaces import IStore
from tests.redis_house import open_store, settled
from tests.redis_servers import start_redis
from tests.store.contract import Contract, Rules


class Redis(Rules, Contract):
    """Two replicas, and one real server."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        self.store = await open_store(self, self.server.address)
        self.other = await open_store(self, self.server.address)

    async def settled(self) -> None:
        await settled(self.store, self.other)

    async def test_it_is_a_store(self) -> None:
        """It does all that a store does."""
        assert verifyObject(IStore, self.store)
