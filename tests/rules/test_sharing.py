"""The rules of sharing: which tags are sent, and when they are believed in no more."""

from __future__ import annotations

from typing import Any

from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import provider

from tests.harness.home import Home, Received, open_home


class Sharing(TestCase):
    """One mirror; each user's content is the user's own, unless a test shares it."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github
        self.home.move_on(0.0)
        for number in range(6):
            self.github.user(f"user{number}", tokens=[f"user{number}-1", f"user{number}-2"])
        self.logged: list[str] = []

    def watch(self) -> None:
        """Store the warnings."""

        @provider(ILogObserver)
        def see(event: Any) -> None:
            if event["log_level"].name == "warn":
                self.logged.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(see)
        self.addCleanup(globalLogPublisher.removeObserver, see)

    def tag(self, content: object, token: str) -> bytes:
        """Return the entity-tag of GitHub for content and a token."""
        return self.github.tag(content, authorization=b"token " + token.encode())

    def sent(self) -> list[bytes]:
        """Return the tags that GitHub has been sent last, in one field, as strong ones."""
        fields = self.github.log[-1].fields
        values = [value for name, value in fields if name.lower() == b"if-none-match"]
        assert len(values) <= 1
        return [tag.removeprefix(b"W/") for value in values for tag in value.split(b", ")]

    async def on(self) -> float:
        """Return the value of the metric."""
        return await self.home.metric("ghmirror_sharing_enabled")

    async def send(self, target: str, user: int, generation: int = 1) -> Received:
        """Send a request as one of the users."""
        return await self.home.get(target, token=f"user{user}-{generation}")

    async def test_shared_responses_are_confirmed_by_github(self) -> None:
        """Each response has a 304 of its own, also right after that of another credential."""
        self.github.put("/thing", {"a": 1})
        for user in range(5):
            for _ in range(2):
                await self.send("/thing", user)
        statuses = [exchange.status for exchange in self.github.exchanges("/thing")]
        assert statuses == [200] + [304] * 9

    async def test_with_a_grant_only_newer_representations_are_candidates(self) -> None:
        """Beside the own tag, in one field; what was there before was refused by GitHub then."""
        self.github.put("/own", lambda login, _: {"of": login})
        for user in (0, 1, 2):
            await self.send("/own", user)
        await self.send("/own", 1)
        assert self.sent() == [self.tag({"of": "user1"}, "user1-1")]
        self.home.parts.mirror.sharing.proven = True
        self.github.put("/own", lambda login, _: {"of": login, "new": True})
        await self.send("/own", 0)
        await self.send("/own", 1)
        assert self.sent() == [
            self.tag({"of": "user1"}, "user1-1"),
            self.tag({"of": "user0", "new": True}, "user1-1"),
        ]

    async def test_candidates_of_the_same_login_are_first(self) -> None:
        """Another token of a user sends first the tag of the user's latest representation."""
        self.github.put("/own", lambda login, _: {"of": login})
        for user in (0, 1, 2):
            await self.send("/user", user)
            await self.send("/own", user)
        await self.send("/user", 0, generation=2)
        await self.send("/own", 0, generation=2)
        assert self.sent() == [self.tag({"of": f"user{n}"}, "user0-2") for n in (0, 2, 1)]

    async def test_candidates_beyond_8_mb_in_all_are_left_out(self) -> None:
        """Of four of three megabytes each, the newest two are sent."""
        self.github.put(
            "/large",
            lambda login, _: f"{login} " + "x" * 3_000_000,
            content_type="text/plain; charset=utf-8",
        )
        for user in range(5):
            await self.send("/large", user)
        contents = [f"user{number} ".encode() + b"x" * 3_000_000 for number in (3, 2)]
        assert self.sent() == [self.tag(content, "user4-1") for content in contents]

    async def test_representation_with_another_tag_rule_is_not_shared(self) -> None:
        """A representation whose tag is not the computed one is sent to no other credential."""
        self.github.tag_rule = "other"
        self.github.put("/thing", {"a": 1})
        for user in (0, 1):
            got = await self.send("/thing", user)
            assert (got.outcome.split("; ")[1], self.sent()[1:]) == ("fwd-status=200", [])
        assert self.tag({"a": 1}, "user1-1") not in self.sent()
        assert (await self.send("/thing", 0)).outcome.endswith("detail=revalidated")
        assert await self.on() == 1.0

    async def things(self, *paths: str) -> None:
        """Make things, and have user 0 pay for them."""
        for path in paths:
            self.github.put(path, {"of": path})
            await self.send(path, 0)

    async def test_three_keys_and_two_credentials_switch_sharing_off(self) -> None:
        """No less; the log and the metrics show it, and an hour later it is on again."""
        self.watch()
        await self.things("/a", "/b", "/c")
        self.github.honours_conditions = False
        for path, user in (("/a", 1), ("/b", 1), ("/c", 1)):
            await self.send(path, user)
            assert self.sent() == [self.tag({"of": path}, f"user{user}-1")]
        assert (await self.on(), self.logged) == (1.0, [])
        await self.send("/a", 2)
        assert len(self.logged) == 1
        assert "sharing off for an hour" in self.logged[0]
        await self.send("/a", 3)
        assert (self.sent(), await self.on()) == ([], 0.0)
        self.github.put("/none", [])
        await self.send("/none", 3)
        assert self.sent() == []
        await self.send("/a", 2)
        assert self.sent() == [self.tag({"of": "/a"}, "user2-1")]
        self.home.move_on(3590.0)
        await self.send("/a", 4)
        assert (self.sent(), await self.on()) == ([], 0.0)
        self.github.honours_conditions = True
        self.home.move_on(10.0)
        assert (await self.send("/a", 5)).outcome.endswith("detail=shared")
        assert await self.on() == 1.0

    async def test_the_metric_waits_for_no_request(self) -> None:
        """It is correct before the first one, at once when sharing ends, and after the hour."""
        assert await self.on() == 1.0
        await self.things("/a", "/b", "/c")
        self.github.honours_conditions = False
        for path, user in (("/a", 1), ("/b", 1), ("/c", 1), ("/a", 2)):
            await self.send(path, user)
        assert await self.on() == 0.0
        self.home.move_on(3590.0)
        assert await self.on() == 0.0
        self.home.move_on(11.0)
        assert await self.on() == 1.0

    async def test_metric_shows_the_option(self) -> None:
        """It shows `share = no` before the first request."""
        self.home = await open_home(self, cache={"share": False})
        assert await self.on() == 0.0

    async def test_two_keys_are_too_little_evidence(self) -> None:
        """By any number of credentials: one odd endpoint is no rule."""
        await self.things("/a", "/b")
        self.github.honours_conditions = False
        for user in range(1, 6):
            for path in ("/a", "/b"):
                await self.send(path, user)
        assert (await self.on(), self.home.parts.mirror.sharing.single.off_at) == (1.0, None)

    async def test_evidence_expires_after_ten_minutes(self) -> None:
        """Three keys and two credentials, but not within ten minutes."""
        await self.things("/a", "/b", "/c")
        self.github.honours_conditions = False
        await self.send("/a", 1)
        self.home.move_on(600.0)
        await self.send("/b", 1)
        await self.send("/c", 2)
        assert self.home.parts.mirror.sharing.single.off_at is None
        await self.send("/a", 2)
        assert self.home.parts.mirror.sharing.single.off_at is not None

    async def test_ignored_own_tag_is_no_evidence(self) -> None:
        """It was not computed; the client's own is none of ours either."""
        await self.things("/a", "/b", "/c")
        for path in ("/a", "/b", "/c"):
            await self.send(path, 1)
        self.github.honours_conditions = False
        for path in ("/a", "/b", "/c"):
            for user in (0, 1):
                await self.send(path, user)
            known = {"If-None-Match": self.tag({"of": path}, "user2-1").decode()}
            for user in (2, 3):
                target = f"{path}?{user}"
                await self.home.get(target, token=f"user{user}-1", headers=known)
        assert self.home.parts.mirror.sharing.single.off_at is None

    async def test_ignored_tag_of_an_empty_list_is_evidence(self) -> None:
        """The tag of `[]` is a computed one."""
        self.github.honours_conditions = False
        for path, user in (("/a", 1), ("/b", 1), ("/c", 2)):
            self.github.put(path, [])
            await self.send(path, user)
        assert self.home.parts.mirror.sharing.single.off_at is not None

    async def test_lists_are_switched_off_alone(self) -> None:
        """One tag remains: the grant's own, without a grant the newest; lists again in an hour."""
        self.watch()
        self.github.honours_lists = False
        paths = ("/a", "/b", "/c")
        for path in paths:
            self.github.put(path, lambda login, _: {"of": login if login == "user0" else "all"})
            for user in (0, 1):
                await self.send(path, user)
        for path, user in (*((path, 2) for path in paths), ("/a", 3)):
            assert self.home.parts.mirror.sharing.lists.off_at is None
            await self.send(path, user)
            assert len(self.sent()) == 2
        assert len(self.logged) == 1
        assert "lists of entity-tags off" in self.logged[0]
        got = await self.send("/b", 4)
        assert got.outcome.endswith("detail=shared")
        assert self.sent() == [self.tag({"of": "all"}, "user4-1")]
        self.github.put("/b", {"new": True})
        await self.send("/b", 4)
        await self.send("/b", 3)
        await self.send("/b", 2)
        assert self.sent() == [self.tag({"of": "all"}, "user2-1")]
        assert await self.on() == 1.0
        self.home.move_on(3600.0)
        await self.send("/c", 5)
        assert len(self.sent()) == 2
