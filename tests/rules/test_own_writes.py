"""After a credential's own write, nothing older than the write is served to that credential."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from ghmirror_tw.store import record_names
from tests.harness.home import Home, open_home, start, until
from tests.harness.redis_servers import start_redis
from tests.harness.redis_stores import settled

STALE = "fwd=stale; fwd-status=503; detail=server-error"


class OwnWrites(TestCase):
    """One replica; alice has a grant."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github
        self.github.put("/thing", {"a": 1})
        self.github.put_list("/list", [{"n": 1}])
        for target in ("/thing", "/list"):
            for token in ("alice-1", "bob-1"):
                await self.home.get(target, token=token)

    async def test_no_stale_response_from_before_the_write(self) -> None:
        """Not after a 5xx; other credentials still get theirs."""
        await self.home.send("POST", "/list", token="alice-1", body=b"{}")
        self.github.fault(None, "503")
        for target in ("/list", "/thing"):
            assert (await self.home.get(target, token="alice-1")).status == 503
            assert (await self.home.get(target, token="bob-1")).outcome == STALE

    async def test_a_failed_write_counts(self) -> None:
        """Its response is lost, and GitHub may have made the change."""
        wrong = self.github.fault("/list", "reset")
        assert (await self.home.send("POST", "/list", token="alice-1", body=b"{}")).status == 502
        wrong.end()
        self.github.fault(None, "503")
        assert (await self.home.get("/thing", token="alice-1")).status == 503

    async def test_unsent_write_ends_nothing(self) -> None:
        """It met a limit, was not sent for it, or there was no connection."""
        self.github.fault("/list", "primary-limit", times=1)
        for status in (403, 403):
            got = await self.home.send("POST", "/list", token="alice-1", body=b"{}")
            assert got.status == status
            got = await self.home.get("/list", token="alice-1")
            assert got.outcome == "hit; detail=primary-limit"
        self.home.move_on(3601.0)
        await self.github.close()
        got = await self.home.send("POST", "/list", token="alice-1", body=b"{}")
        assert got.status == 502
        got = await self.home.get("/list", token="alice-1")
        assert got.outcome == "fwd=stale; detail=connect-error"

    async def test_validation_after_the_write_permits_stale_responses_again(self) -> None:
        """The grant is then younger than the write."""
        await self.home.send("POST", "/list", token="alice-1", body=b"{}")
        await self.home.get("/list", token="alice-1")
        self.github.fault(None, "503")
        assert (await self.home.get("/list", token="alice-1")).outcome == STALE
        assert (await self.home.get("/thing", token="alice-1")).status == 503

    async def test_slow_github(self) -> None:
        """The client waits for GitHub, however long, and gets what the write made of the list."""
        await self.home.send("POST", "/list", token="alice-1", body=b"{}")
        barrier = self.github.hold("/list")
        sent = start(self.home.get("/list", token="alice-1"))
        await barrier.arrived(1)
        self.home.move_on(6.0)
        assert not sent.called
        barrier.open()
        got = await sent
        assert (len(got.json), got.field("x-from-cache")) == (2, None)


class OwnWritesInTheFleet(TestCase):
    """Two replicas on one Redis."""

    timeout = 30

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        host, port = self.server.address
        options: dict[str, dict[str, Any]] = {
            "cache": {"backend": "redis", "fresh_for": 60.0},
            "redis": {"url": f"redis://{host}:{port}", "timeout": 30.0},
        }
        self.one: Home = await open_home(self, **options)
        self.github = self.one.github
        self.other: Home = await open_home(self, self.github, **options)
        self.github.put("/thing", {"a": 1})
        for home in (self.one, self.other):
            await home.get("/thing", token="alice-1")
        await settled(self.one.parts.store, self.other.parts.store)
        self.alice = self.one.parts.mirror.credentials.names.name(b"token alice-1")

    async def test_write_through_one_replica_ends_stale_responses_of_the_other(self) -> None:
        """Neither fresh nor stale, though the other replica has the grant in memory."""
        await self.one.send("PATCH", "/thing", token="alice-1", body=b'{"a":2}')
        wrong = self.github.fault("/thing", "503")
        assert (await self.other.get("/thing", token="alice-1")).status == 503
        wrong.end()
        got = await self.other.get("/thing", token="alice-1")
        assert got.json == {"a": 2}

    async def test_write_is_confirmed_when_all_replicas_can_know_of_it(self) -> None:
        """Else the client's next request, through another replica, would be too early."""
        barrier = self.github.hold("/thing")
        write = start(self.one.send("PATCH", "/thing", token="alice-1", body=b'{"a":2}'))
        await barrier.arrived(1)
        await settled(self.one.parts.store)
        self.server.send("CLIENT", "PAUSE", "60000", "WRITE")
        barrier.open()
        await until(lambda: self.github.log[-1].method == b"PATCH")
        for _ in range(5):
            await self.one.admin("/metrics")
        assert not write.called
        self.server.send("CLIENT", "UNPAUSE")
        assert (await write).status == 200
        records = self.one.parts.redis.redis  # type: ignore[union-attr]
        name = record_names.epoch(self.alice)
        (key,) = self.server.send("KEYS", f"*{{{self.alice}}}:e:*")
        assert key == b"ghmirror:" + name
        epoch = records.opened_epoch(self.alice, self.server.send("GET", key))
        assert epoch == self.one.parts.memory.epoch(self.alice)

    async def test_unresponsive_redis_delays_a_write_for_a_bounded_time(self) -> None:
        """No longer than any request may wait for Redis."""
        self.one.parts.redis.timeout_s = 0.05  # type: ignore[union-attr]
        barrier = self.github.hold("/thing")
        write = start(self.one.send("PATCH", "/thing", token="alice-1", body=b'{"a":2}'))
        await barrier.arrived(1)
        self.server.send("CLIENT", "PAUSE", "60000", "WRITE")
        barrier.open()
        got = await write
        self.server.send("CLIENT", "UNPAUSE")
        assert got.status == 200

    async def test_write_through_one_replica_begins_a_generation_in_the_other(self) -> None:
        """As soon as it is read: proofs and flights from before it are not used any more."""
        mirror = self.other.parts.mirror
        before = mirror.epochs.generations.of(self.alice)
        await self.one.send("PATCH", "/thing", token="alice-1", body=b'{"a":2}')
        await self.other.get("/thing", token="alice-1")
        after = mirror.epochs.generations.of(self.alice)
        assert after > before
        await self.other.get("/thing", token="alice-1")
        assert mirror.epochs.generations.of(self.alice) == after

    async def test_request_times_are_later_than_all_times_read(self) -> None:
        """Though the clock of the other replica is ahead."""
        self.one.move_on(600.0)
        await self.one.get("/thing", token="alice-1")
        await settled(self.one.parts.store)
        await self.other.get("/thing", token="alice-1")
        assert self.other.parts.mirror.epochs.tick() > self.one.parts.mirror.now() - 1.0
