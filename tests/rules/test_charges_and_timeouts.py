"""The rules of what is counted: 304s that were charged for, and requests that timed out."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import TestCase

from tests.fakes.github import GitHub
from tests.harness.home import Home, Received, open_home, start, until
from tests.harness.timers import with_timers

SPENT = 'ghmirror_quota_spent_total{user="alice"}'
SAVED = 'ghmirror_quota_saved_total{user="alice"}'
UNKNOWN = "ghmirror_quota_unknown_total"


class Charged(TestCase):
    """One mirror; alice is known, and has a grant."""

    home: Home
    github: GitHub

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github
        self.github.put("/thing", {"a": 1})
        for path in ("/user", "/thing"):
            await self.get(path)

    async def get(self, target: str, token: str = "alice-1", **more: Any) -> Received:
        return await self.home.get(target, token=token, **more)

    async def charges(self) -> Any:
        return json.loads((await self.home.admin("/status.json")).content)["charges"]

    async def test_charged_304_is_counted(self) -> None:
        """It is spent and not saved, and shown."""
        spent, saved = await self.home.metric(SPENT), await self.home.metric(SAVED)
        quota = self.github.quota("alice")
        for _ in range(2):
            assert (await self.get("/thing")).outcome.endswith("detail=revalidated")
        assert await self.home.metric(SAVED) == saved + 2
        for _ in range(2):
            quota.used += 1
            assert (await self.get("/thing")).outcome.endswith("detail=revalidated")
        assert await self.home.metric(SPENT) == spent + 2
        assert await self.home.metric(SAVED) == saved + 2
        assert await self.charges() == {"not_modified": 2, "unknown": 0}

    async def test_304_charged_by_others_is_not_counted(self) -> None:
        """More than one, or beside something else that is under way."""
        quota = self.github.quota("alice")
        quota.used += 2
        await self.get("/thing")
        barrier = self.github.hold("/slow")
        self.github.put("/slow", {"a": 1})
        slow = start(self.get("/slow"))
        await barrier.arrived(1)
        quota.used += 1
        await self.get("/thing")
        barrier.open()
        await slow
        assert (await self.charges())["not_modified"] == 0


class TimesOut(TestCase):
    """One mirror whose clocks can be pushed on; alice and bob have a grant."""

    home: Home
    github: GitHub

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github
        self.timers = with_timers(self.home)
        self.github.put("/thing", {"a": 1})
        for token in ("alice-1", "bob-1"):
            await self.home.get("/thing", token=token)
        self.github.log.clear()

    async def slow_504(self, token: str = "carol-1") -> None:
        """Send a request whose response is GitHub's 504, after ten seconds."""
        barrier = self.github.hold("/thing")
        wrong = self.github.fault("/thing", "504", times=1)
        sent = start(self.home.get("/thing", token=token))
        await barrier.arrived(1)
        self.home.move_on(10.0)
        barrier.open()
        await sent
        assert wrong.seen == 1

    async def test_timeouts_of_github_begin_a_backoff(self) -> None:
        """After the second timeout not all clients send it at once: one of them is the probe."""
        for token in ("carol-1", "carol-2"):
            await self.slow_504(token)
        assert await self.home.metric(UNKNOWN) == 2
        self.github.log.clear()
        for token in ("alice-1", "bob-1"):
            got = await self.home.get("/thing", token=token)
            assert (got.json, got.outcome) == ({"a": 1}, "hit; detail=timeout")
        got = await self.home.get("/thing", token="carol-1")
        assert (got.status, got.outcome) == (503, "detail=timeout")
        assert 0 < int(got.field("retry-after") or 0) <= 60
        assert not self.github.log
        self.home.move_on(6.0)
        barrier = self.github.hold("/thing")
        probe = start(self.home.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        assert (await self.home.get("/thing", token="bob-1")).outcome == "hit; detail=timeout"
        barrier.open()
        assert (await probe).outcome.endswith("detail=revalidated")
        for token in ("alice-1", "bob-1", "carol-1"):
            got = await self.home.get("/thing", token=token)
            assert got.outcome.startswith("fwd")

    async def test_first_timeout_delays_nothing(self) -> None:
        """The next request is sent at once, and so are those of other credentials."""
        await self.slow_504("alice-1")
        barrier = self.github.hold("/thing")
        probe = start(self.home.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        other = start(self.home.get("/thing", token="bob-1"))
        await barrier.arrived(2)
        barrier.open()
        for each in (probe, other):
            assert (await each).outcome.endswith("detail=revalidated")

    async def test_a_quick_504_is_no_timeout(self) -> None:
        """It cost GitHub nothing that it would count."""
        self.github.fault("/thing", "504", times=2)
        for _ in range(2):
            await self.home.get("/thing", token="carol-1")
        assert await self.home.metric(UNKNOWN) == 0
        assert (await self.home.get("/thing", token="carol-1")).status == 200

    async def test_missing_response_is_a_timeout(self) -> None:
        """Our own timeout counts as well."""
        wrong = self.github.fault("/thing", "timeout")
        sent = start(self.home.get("/thing", token="carol-1"))
        await until(lambda: wrong.seen == 1)
        self.timers.end_shortest()
        assert (await sent).status == 504
        assert await self.home.metric(UNKNOWN) == 1
