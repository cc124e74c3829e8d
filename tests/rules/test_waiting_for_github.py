"""The rules of waiting for GitHub, with and without a stale response."""

from __future__ import annotations

from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.harness.home import open_home, reactor, start


class Waiting(TestCase):
    """Cases that have failed under load."""

    async def test_timeout_without_a_stored_response(self) -> None:
        """A client without a stale response waits for GitHub as long as any other."""
        home = await open_home(self, cache={"stale_limit": 0.0}, github={"stale_after": 0.01})
        home.github.put("/thing", {"a": 1})
        assert (await home.get("/thing", token="alice-1")).status == 200
        barrier = home.github.hold("/thing")
        late = start(home.get("/thing", token="alice-1"))
        await barrier.arrived()
        for _ in range(5):  # longer than `stale_after`
            await deferLater(reactor, 0.01)
        assert not late.called
        barrier.open()
        got = await late
        assert (got.status, got.json) == (200, {"a": 1})
        assert len(home.github.exchanges("/thing")) == 2

    async def test_rate_limit_met_by_head(self) -> None:
        """A rate limit met without content stops the next request with readable content."""
        home = await open_home(self)
        home.github.put("/thing", {"a": 1})
        home.github.fault("/thing", "secondary-limit", times=1)
        gzip = {"Accept-Encoding": "gzip"}
        head = await home.send("HEAD", "/thing", token="alice-1", headers=gzip)
        assert (head.status, head.content) == (403, b"")
        for headers in ({}, gzip):
            got = await home.get("/thing", token="alice-1", headers=headers)
            assert got.status == 403
            assert "secondary rate limit" in got.json["message"]

    async def test_rate_limit_with_broken_content(self) -> None:
        """They are not repeated for as long as the limit lasts."""
        home = await open_home(self)
        home.github.put("/thing", {"a": 1})
        home.github.set_quota("alice", remaining=0)
        home.github.fault("/thing", "bad-gzip", times=1)
        await home.get("/thing", token="alice-1")
        got = await home.get("/thing", token="alice-1")
        assert got.status == 403
        assert "rate limit" in got.json["message"]
        assert len(home.github.exchanges("/thing")) == 1
