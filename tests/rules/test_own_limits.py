"""The limits of the mirror itself: in flight, points a minute, the reserve."""

from __future__ import annotations

from twisted.internet.defer import DeferredList
from twisted.trial.unittest import TestCase

from ghmirror_tw.upstream import rate_limiter
from tests.harness.home import Home, open_github, open_home, start, until
from tests.harness.redis_servers import start_redis

NO_GUESS = {"Cache-Control": "no-cache"}


class SelfLimiting(TestCase):
    """Mirrors before one GitHub, which counts the requests of each token."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.github = await open_github(self)
        for number in range(30):
            self.github.put(f"/things/{number}", {"number": number})

    async def fleet(self, count: int, **github: object) -> list[Home]:
        """Start mirrors that share a Redis."""
        host, port = start_redis(self).address
        redis = {"url": f"redis://{host}:{port}", "timeout": 60.0}
        return [
            await open_home(
                self, self.github, cache={"backend": "redis"}, redis=redis, github=github
            )
            for _ in range(count)
        ]

    async def test_fleet_observes_the_limit_of_requests_in_flight(self) -> None:
        """By token, until the end of the response; all have responses."""
        self.github.delay_s = 0.02
        homes = await self.fleet(3, max_in_flight_per_credential=4)
        sent = [
            start(home.get(f"/things/{number}", token=token))
            for home in homes
            for number in range(10)
            for token in ("alice-1", "bob-1")
        ]
        for _, got in await DeferredList(sent, fireOnOneErrback=True, consumeErrors=True):
            assert got.status == 200
        assert max(self.github.most_in_flight.values()) <= 4

    async def test_fleet_observes_the_points_of_a_minute(self) -> None:
        """A request that would wait too long gets a 503 with `Retry-After`."""
        self.patch(rate_limiter, "LONGEST_WAIT_S", 1.0)
        homes = await self.fleet(2, points_per_minute=10)
        sent = [
            start(home.get(f"/things/{number}", token="alice-1"))
            for home in homes
            for number in range(10)
        ]
        got = [each for _, each in await DeferredList(sent, fireOnOneErrback=True)]
        refused = [each for each in got if each.status == 503]
        assert refused
        assert all(0 < int(each.field("retry-after") or 0) <= 60 for each in refused)
        assert self.github.most_points_in_minute["alice-1", "rest"] <= 10
        assert (await homes[0].get("/things/1", token="bob-1")).status == 200

    async def test_secondary_limit_begins_the_count_of_points(self) -> None:
        """For an hour, for that token."""
        home = await open_home(self, self.github)
        self.github.fault("/things/1", "secondary-limit", times=1)
        assert (await home.get("/things/1", token="alice-1")).status == 403
        names, points = home.parts.mirror.credentials.names, home.parts.limiter.points
        assert points.counts(names.name(b"token alice-1"))
        assert not points.counts(names.name(b"token bob-1"))

    async def test_reserve_rejects_reads_that_cost(self) -> None:
        """Reads that may be confirmed at no cost are sent, and so are writes."""
        home = await open_home(self, self.github, github={"reserve": 4999})
        assert (await home.get("/things/1", token="alice-1")).status == 200
        got = await home.get("/things/2", token="alice-1", headers=NO_GUESS)
        assert (got.status, got.outcome.rpartition("=")[2]) == (503, "reserve")
        assert 0 < int(got.field("retry-after") or 0) <= 3600
        assert (await home.get("/things/1", token="alice-1", headers=NO_GUESS)).status == 200
        patched = await home.send("PATCH", "/things/2", token="alice-1", body=b"{}")
        assert patched.status == 200
        assert (await home.get("/rate_limit", token="alice-1")).status == 200
        assert (await home.get("/things/2", token="bob-1", headers=NO_GUESS)).status == 200

    async def test_credentials_share_the_connections_in_turn(self) -> None:
        """Many requests of one do not delay those of another."""
        home = await open_home(self, self.github, github={"max_connections": 1})
        barrier = self.github.hold()
        sent = [start(home.get(f"/things/{number}", token="alice-1")) for number in range(9)]
        await barrier.arrived(1)
        await until(lambda: home.parts.limiter.waiting == 8)
        bob = start(home.get("/things/20", token="bob-1"))
        await until(lambda: home.parts.limiter.waiting == 9)
        for _ in range(2):
            assert not self.github.exchanges("/things/20")
            barrier.release()
            await barrier.arrived(1)
        barrier.release()
        await until(lambda: bob.called)
        barrier.open()
        await DeferredList([*sent, bob], fireOnOneErrback=True, consumeErrors=True)
        assert self.github.most_in_flight["alice-1"] == 1
