"""During faults of Redis clients get their responses, and the mirror uses Redis again after them.

How long requests are delayed meanwhile is measured in benchmarks/redis_faults.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from ghmirror_tw.store.record_sealing import VERSION
from tests.fakes.interposer import Interposer, interpose
from tests.harness.home import Home, open_home
from tests.harness.redis_servers import RedisServer, start_redis
from tests.harness.redis_stores import SOON, at_rest, settled, written

TOKENS = ("alice-1", "bob-1")
PATHS = tuple(f"/things/{number}" for number in range(4))


class Faults(TestCase):
    """A mirror, a real Redis server, and a proxy between them; two credentials poll."""

    server: RedisServer
    between: Interposer
    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.replies = 0
        self.server = start_redis(self)
        self.between = interpose(self, self.server.address)
        self.home = await self.another()
        self.github = self.home.github
        for path in PATHS:
            self.github.put(path, {"path": path})
        await self.poll()
        await written(self.home.parts.store)

    async def another(self, **more: Any) -> Home:
        """Start another mirror with an empty memory store on the same Redis."""
        host, port = self.between.address
        redis = {"url": f"redis://{host}:{port}", "timeout": 0.1, "pool_size": 2, **more}
        github = (self.home.github,) if hasattr(self, "home") else ()
        return await open_home(self, *github, cache={"backend": "redis"}, redis=redis)

    async def patient(self) -> Home:
        """Start another, which scans Redis for any length of time.

        A moment in which the machine has no time for Redis is none of the faults here.
        """
        return await self.another(timeout=SOON)

    async def poll(self, home: Home | None = None) -> None:
        """Send each request with each credential; all must succeed."""
        for path in PATHS:
            for token in TOKENS:
                got = await (home or self.home).get(path, token=token)
                assert (got.status, got.json) == (200, {"path": path})
                self.replies += 1

    async def until(self, *, available: bool) -> None:
        """Poll until the mirror has noticed that Redis is available, or is not."""
        while self.home.parts.store.available is not available:
            await self.poll()

    async def recovers(self) -> None:
        """Poll until Redis is in use again, and all that is owed to it is written.

        Another mirror then pays for nothing: all that the first one learned is in Redis.
        """
        await self.until(available=True)
        await written(self.home.parts.store)
        assert await self.home.metric("ghmirror_store_available") == 1
        self.github.reset_counts()
        await self.poll(await self.patient())
        assert self.github.total_paid == 0

    async def learn(self) -> None:
        """Change content while Redis is away, so that there is something to write."""
        self.github.put("/new", {"a": 1})
        for token in TOKENS:
            assert (await self.home.get("/new", token=token)).json == {"a": 1}

    async def learned(self) -> None:
        """Assert that another mirror reads the change from Redis."""
        self.github.reset_counts()
        other = await self.patient()
        for token in TOKENS:
            assert (await other.get("/new", token=token)).outcome.endswith("revalidated")
        assert self.github.total_paid == 0

    async def test_redis_is_restarted_empty(self) -> None:
        """The mirror pays for nothing again, and writes its records to Redis."""
        self.github.reset_counts()
        self.server.kill()
        await self.until(available=False)
        await self.poll()
        assert self.github.total_paid == 0
        await self.learn()
        assert await self.home.metric("ghmirror_store_available") == 0
        self.server.restart()
        await self.recovers()
        await self.learned()

    async def test_a_start_without_redis(self) -> None:
        """The memory store is used until Redis is available."""
        self.server.kill()
        self.home = await self.another()
        assert not self.home.parts.store.available
        await self.poll()
        self.github.reset_counts()
        await self.poll()
        assert self.github.total_paid == 0
        self.server.restart()
        await self.recovers()

    async def test_the_memory_store_observes_its_own_limit(self) -> None:
        """Local copies beside Redis may be larger."""
        host, port = self.between.address
        home = await open_home(
            self,
            self.home.github,
            cache={"backend": "redis"},
            redis={"url": f"redis://{host}:{port}", "timeout": 0.1},
            memory={"max_size": 1 << 20},
        )
        self.server.kill()
        while home.parts.store.available:
            await self.poll(home)
        await self.poll(home)
        self.github.reset_counts()
        await self.poll(home)
        assert self.github.total_paid == 0

    async def test_a_hanging_redis_is_used_again_when_it_continues(self) -> None:
        """It was stopped by SIGSTOP."""
        self.server.pause()
        self.addCleanup(self.server.resume)
        await self.until(available=False)
        await self.learn()
        self.server.resume()
        await self.recovers()
        await self.learned()

    async def test_full_memory_without_eviction(self) -> None:
        """Reads work, and writes are queued."""
        self.server.send("CONFIG", "SET", "maxmemory-policy", "noeviction")
        self.server.send("CONFIG", "SET", "maxmemory", "1")
        servers = self.home.parts.store.redis.servers
        while servers.writing:
            await self.poll()
        await self.learn()
        await self.poll()
        assert servers.reading
        self.server.send("CONFIG", "SET", "maxmemory", "0")
        await self.recovers()
        await self.learned()

    async def test_hardly_any_memory(self) -> None:
        """Every response is right, and none fails."""
        self.server.send("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        self.server.send("CONFIG", "SET", "maxmemory", "1")
        for _ in range(3):
            await self.poll()
        await self.learn()

    async def test_a_demoted_primary_is_read(self) -> None:
        """Writes wait for a primary."""
        self.server.send("REPLICAOF", "127.0.0.1", "1")
        servers = self.home.parts.store.redis.servers
        while servers.writing:
            await self.poll()
        await self.learn()
        self.server.send("REPLICAOF", "NO", "ONE")
        await self.recovers()
        await self.learned()

    async def test_a_replica_that_serves_no_stale_data(self) -> None:
        """The memory store is used."""
        self.server.send("CONFIG", "SET", "replica-serve-stale-data", "no")
        self.server.send("REPLICAOF", "127.0.0.1", "1")
        await self.until(available=False)
        await self.learn()
        self.server.send("REPLICAOF", "NO", "ONE")
        await self.recovers()
        await self.learned()

    async def test_a_rotated_password_needs_no_restart(self) -> None:
        """Its file is read at each connection."""
        operator = self.server.client()
        self.addCleanup(operator.close)
        path = self.password_file("old")
        operator.send("CONFIG", "SET", "requirepass", "old")
        self.home = await self.another(password_path=str(path))
        await self.poll()
        operator.send("CONFIG", "SET", "requirepass", "new")
        operator.send("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await self.until(available=False)
        await self.learn()
        self.password_file("new")
        await self.until(available=True)
        await self.poll()

    def password_file(self, password: str) -> Path:
        """Write the file with the password."""
        path = self.server.directory / "password"
        path.write_text(f"{password}\n")
        return path

    async def test_a_connection_breaks_within_a_reply(self) -> None:
        """Another connection is used, so nothing is paid."""
        self.github.reset_counts()
        for cut_after in (1, 10, 100):
            other = await self.patient()
            for home in (self.home, other):
                await at_rest(*home.parts.store.redis.servers.nodes())
            self.between.cut_after = cut_after
            await self.poll(other)
            await other.close()
            assert self.between.cut_after is None
        assert self.github.total_paid == 0
        for cut_after in (1, 10, 100):
            self.between.cut_after = cut_after
            while self.between.cut_after is not None:
                await self.poll()
        await self.recovers()

    async def test_a_server_that_is_not_redis(self) -> None:
        """An invalid reply closes the connection."""
        for reply in (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"$99999999999\r\n",
            b"*-7\r\n",
            b"\0" * 9,
        ):
            self.between.instead = reply
            while self.between.instead is not None:
                await self.poll()
        await self.recovers()

    async def test_late_replies_are_discarded(self) -> None:
        """Soon no request waits for them."""
        self.between.delay_s = 1.0
        await self.until(available=False)
        await self.learn()
        self.between.delay_s = 0.0
        await self.recovers()
        await self.learned()

    async def test_connections_without_replies(self) -> None:
        """They are accepted, and no reply ever arrives."""
        self.between.silent = True
        await self.until(available=False)
        await self.learn()
        self.between.silent = False
        await self.recovers()
        await self.learned()

    async def test_garbage_in_every_key(self) -> None:
        """The records count as missing, and are replaced."""
        for key in self.server.send("KEYS", "*"):
            self.server.send("SET", key, b"\x47\x01garbage")
        await self.poll(await self.another())
        await self.poll()
        await self.recovers()

    async def test_every_key_is_of_a_newer_version(self) -> None:
        """A mirror of an older version responds, and changes no record."""
        for key in self.server.send("KEYS", "*:[rgx]:*"):
            self.server.send("SETRANGE", key, 1, bytes([VERSION + 1]))
        before = {
            key: self.server.send("GET", key) for key in self.server.send("KEYS", "*:[rgx]:*")
        }
        await self.poll(await self.another())
        await self.poll()
        await settled(self.home.parts.store)
        assert {key: self.server.send("GET", key) for key in before} == before


class WithoutFallback(TestCase):
    """The option ``fallback = no``."""

    async def test_requests_succeed_without_storing(self) -> None:
        """Redis is used again when it is available."""
        server = start_redis(self)
        host, port = server.address
        home = await open_home(
            self,
            cache={"backend": "redis"},
            redis={"url": f"redis://{host}:{port}", "timeout": 0.1, "fallback": False},
        )
        home.github.put("/thing", {"a": 1})
        assert (await home.get("/thing", token="alice-1")).outcome.endswith("stored")
        assert (await home.get("/thing", token="alice-1")).outcome.endswith("revalidated")
        store = home.parts.store
        await settled(store)
        server.kill()
        while store.available:
            assert (await home.get("/thing", token="alice-1")).status == 200
        home.github.put("/new", {"b": 1})
        held = store.memory.records.representations
        for _ in range(2):
            assert (await home.get("/new", token="alice-1")).json == {"b": 1}
        assert home.github.total_paid >= 3
        assert store.memory.records.representations == held
        server.restart()
        while not store.available:
            assert (await home.get("/thing", token="alice-1")).status == 200
        await home.get("/new", token="alice-1")
        await settled(store)
        assert (await home.get("/new", token="alice-1")).outcome.endswith("revalidated")
