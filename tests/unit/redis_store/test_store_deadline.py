"""How long one request waits for Redis in all, and which time does not count."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from ghmirror_tw.redis.servers_interface import IServers
from ghmirror_tw.redis.unsharded_servers import PrimaryAndReader
from ghmirror_tw.store.failover import FailoverStore
from ghmirror_tw.store.store_interface import Deadline
from tests.harness.home import MovableReactor, reactor
from tests.harness.redis_servers import start_redis
from tests.harness.redis_stores import node_at, open_store, settled
from tests.unit.store.contract import ALICE, HELD, KEY, SOON, entry, grant

HOUR_S = 3600.0


class Blocked(TestCase):
    """A process that is blocked after it has sent a command, before it reads the reply."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        store = await open_store(self, self.server.address)
        store.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        await settled(store)
        self.clock = MovableReactor(reactor, reactor.seconds())

    async def store(self, servers: IServers | tuple[str, int]) -> FailoverStore:
        """Return a store with an empty memory, on a clock of the test's own."""
        store = await open_store(self, servers, local_size=0)
        store.reads.lag.close()
        store.reads.lag.reactor, store.reads.clock = self.clock, self.clock.seconds
        store.reads.lag.open()
        return store

    async def test_time_in_a_blocked_process_does_not_count(self) -> None:
        """The next look-up has as much time as before."""
        store = await self.store(self.server.address)
        store_deadline = Deadline(SOON)
        asked = store.look_up(KEY, ALICE, store_deadline)
        self.clock.at += HOUR_S
        assert (await asked).grant == grant(1.0)
        assert await store.fetch(KEY, (HELD.digest,), store_deadline) == {HELD.digest: HELD}

    async def test_a_clock_that_is_set_back(self) -> None:
        """Lag that is subtracted with it does not count for Redis."""
        store = await self.store(self.server.address)
        began, more_lag_s = store.reads.clock(), store.reads.lag.total_s + HOUR_S
        self.clock.at += 1.0
        assert 1.0 <= store.reads.elapsed_s(began, more_lag_s) < 2.0

    async def test_the_primary_has_the_time_left(self) -> None:
        """The reader has no record."""
        reader = node_at(start_redis(self).address, primary=False)
        store = await self.store(PrimaryAndReader(node_at(self.server.address), reader, reactor))
        asked = store.fetch(KEY, (HELD.digest,), Deadline(SOON))
        self.clock.at += HOUR_S
        assert await asked == {HELD.digest: HELD}
