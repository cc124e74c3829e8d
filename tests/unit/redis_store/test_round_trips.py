"""How often the mirror waits for Redis, counted by the server."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from ghmirror_tw.store import fleet_semaphore
from tests.harness.home import Home, open_home, reactor, until
from tests.harness.redis_servers import start_redis
from tests.harness.redis_stores import settled


class RoundTrips(TestCase):
    """One mirror, one server."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        # Commands in the background, now and then, are no part of a round trip.
        self.patch(fleet_semaphore, "_RENEW_S", 3600.0)
        self.server = start_redis(self)
        self.redis = self.server.client()
        self.addCleanup(self.redis.close)
        self.home = await self.another()
        self.github = self.home.github

    async def another(self, **more: Any) -> Home:
        host, port = self.server.address
        github = (self.github,) if hasattr(self, "home") else ()
        # One connection, so that only replies to these commands are received.
        settings = {"url": f"redis://{host}:{port}", "timeout": 30.0, "pool_size": 1, **more}
        home = await open_home(self, *github, cache={"backend": "redis"}, redis=settings)
        home.parts.store.redis.renewal_interval_s = 0.0  # each confirmation is written
        return home

    async def prepared(self) -> Home:
        """Return a mirror with content and scripts, and without a recent request of alice's."""
        home = await self.another()
        self.github.put("/other", {"b": 1})
        await home.get("/thing", token="bob-1")
        await home.get("/other", token="alice-1")
        await settled(home.parts.store)
        return home

    def counted(self) -> dict[str, int]:
        """Return the commands of clients since the last call, without scripts."""
        ours = {"evalsha", "eval", "mget", "exists", "set", "get", "del"}
        return {name: calls for name, calls in self.redis.calls().items() if name in ours}

    async def test_a_revalidation_waits_for_one_round_trip(self) -> None:
        """The look-up before the request to GitHub."""
        self.github.put("/thing", {"a": 1})
        await self.home.get("/thing", token="alice-1")
        await settled(self.home.parts.store)
        home = await self.prepared()
        barrier = self.github.hold("/thing")
        self.counted()
        sent = Deferred.fromCoroutine(home.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        # Two commands that are sent together: one round trip. The script's own are counted, too.
        assert self.counted() == {"evalsha": 1, "mget": 1, "get": 2, "exists": 1}
        self.server.pause()
        self.addCleanup(self.server.resume)
        barrier.open()
        got = await sent
        assert (got.json, got.outcome.endswith("detail=revalidated")) == ({"a": 1}, True)
        self.server.resume()
        await settled(home.parts.store)
        assert self.counted()["evalsha"] == 1

    async def test_the_commands_of_a_look_up_are_pipelined(self) -> None:
        """The server receives them in one read."""
        self.github.put("/thing", {"a": 1})
        await self.home.get("/thing", token="alice-1")
        await settled(self.home.parts.store)
        home = await self.prepared()
        before = self.redis.reads()
        await home.get("/thing", token="alice-1")
        await settled(home.parts.store)
        # one read for the look-up, one for the write, and one for our own INFO
        assert self.redis.reads() - before == 3

    async def test_a_local_copy_saves_fetching_content(self) -> None:
        """Without space for copies, content is fetched each time."""
        self.github.put("/thing", {"a": "x" * 1000})
        await self.home.get("/thing", token="alice-1")
        await settled(self.home.parts.store)
        for local_size, fetches in ((1_000_000, 1), (0, 3)):
            other = await self.another(local_size=local_size)
            await settled(other.parts.store)
            self.counted()
            for _ in range(3):
                got = await other.get("/thing", token="alice-1")
                assert got.outcome.endswith("detail=revalidated")
                await settled(other.parts.store)
            assert self.counted()["mget"] == 3 + fetches

    async def test_one_mirror_of_the_fleet_sends_a_new_request(self) -> None:
        """It is paid once for all users, or once for each if the content differs."""
        homes = [self.home, await self.another(), await self.another()]
        self.github.put("/thing", {"a": 1})
        self.github.put("/own", lambda login, _: {"of": login})
        for path, paid in (("/thing", 1), ("/own", 3)):
            self.github.reset_counts()
            sent = [
                Deferred.fromCoroutine(home.get(path, token=f"{login}-1"))
                for home in homes
                for login in ("alice", "bob", "carol")
            ]
            for response in sent:
                assert (await response).status == 200
            assert self.github.total_paid == paid

    async def test_a_404_releases_the_lock(self) -> None:
        """The next mirror sends its request."""
        self.github.put("/private", {"a": 1}, private_to=["alice"])
        other = await self.another()
        barrier = self.github.hold("/private")
        refused = Deferred.fromCoroutine(self.home.get("/private", token="bob-1"))
        await barrier.arrived(1)
        waiting = Deferred.fromCoroutine(other.get("/private", token="alice-1"))
        while not other.parts.store.locks.polls.waiting:
            await deferLater(reactor, 0)
        barrier.open()
        assert (await refused).status == 404
        assert (await waiting).json == {"a": 1}

    async def test_unstorable_keys_need_no_lock(self) -> None:
        """All mirrors know for a minute."""
        self.github.put("/thing", {"a": 1}, etag=False)
        await self.home.get("/thing", token="alice-1")
        await settled(self.home.parts.store)
        other = await self.another()
        await until(lambda: other.parts.store.history.members == 2)
        self.counted()
        assert (await other.get("/thing", token="bob-1")).json == {"a": 1}
        await settled(other.parts.store)
        # looked up, and beside it its part in what GitHub allows; nothing was claimed
        assert self.counted()["evalsha"] == 2


class Reader(TestCase):
    """A primary, and a reader endpoint whose replica lags for ever."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.primary = start_redis(self, options=[("repl-diskless-sync-delay", "0")])
        self.replica = start_redis(self, replica_of=self.primary.address)
        self.replica.wait_for("MASTER <-> REPLICA sync: Finished with success")
        self.writer = await self.another(reader=False)
        self.github = self.writer.github
        self.github.put("/thing", {"a": 1})
        await self.writer.get("/thing", token="alice-1")
        await settled(self.writer.parts.store)
        while not self.is_replicated():
            await deferLater(reactor, 0.01)
        self.reader = await self.another(reader=True)

    async def another(self, *, reader: bool) -> Home:
        host, port = self.primary.address
        github = (self.github,) if hasattr(self, "github") else ()
        redis: dict[str, Any] = {"url": f"redis://{host}:{port}", "timeout": 30.0}
        if reader:
            host, port = self.replica.address
            redis["reader_url"] = f"redis://{host}:{port}"
        cache = {"backend": "redis", "fresh_for": 600.0}
        return await open_home(self, *github, cache=cache, redis=redis)

    def is_replicated(self) -> bool:
        """Return whether the replica has received everything."""
        fields = self.primary.send("INFO", "replication").decode()
        offsets = set(re.findall(r"(?:master_repl_offset:|slave0:.*offset=)(\d+)", fields))
        return "slave0:" in fields and len(offsets) == 1

    def lag(self) -> None:
        """Stop the replication to the replica, which still replies."""
        self.replica.send("REPLICAOF", "127.0.0.1", "1")

    async def test_the_reader_replies_to_look_ups(self) -> None:
        """Content is fetched from it as well."""
        self.github.reset_counts()
        got = await self.reader.get(
            "/thing", token="alice-1", headers={"Cache-Control": "no-cache"}
        )
        assert got.outcome.endswith("detail=revalidated")
        assert self.github.total_paid == 0
        assert b"cmdstat_evalsha" in self.replica.send("INFO", "commandstats")

    async def test_a_refusal_of_another_mirror_is_respected(self) -> None:
        """The reader has not received it."""
        assert (await self.reader.get("/thing", token="alice-1")).outcome == "hit; detail=fresh"
        reader = await self.another(reader=True)
        self.lag()
        self.github.private("/thing", set())
        no_cache = {"Cache-Control": "no-cache"}
        assert (await self.writer.get("/thing", token="alice-1", headers=no_cache)).status == 404
        await settled(self.writer.parts.store)
        assert (await reader.get("/thing", token="alice-1")).status == 404

    async def test_a_refusal_of_another_mirror_prevents_stale_responses(self) -> None:
        """It is looked up on the primary while GitHub is unavailable."""
        reader = await self.another(reader=True)
        no_cache = {"Cache-Control": "no-cache"}
        self.lag()
        self.github.private("/thing", set())
        assert (await self.writer.get("/thing", token="alice-1", headers=no_cache)).status == 404
        await settled(self.writer.parts.store)
        self.github.fault("/thing", "503")
        assert (await reader.get("/thing", token="alice-1")).status == 503
        assert (await self.reader.get("/thing", token="alice-1")).status == 503

    async def test_a_grant_missing_on_the_reader(self) -> None:
        """It is looked up on the primary while GitHub is unavailable."""
        self.lag()
        self.github.put("/new", {"b": 1})
        await self.writer.get("/new", token="alice-1")
        await settled(self.writer.parts.store)
        self.github.fault("/new", "503")
        got = await self.reader.get("/new", token="alice-1")
        assert (got.status, got.json) == (200, {"b": 1})
        assert (await self.reader.get("/new", token="bob-1")).status == 503

    async def test_a_write_through_another_mirror_ends_freshness(self) -> None:
        """For its credential, in the whole fleet."""
        self.lag()
        body = b'{"query":"mutation{x}"}'
        await self.writer.send("POST", "/graphql", token="alice-1", body=body)
        await settled(self.writer.parts.store)
        got = await self.reader.get("/thing", token="alice-1")
        assert got.outcome.endswith("detail=revalidated")

    async def test_a_missing_record_costs_one_more_look_up(self) -> None:
        """The primary has it."""
        self.lag()
        self.github.put("/new", {"b": 1})
        await self.writer.get("/new", token="alice-1")
        await settled(self.writer.parts.store)
        self.github.reset_counts()
        assert (await self.reader.get("/new", token="alice-1")).json == {"b": 1}
        assert (await self.reader.get("/new", token="bob-1")).json == {"b": 1}
        assert self.github.total_paid <= 1
