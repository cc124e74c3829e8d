"""The rules of allowed users: what rejected clients can learn, and the requests to GitHub."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from tests.harness.home import Home, Received, open_home


class Refused(TestCase):
    """A mirror for alice alone."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self, server={"allowed_users": frozenset({"ALICE"})})
        self.github = self.home.github
        self.github.put("/thing", {"a": 1})

    @staticmethod
    def shown(got: Received) -> tuple[int, list[Any], bytes]:
        """Return a response without what differs each time, in GitHub's 401 too."""
        lines = sorted(got.fields.getAllRawHeaders())
        of_one = (b"Date", b"X-Github-Request-Id", b"X-Ratelimit-")
        kept = [line for line in lines if not line[0].startswith(of_one)]
        return got.status, kept, got.content

    async def test_rejection_does_not_depend_on_stored_responses(self) -> None:
        """Nor on whether the target exists, and was requested by others."""
        for token in ("bob-1", "another", None):
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

    async def test_requests_of_rejected_users_do_not_reach_github(self) -> None:
        """Only the request for their login does; without a credential not even that."""
        for method in ("GET", "POST", "DELETE"):
            for token in ("bob-1", None):
                await self.home.send(method, "/thing", token=token)
        sent = {(each.target, each.field(b"authorization")) for each in self.github.log}
        assert sent == {(b"/user", b"token bob-1")}

    async def test_login_is_fresh_for_five_minutes(self) -> None:
        """Then it is requested again, which is free; a revoked token is rejected."""
        for passes, expected in ((0.0, 1), (299.0, 1), (2.0, 2)):
            self.home.move_on(passes)
            assert (await self.home.get("/thing", token="alice-1")).status == 200
            assert len(self.github.exchanges("/user")) == expected
        assert self.github.paid["alice", "/user"] == 1
        self.github.put("/user", lambda login, _: {"login": "bob"})
        self.home.move_on(301.0)
        assert (await self.home.get("/thing", token="alice-1")).status == 403


class Bots(TestCase):
    """Installations of a GitHub App, which may not request `/user`."""

    async def spent_by(self, **server: Any) -> tuple[float, float]:
        """Return what two bots and unknown users have spent, after a request of each bot."""
        home = await open_home(self, server=server)
        home.github.put("/thing", lambda login, _: {"of": login})
        for number in (1, 2):
            home.github.user(f"robot{number}[bot]", tokens=[f"ghs_{number}"])
            assert (await home.get("/user", token=f"ghs_{number}")).status == 403
            assert (await home.get("/thing", token=f"ghs_{number}")).status == 200
        name = "ghmirror_quota_spent_total"
        known = [await home.metric(f'{name}{{user="robot{number}[bot]"}}') for number in (1, 2)]
        return sum(each > 0 for each in known), await home.metric(f'{name}{{user="unknown"}}')

    async def test_login_of_a_bot_is_unknown_without_allowed_users(self) -> None:
        """Tokens that name no App count as ``unknown``: a refused /user shows no login."""
        known, unknown = await self.spent_by()
        assert (known, unknown >= 2.0) == (0, True)

    async def test_an_installation_token_names_its_app(self) -> None:
        """No request shows it; a token that GitHub does not accept names none."""
        home = await open_home(self)
        home.github.put("/thing", {"a": 1})
        tokens = ["ghs_4711_eyJh.eyJp.c2ln", "ghs_4711_eyJh.eyJp.b3Ro"]
        home.github.user("robot[bot]", tokens=tokens)
        for token in (*tokens, "ghs_4712_eyJh.eyJp.bWFk"):
            for scheme in ("token", "Bearer"):
                await home.get("/thing", headers={"Authorization": f"{scheme} {token}"})
        assert await home.metric('ghmirror_quota_spent_total{user="app:4711"}') == 1.0
        assert await home.metric('ghmirror_quota_saved_total{user="app:4711"}') == 3.0
        assert await home.metric('ghmirror_quota_remaining{resource="core",user="app:4711"}') > 0
        assert "app:4712" not in (await home.admin("/metrics")).content.decode()
        assert {each.target for each in home.github.log} == {b"/thing", b"/rate_limit"}

    async def test_login_of_a_bot_is_requested_with_allowed_users(self) -> None:
        """By GraphQL, which returns the login of an installation."""
        names = frozenset({"robot1[bot]", "robot2[bot]"})
        known, _ = await self.spent_by(allowed_users=names)
        assert known == 2
