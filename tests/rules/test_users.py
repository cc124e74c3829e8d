"""The rules of who may use the mirror: what the others learn, and what GitHub is asked."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from tests.harness.home import Got, Home, open_home


class Refused(TestCase):
    """A mirror for alice alone."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self, server={"allowed_users": frozenset({"ALICE"})})
        self.github = self.home.github
        self.github.put("/thing", {"a": 1})

    @staticmethod
    def shown(got: Got) -> tuple[int, list[Any], bytes]:
        """Return all of an answer but what is of this one alone, in GitHub's 401 too."""
        lines = sorted(got.fields.getAllRawHeaders())
        of_one = (b"Date", b"X-Github-Request-Id", b"X-Ratelimit-")
        kept = [line for line in lines if not line[0].startswith(of_one)]
        return got.status, kept, got.content

    async def test_the_answer_is_the_same_whatever_is_stored(self) -> None:
        """And whatever there is: before others have asked, after, and for what isn't there."""
        for token in ("bob-1", "nobody's", None):
            home = self.home = await open_home(
                self, self.github, server={"allowed_users": frozenset({"alice"})}
            )
            first = self.shown(await home.get("/thing", token=token))
            assert first[0] == (403 if token == "bob-1" else 401)
            assert (await home.get("/thing", token="alice-1")).status == 200
            etag = (await home.get("/thing", token="alice-1")).field("etag") or ""
            known = {"If-None-Match": etag}
            for target, headers in (("/thing", {}), ("/thing", known), ("/nowhere", {})):
                got = await home.get(target, token=token, headers=headers)
                assert self.shown(got) == first

    async def test_nothing_of_the_refused_reaches_github(self) -> None:
        """But the question who they are; without a credential not even that."""
        for method in ("GET", "POST", "DELETE"):
            for token in ("bob-1", None):
                await self.home.ask(method, "/thing", token=token)
        asked = {(each.target, each.field(b"authorization")) for each in self.github.log}
        assert asked == {(b"/user", b"token bob-1")}

    async def test_who_it_is_is_remembered_for_five_minutes(self) -> None:
        """Then GitHub is asked again, which is free; a revoked token is refused."""
        for passes, expected in ((0.0, 1), (299.0, 1), (2.0, 2)):
            self.home.move_on(passes)
            assert (await self.home.get("/thing", token="alice-1")).status == 200
            assert len(self.github.asked("/user")) == expected
        assert self.github.paid["alice", "/user"] == 1
        self.github.put("/user", lambda login, _: {"login": "bob"})
        self.home.move_on(301.0)
        assert (await self.home.get("/thing", token="alice-1")).status == 403


class Bots(TestCase):
    """Installations of a GitHub App, which may not ask who they are."""

    async def spent_by(self, **server: Any) -> tuple[float, float]:
        """Return what two bots and what unknown users have spent, after a question of each bot."""
        home = await open_home(self, server=server)
        home.github.put("/thing", lambda login, _: {"of": login})
        for number in (1, 2):
            home.github.user(f"robot{number}[bot]", tokens=[f"ghs_{number}"])
            assert (await home.get("/user", token=f"ghs_{number}")).status == 403
            assert (await home.get("/thing", token=f"ghs_{number}")).status == 200
        name = "ghmirror_quota_spent_total"
        known = [await home.metric(f'{name}{{user="robot{number}[bot]"}}') for number in (1, 2)]
        return sum(each > 0 for each in known), await home.metric(f'{name}{{user="unknown"}}')

    async def test_nobody_knows_them(self) -> None:
        """What they spend is that of ``unknown``, together: a refused /user tells nothing."""
        known, unknown = await self.spent_by()
        assert (known, unknown >= 2.0) == (0, True)

    async def test_they_are_known_where_only_some_may_use_it(self) -> None:
        """Then GitHub is asked who they are, in the way in which it tells them."""
        names = frozenset({"robot1[bot]", "robot2[bot]"})
        known, _ = await self.spent_by(allowed_users=names)
        assert known == 2
