"""After a credential's own write, nothing older than the write is served to that credential."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from tests.home import Home, open_home, start
from tests.redis_house import settled
from tests.redis_servers import start_redis
from tests.timers import with_timers

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
        await self.home.ask("POST", "/list", token="alice-1", body=b"{}")
        self.github.fault(None, "503")
        for target in ("/list", "/thing"):
            assert (await self.home.get(target, token="alice-1")).status == 503
            assert (await self.home.get(target, token="bob-1")).outcome == STALE

    async def test_a_failed_write_counts(self) -> None:
        """The response is lost, and nobody knows what GitHub did before."""
        wrong = self.github.fault("/list", "reset")
        assert (await self.home.ask("POST", "/list", token="alice-1", body=b"{}")).status == 502
        wrong.end()
        self.github.fault(None, "503")
        assert (await self.home.get("/thing", token="alice-1")).status == 503

    async def test_a_validation_after_the_write_makes_it_usable_again(self) -> None:
        """The grant is then younger than the write."""
        await self.home.ask("POST", "/list", token="alice-1", body=b"{}")
        await self.home.get("/list", token="alice-1")
        self.github.fault(None, "503")
        assert (await self.home.get("/list", token="alice-1")).outcome == STALE
        assert (await self.home.get("/thing", token="alice-1")).status == 503

    async def test_slow_github(self) -> None:
        """The client waits for GitHub, however long, and gets what the write made of the list."""
        timers = with_timers(self.home)
        await self.home.ask("POST", "/list", token="alice-1", body=b"{}")
        gate = self.github.hold("/list")
        asked = start(self.home.get("/list", token="alice-1"))
        await gate.arrived(1)
        timers.end_shortest()
        gate.open()
        got = await asked
        assert (len(got.json), got.field("x-from-cache")) == (2, None)


class OwnWritesInTheFleet(TestCase):
    """Two replicas on one Redis."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        host, port = start_redis(self).address
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
        await settled(self.one.house.store, self.other.house.store)

    async def test_a_write_through_one_counts_in_the_other(self) -> None:
        """Neither fresh nor stale, though the other replica has the grant in memory."""
        await self.one.ask("PATCH", "/thing", token="alice-1", body=b'{"a":2}')
        wrong = self.github.fault("/thing", "503")
        assert (await self.other.get("/thing", token="alice-1")).status == 503
        wrong.end()
        got = await self.other.get("/thing", token="alice-1")
        assert got.json == {"a": 2}
