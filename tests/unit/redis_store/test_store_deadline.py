"""How long one request waits for Redis in all, and which time does not count."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from ghmirror_tw.caching.records import Known
from ghmirror_tw.redis.servers_interface import IServers
from ghmirror_tw.redis.unsharded_servers import PrimaryAndReader
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.store.failover import FailoverStore
from ghmirror_tw.store.store_interface import Deadline
from tests.harness.home import Home, MovableReactor, open_home, reactor
from tests.harness.redis_servers import start_redis
from tests.harness.redis_stores import node_at, open_store, settled, written
from tests.unit.store.store_contract import ALICE, HELD, KEY, SOON, entry, grant

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
        store.reads.lag.reactor = self.clock
        store.reads.lag.open()
        return store

    async def test_time_in_a_blocked_process_does_not_count(self) -> None:
        """The next look-up has as much time as before."""
        store = await self.store(self.server.address)
        store_deadline = Deadline(SOON)
        sent = store.look_up(KEY, ALICE, store_deadline)
        self.clock.at += HOUR_S
        assert (await sent).grant == grant(1.0)
        assert await store.fetch(KEY, (HELD.digest,), store_deadline) == {HELD.digest: HELD}

    async def test_a_clock_that_is_set_back(self) -> None:
        """It adds nothing to the time left."""
        store = await self.store(self.server.address)
        began = store.reads.lag.seconds()
        self.clock.at -= HOUR_S
        assert store.reads.elapsed_s(began) == 0

    async def test_the_primary_has_the_time_left(self) -> None:
        """The reader has no record."""
        reader = node_at(start_redis(self).address, primary=False)
        store = await self.store(PrimaryAndReader(node_at(self.server.address), reader, reactor))
        sent = store.fetch(KEY, (HELD.digest,), Deadline(SOON))
        self.clock.at += HOUR_S
        assert await sent == {HELD.digest: HELD}


class Slow(TestCase):
    """A server that responds to a look-up just in time; the content is not in memory."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        home = await self.mirror()
        self.github = home.github
        self.github.put("/thing", {"a": 1})
        await home.get("/thing", token="alice-1")
        await written(home.parts.store)
        self.slow = await self.mirror(self.github)
        self.slow.accept("alice-1")

    async def mirror(self, *github: Any) -> Home:
        host, port = self.server.address
        redis = {"url": f"redis://{host}:{port}", "timeout": SOON}
        return await open_home(self, *github, cache={"backend": "redis"}, redis=redis)

    def be_slow(self, spent_s: float) -> None:
        """Let each look-up last *spent_s*, by the clock that measures it."""
        look_up, reads = RedisRecords.look_up, self.slow.parts.store.reads
        reads.lag.close()
        clock = reads.lag.reactor = Clock()

        def spend(known: Known) -> Known:
            clock.advance(spent_s)
            return known

        def slow(records: Any, *arguments: Any, **more: Any) -> Deferred[Known]:
            return look_up(records, *arguments, **more).addCallback(spend)

        self.patch(RedisRecords, "look_up", slow)

    async def test_content_is_fetched_after_a_slow_look_up(self) -> None:
        """It would be paid again, if the fetch had only the time left."""
        self.github.reset_counts()
        self.be_slow(SOON - 1e-6)
        got = await self.slow.get("/thing", token="alice-1")
        assert (got.json, got.outcome.endswith("revalidated")) == ({"a": 1}, True)
        assert self.github.total_paid == 0

    async def test_a_stale_response_is_fetched_after_a_slow_look_up(self) -> None:
        """The client would get GitHub's error."""
        self.be_slow(SOON - 1e-6)
        self.github.fault("/thing", "503")
        got = await self.slow.get("/thing", token="alice-1")
        assert (got.status, got.json) == (200, {"a": 1})
        assert got.outcome == "fwd=stale; fwd-status=503; detail=server-error"

    async def test_nothing_is_fetched_after_a_look_up_that_was_too_slow(self) -> None:
        """Redis seems to be unavailable, and the client does not wait for it twice."""
        self.be_slow(SOON)
        self.github.reset_counts()
        got = await self.slow.get("/thing", token="alice-1")
        assert (got.status, self.github.total_paid) == (200, 1)
