"""The rules of pagination: what is proved before a stored `Link` is used, and how often."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from tests.home import Got, Home, open_home


def items(count: int, start: int = 0) -> list[Any]:
    """Return so many items."""
    return [{"id": number} for number in range(start, start + count)]


def pages(got: Got) -> dict[str, str]:
    """Return the relations of an answer's `Link`, with the queries that they lead to."""
    links = [part.partition(">; rel=") for part in (got.field("link") or "").split(", ") if part]
    return {rel.strip('"'): target.partition("?")[2] for target, _, rel in links}


class Links(TestCase):
    """One mirror, and one list."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github
        self.home.move_on(0.0)

    def asked(self, page: str, path: str = "/list") -> int:
        """Return how often a page has been asked for."""
        return len(self.github.asked(f"{path}?{page}"))

    async def warm(self, *targets: str, token: str = "alice-1") -> None:
        """Ask for all until nothing about them is new; then forget what was counted."""
        for _ in range(2):
            for target in targets:
                await self.home.get(target, token=token)
        self.home.move_on(10.0)
        self.github.reset_counts()

    async def test_a_proof_serves_for_ten_seconds(self) -> None:
        """The page after a full end is looked at again after ten seconds, and not before."""
        self.github.put_list("/list", items(60))
        end = "/list?per_page=30&page=2"
        await self.warm(end)
        for passes, expected in ((0.0, 1), (4.0, 1), (5.5, 1), (0.5, 2), (9.5, 2), (0.5, 3)):
            self.home.move_on(passes)
            got = await self.home.get(end, token="alice-1")
            assert got.outcome.endswith("detail=revalidated")
            assert self.asked("per_page=30&page=3") == expected, passes
        assert self.github.total_paid == 0

    async def test_what_has_grown_shows_after_ten_seconds(self) -> None:
        """With the proof at its end, so is the old `Link`."""
        self.github.put_list("/list", items(60))
        end = "/list?per_page=30&page=2"
        await self.warm(end)
        await self.home.get(end, token="alice-1")
        self.github.put_list("/list", items(61))
        self.home.move_on(10.0)
        got = await self.home.get(end, token="alice-1")
        assert pages(got)["next"] == "per_page=30&page=3"
        assert self.github.paid["alice", end] == 1
        got = await self.home.get(end, token="alice-1")
        assert pages(got)["next"] == "per_page=30&page=3"
        assert got.outcome.endswith("detail=revalidated")

    async def test_one_proof_serves_all_pages_of_a_list(self) -> None:
        """Of that credential, asked in that way; others have proofs of their own."""
        self.github.put_list("/list", items(4))
        targets = [f"/list?per_page=1&page={page}" for page in (1, 2, 3, 4)]
        for token in ("alice-1", "bob-1"):
            await self.warm(*targets, token=token)
        for target in (*targets, *targets):
            await self.home.get(target, token="alice-1")
        assert self.asked("per_page=1&page=5") == 1
        await self.home.get(targets[0], token="bob-1")
        assert self.asked("per_page=1&page=5") == 2
        assert self.github.total_paid == 0

    async def test_a_write_ends_proofs(self) -> None:
        """Who has just added something sees it."""
        self.github.put_list("/list", items(30))
        await self.warm("/list")
        await self.home.get("/list", token="alice-1")
        await self.home.ask("POST", "/list", token="alice-1", body=b'{"new":1}')
        got = await self.home.get("/list", token="alice-1")
        assert pages(got)["next"] == "page=2"

    async def test_own_last_is_replayed_as_it_was(self) -> None:
        """A documented deviation, which `verify_last` ends: the list has grown meanwhile."""
        strict = await open_home(self, self.github, cache={"verify_last": True})
        for home, last in ((self.home, 3), (strict, 4)):
            self.github.put_list("/list", items(70))
            self.home = home
            await self.warm(*(f"/list?per_page=30&page={page}" for page in (1, 2, 3)))
            self.github.put_list("/list", items(100))
            got = await home.get("/list?per_page=30&page=1", token="alice-1")
            assert pages(got)["last"] == f"per_page=30&page={last}"
            assert self.asked("per_page=30&page=4") == (home is strict)

    async def test_another_s_last_is_proved_both_ways(self) -> None:
        """The page after it is empty, and it itself is not, for who asks."""
        lengths = {"alice": 70, "bob": 70}
        self.github.put_list("/list", lambda login: items(lengths[login or "alice"]))
        first = "/list?per_page=30&page=1"
        for bob, last in ((70, 3), (100, 4), (60, 2), (40, 2)):
            home = self.home = await open_home(self, self.github)
            lengths["bob"] = bob
            await self.warm(*(f"/list?per_page=30&page={page}" for page in (1, 2, 3)))
            got = await home.get(first, token="bob-1")
            assert pages(got)["last"] == f"per_page=30&page={last}", bob
            shared = got.outcome.endswith("detail=shared")
            assert shared is (bob == 70)
            assert self.asked("per_page=30&page=4") == 1

    async def test_only_lists_that_github_paginates_are_probed(self) -> None:
        """A `Link`, `page` or `per_page` asked for, or exactly 30: nothing else is a page."""
        self.github.put("/object", {"items": items(30)})
        for count in (29, 31, 100):
            self.github.put(f"/list{count}", items(count))
        self.github.put("/list30", items(30))
        self.github.put("/asked", items(5))
        plain = ["/object", "/list29", "/list31", "/list100"]
        for target in (*plain, "/asked?per_page=10", "/asked?page=1"):
            for _ in range(2):
                await self.home.get(target, token="alice-1")
        assert len(self.github.log) == 12
        for target, probe in (
            ("/list30", "/list30?page=2"),
            ("/asked?per_page=5", "/asked?per_page=5&page=2"),
        ):
            for _ in range(2):
                await self.home.get(target, token="alice-1")
            assert len(self.github.asked(probe)) == 1

    async def test_the_largest_page_is_100(self) -> None:
        """Who asks for more gets 100, and that is full."""
        self.github.put_list("/list", items(100))
        await self.warm("/list?per_page=250")
        self.github.put_list("/list", items(101))
        got = await self.home.get("/list?per_page=250", token="alice-1")
        assert pages(got)["next"] == "per_page=250&page=2"

    async def test_complete_holds_for_its_content_only(self) -> None:
        """What is known to be all there is, is so until it changes."""
        self.github.put("/thirty", items(30))
        await self.warm("/thirty")
        await self.home.get("/thirty", token="alice-1")
        await self.home.get("/thirty", token="bob-1")
        assert (self.asked("page=2", "/thirty"), self.github.total_paid) == (0, 0)
        self.github.put_list("/thirty", items(30, start=1))
        await self.home.get("/thirty", token="alice-1")
        self.github.put_list("/thirty", items(60, start=1))
        got = await self.home.get("/thirty", token="alice-1")
        assert pages(got)["next"] == "page=2"

    async def test_a_list_that_became_shorter_is_not_complete(self) -> None:
        """Its last page is gone, and its first one is its end; that is no proof for later on."""
        home = await open_home(self, self.github, cache={"verify_last": True})
        for count, ends in ((5, False), (2, True), (4, False), (2, True), (3, False)):
            self.github.put_list("/list", items(count))
            for _ in range(2):
                home.move_on(11.0)
                got = await home.get("/list?per_page=2", token="alice-1")
                assert ("next" not in pages(got)) is ends, count

    async def test_a_page_that_another_one_was_is_not_complete(self) -> None:
        """The first item goes: page 1 is what page 2 was seen to be, and the list grows again."""
        self.home.move_on(0.0)
        target = "/list?per_page=1"
        for first, count, pauses_s in ((0, 2, (0.0, 60.0)), (1, 1, (3.0, 3.0)), (1, 2, (60.0,))):
            self.github.put_list("/list", items(count, start=first))
            for pause_s in pauses_s:
                self.home.move_on(pause_s)
                got = await self.home.get(target, token="alice-1")
        assert (got.json, pages(got).get("next")) == (items(1, start=1), "per_page=1&page=2")
        got = await self.home.get(target, token="bob-1")
        assert pages(got).get("last") == "per_page=1&page=2"

    async def test_a_page_that_github_did_not_tell_is_no_proof(self) -> None:
        """What was seen of it an hour ago is not looked at."""
        self.home.move_on(0.0)
        target = "/list?per_page=1"
        for list_items in (items(1), items(2), items(1, start=1)):
            self.github.put_list("/list", list_items)
            await self.home.get(target, token="alice-1")
            self.home.move_on(3600.0)
        wrong = self.github.fault("/list?per_page=1&page=2", "502")
        await self.home.get(target, token="alice-1")
        assert wrong.seen
        wrong.end()
        self.home.move_on(3600.0)
        self.github.put_list("/list", items(2, start=1))
        got = await self.home.get(target, token="alice-1")
        assert "next" in pages(got)

    async def test_a_cursor_at_a_full_end_is_asked_without_validators(self) -> None:
        """It can't be proved; the new `Link` is kept, and used while it leads on."""
        self.github.put_list("/list", items(60), cursor=True)
        got = await self.home.get("/list?per_page=30", token="alice-1")
        end = "/list?" + pages(got)["next"]
        for expected in (1, 2):
            got = await self.home.get(end, token="alice-1")
            assert ("next" in pages(got), self.github.paid["alice", end]) == (False, expected)
            assert len(self.github.asked(end)) == expected
        self.github.put_list("/list", items(61), cursor=True)
        for _ in range(2):
            got = await self.home.get(end, token="alice-1")
            assert "next" in pages(got)
        assert self.github.paid["alice", end] == 3

    async def test_an_empty_later_page_gets_no_link_of_the_guess(self) -> None:
        """Only GitHub knows the `Link` of an empty page: it is not guessed for a client."""
        self.github.put_list("/list", items(30))
        got = await self.home.get("/list?page=2", token="alice-1")
        assert (got.json, pages(got)["prev"]) == ([], "page=1")
        assert self.github.log[-1].field(b"if-none-match") is None
