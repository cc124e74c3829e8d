"""How often the mirror waits for Redis, counted by the server."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from ghmirror_tw.store import fleet_semaphore
from tests.harness.home import Home, open_home, reactor, until
from tests.harness.redis_house import settled
from tests.harness.redis_servers import start_redis


class RoundTrips(TestCase):
    """One mirror, one server."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        # What is told in the background, now and then, is nobody's round trip.
        self.patch(fleet_semaphore, "_RENEW_S", 3600.0)
        self.server = start_redis(self)
        self.redis = self.server.client()
        self.addCleanup(self.redis.close)
        self.home = await self.another()
        self.github = self.home.github

    async def another(self, **more: Any) -> Home:
        host, port = self.server.address
        github = (self.github,) if hasattr(self, "home") else ()
        # One connection, so that nothing but what is asked for comes in.
        settings = {"url": f"redis://{host}:{port}", "timeout": 30.0, "pool_size": 1, **more}
        home = await open_home(self, *github, cache={"backend": "redis"}, redis=settings)
        home.house.store.redis.renewal_interval_s = 0.0  # each confirmation is written
        return home

    async def not_just_now(self) -> Home:
        """Return a mirror that has all that it needs, and was not asked by alice just now."""
        home = await self.another()
        self.github.put("/other", {"b": 1})
        await home.get("/thing", token="bob-1")
        await home.get("/other", token="alice-1")
        await settled(home.house.store)
        return home

    def counted(self) -> dict[str, int]:
        """Return what the server has been asked by clients since the last time, without scripts."""
        ours = {"evalsha", "eval", "mget", "exists", "set", "get", "del"}
        return {name: calls for name, calls in self.redis.calls().items() if name in ours}

    async def test_a_revalidated_answer_waits_for_one(self) -> None:
        """It looks up once, before it asks GitHub; and after that, for nothing any more."""
        self.github.put("/thing", {"a": 1})
        await self.home.get("/thing", token="alice-1")
        await settled(self.home.house.store)
        home = await self.not_just_now()
        barrier = self.github.hold("/thing")
        self.counted()
        asked = Deferred.fromCoroutine(home.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        # Two commands that are sent together: one round trip. The script's own are counted, too.
        assert self.counted() == {"evalsha": 1, "mget": 1, "get": 2, "exists": 1}
        self.server.pause()
        self.addCleanup(self.server.resume)
        barrier.open()
        got = await asked
        assert (got.json, got.outcome.endswith("detail=revalidated")) == ({"a": 1}, True)
        self.server.resume()
        await settled(home.house.store)
        assert self.counted()["evalsha"] == 1

    async def test_the_commands_go_together(self) -> None:
        """The server gets them in one piece, so it is one round trip for whatever is asked."""
        self.github.put("/thing", {"a": 1})
        await self.home.get("/thing", token="alice-1")
        await settled(self.home.house.store)
        home = await self.not_just_now()
        before = self.redis.reads()
        await home.get("/thing", token="alice-1")
        await settled(home.house.store)
        # one read for the question, one for the statement, and one for our own INFO
        assert self.redis.reads() - before == 3

    async def test_a_local_copy_saves_fetching(self) -> None:
        """Content is fetched once a process, and every time where there is no room for copies."""
        self.github.put("/thing", {"a": "x" * 1000})
        await self.home.get("/thing", token="alice-1")
        await settled(self.home.house.store)
        for local_size, fetches in ((1_000_000, 1), (0, 3)):
            other = await self.another(local_size=local_size)
            await settled(other.house.store)
            self.counted()
            for _ in range(3):
                got = await other.get("/thing", token="alice-1")
                assert got.outcome.endswith("detail=revalidated")
                await settled(other.house.store)
            assert self.counted()["mget"] == 3 + fetches

    async def test_one_asker_in_the_fleet(self) -> None:
        """Of several mirrors that are asked for something new at once, one asks GitHub.

        So it is for what is the same for all, and for what differs by user; it is paid for once,
        and once a user.
        """
        homes = [self.home, await self.another(), await self.another()]
        self.github.put("/thing", {"a": 1})
        self.github.put("/own", lambda login, _: {"of": login})
        for path, paid in (("/thing", 1), ("/own", 3)):
            self.github.reset_counts()
            asked = [
                Deferred.fromCoroutine(home.get(path, token=f"{login}-1"))
                for home in homes
                for login in ("alice", "bob", "carol")
            ]
            for answer in asked:
                assert (await answer).status == 200
            assert self.github.total_paid == paid

    async def test_who_has_no_access_holds_up_nobody(self) -> None:
        """Its claim ends with its 404, and the next one asks."""
        self.github.put("/private", {"a": 1}, private_to=["alice"])
        other = await self.another()
        barrier = self.github.hold("/private")
        refused = Deferred.fromCoroutine(self.home.get("/private", token="bob-1"))
        await barrier.arrived(1)
        waiting = Deferred.fromCoroutine(other.get("/private", token="alice-1"))
        while not other.house.store.locks.polls.waiting:
            await deferLater(reactor, 0)
        barrier.open()
        assert (await refused).status == 404
        assert (await waiting).json == {"a": 1}

    async def test_what_cannot_be_stored_holds_up_nobody(self) -> None:
        """A minute long the whole fleet knows."""
        self.github.put("/thing", {"a": 1}, etag=False)
        await self.home.get("/thing", token="alice-1")
        await settled(self.home.house.store)
        other = await self.another()
        await until(lambda: other.house.store.history.members == 2)
        self.counted()
        assert (await other.get("/thing", token="bob-1")).json == {"a": 1}
        await settled(other.house.store)
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
        await settled(self.writer.house.store)
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
        """Tell whether the replica has all that the primary has."""
        told = self.primary.ask("INFO", "replication").decode()
        offsets = set(re.findall(r"(?:master_repl_offset:|slave0:.*offset=)(\d+)", told))
        return "slave0:" in told and len(offsets) == 1

    def lag(self) -> None:
        """From now on nothing reaches the replica; it goes on answering."""
        self.replica.ask("REPLICAOF", "127.0.0.1", "1")

    async def test_reads_go_to_the_reader(self) -> None:
        """What is there is used, and content too."""
        self.github.reset_counts()
        got = await self.reader.get(
            "/thing", token="alice-1", headers={"Cache-Control": "no-cache"}
        )
        assert got.outcome.endswith("detail=revalidated")
        assert self.github.total_paid == 0
        assert b"cmdstat_evalsha" in self.replica.ask("INFO", "commandstats")

    async def test_a_refusal_is_never_forgotten(self) -> None:
        """What another mirror was told is seen, though the reader does not know it yet."""
        assert (await self.reader.get("/thing", token="alice-1")).outcome == "hit; detail=fresh"
        reader = await self.another(reader=True)
        self.lag()
        self.github.private("/thing", set())
        no_cache = {"Cache-Control": "no-cache"}
        assert (await self.writer.get("/thing", token="alice-1", headers=no_cache)).status == 404
        await settled(self.writer.house.store)
        assert (await reader.get("/thing", token="alice-1")).status == 404

    async def test_a_refusal_is_never_stale(self) -> None:
        """While GitHub is away, what another mirror was refused is seen on the primary."""
        reader = await self.another(reader=True)
        no_cache = {"Cache-Control": "no-cache"}
        self.lag()
        self.github.private("/thing", set())
        assert (await self.writer.get("/thing", token="alice-1", headers=no_cache)).status == 404
        await settled(self.writer.house.store)
        self.github.fault("/thing", "503")
        assert (await reader.get("/thing", token="alice-1")).status == 503
        assert (await self.reader.get("/thing", token="alice-1")).status == 503

    async def test_a_grant_that_the_reader_lacks(self) -> None:
        """While GitHub is away, it is found on the primary."""
        self.lag()
        self.github.put("/new", {"b": 1})
        await self.writer.get("/new", token="alice-1")
        await settled(self.writer.house.store)
        self.github.fault("/new", "503")
        got = await self.reader.get("/new", token="alice-1")
        assert (got.status, got.json) == (200, {"b": 1})
        assert (await self.reader.get("/new", token="bob-1")).status == 503

    async def test_a_write_is_never_forgotten(self) -> None:
        """It ends `fresh` for the credential in the whole fleet."""
        self.lag()
        body = b'{"query":"mutation{x}"}'
        await self.writer.ask("POST", "/graphql", token="alice-1", body=body)
        await settled(self.writer.house.store)
        got = await self.reader.get("/thing", token="alice-1")
        assert got.outcome.endswith("detail=revalidated")

    async def test_it_costs_an_extra_question_at_most(self) -> None:
        """Something new on the primary alone is found when somebody wants to go first."""
        self.lag()
        self.github.put("/new", {"b": 1})
        await self.writer.get("/new", token="alice-1")
        await settled(self.writer.house.store)
        self.github.reset_counts()
        assert (await self.reader.get("/new", token="alice-1")).json == {"b": 1}
        assert (await self.reader.get("/new", token="bob-1")).json == {"b": 1}
        assert self.github.total_paid <= 1
