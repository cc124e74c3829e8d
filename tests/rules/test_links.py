"""The rules of pagination: what is proved before a stored `Link` is used, and how often."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from tests.harness.home import Home, Received, open_home, start
from tests.harness.redis_servers import start_redis
from tests.harness.redis_stores import settled


def items(count: int, start: int = 0) -> list[Any]:
    """Return so many items."""
    return [{"id": number} for number in range(start, start + count)]


def pages(got: Received) -> dict[str, str]:
    """Return the relations of a response's `Link`, with the queries of their targets."""
    links = [part.partition(">; rel=") for part in (got.field("link") or "").split(", ") if part]
    return {rel.strip('"'): target.partition("?")[2] for target, _, rel in links}


class Links(TestCase):
    """One mirror, and one list."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github
        self.home.move_on(0.0)

    def request_count(self, page: str, path: str = "/list") -> int:
        """Return how often a page was requested."""
        return len(self.github.exchanges(f"{path}?{page}"))

    async def warm(self, *targets: str, token: str = "alice-1") -> None:
        """Request all targets until nothing is new; then reset the counts."""
        for _ in range(2):
            for target in targets:
                await self.home.get(target, token=token)
        self.home.move_on(10.0)
        self.github.reset_counts()

    async def test_link_is_one_line(self) -> None:
        """Also where GitHub sends a line for the version and one for pages: Go's clients, `gh`
        among them, read the first line only.
        """
        self.github.put_list("/list", items(60))
        self.github.deprecation = "always"
        deprecated = '<https://docs.github.com/rest/about-the-rest-api/api-versions>; rel="depreca'
        for _ in range(2):
            got = await self.home.get("/list?per_page=30", token="alice-1")
            (line,) = got.fields.getRawHeaders("link") or ()
            assert line.startswith(deprecated)
            assert 'rel="next"' in line
        assert got.field("cache-status") == (
            "ghmirror; fwd=stale; fwd-status=304; detail=revalidated"
        )

    async def test_polled_page_is_proved_each_time(self) -> None:
        """However soon it is requested again; the proof costs nothing."""
        self.github.put_list("/list", items(60))
        end = "/list?per_page=30&page=2"
        await self.warm(end)
        for expected, passes in enumerate((0.0, 0.0, 1.0, 9.0, 60.0), start=1):
            self.home.move_on(passes)
            got = await self.home.get(end, token="alice-1")
            assert got.outcome.endswith("detail=revalidated")
            assert self.request_count("per_page=30&page=3") == expected, passes
        assert self.github.total_paid == 0

    async def test_growth_of_a_list_shows_at_once(self) -> None:
        """On the very next poll of a full last page, and of the first page, which is the same."""
        self.github.put_list("/list", items(60))
        first, end = "/list?per_page=30", "/list?per_page=30&page=2"
        await self.warm(first, end)
        self.github.reset_counts()
        await self.home.get(first, token="alice-1")
        await self.home.get(end, token="alice-1")
        assert self.github.total_paid == 0
        self.github.put_list("/list", items(61))
        got = await self.home.get(first, token="alice-1")
        assert pages(got)["last"] == "per_page=30&page=3"
        for _ in range(2):
            got = await self.home.get(end, token="alice-1")
            assert pages(got)["next"] == "per_page=30&page=3"
        assert got.outcome.endswith("detail=revalidated")
        assert self.github.paid["alice", end] == 1

    async def test_the_last_page_is_fetched_once(self) -> None:
        """Where it is not stored, it is paid once; after that, all that is polled is free."""
        self.github.put_list("/list", items(70))
        first = "/list?per_page=30"
        await self.home.get(first, token="alice-1")
        self.github.reset_counts()
        for _ in range(3):
            got = await self.home.get(first, token="alice-1")
            assert pages(got)["last"] == "per_page=30&page=3"
        assert self.github.paid == {("alice", first + "&page=3"): 1}
        got = await self.home.get(first + "&page=3", token="alice-1")
        assert pages(got) == {"prev": "per_page=30&page=2", "first": "per_page=30&page=1"}
        assert self.github.total_paid == 1

    async def test_last_page_is_requested_by_its_link(self) -> None:
        """GitHub links to repositories by number: following links pays no page twice."""
        self.github.put_list("/repos/o/r/issues", items(95), link_path="/repositories/1/issues")
        self.github.alias("/repositories/1", "/repos/o/r")
        targets = ["/repos/o/r/issues"]
        targets += [f"/repositories/1/issues?page={page}" for page in (2, 3, 4)]
        for walk in range(3):
            for target in targets:
                assert len((await self.home.get(target, token="alice-1")).json) in {30, 5}
            assert self.github.total_paid == 4, walk
            # once more than the pages: the last one, as a proof
            assert len(self.github.log) == 4 + 5 * walk
            self.home.move_on(60.0)

    async def test_last_page_with_room_proves_the_end(self) -> None:
        """One request proves it; the page after it is requested only where it is full."""
        for count, after in ((65, 0), (90, 1)):
            self.github.put_list("/list", items(count))
            await self.warm("/list?per_page=30")
            await self.home.get("/list?per_page=30", token="alice-1")
            assert self.request_count("per_page=30&page=3") == 1, count
            assert self.request_count("per_page=30&page=4") == after, count
            assert self.github.total_paid == 0, count

    async def test_a_list_that_shrinks_shows_at_once(self) -> None:
        """The last page is empty now; page 1 has the same items, and other links."""
        self.github.put_list("/list", items(61))
        await self.warm("/list?per_page=30")
        for count, expected in ((60, "per_page=30&page=2"), (30, None)):
            self.github.put_list("/list", items(count))
            got = await self.home.get("/list?per_page=30", token="alice-1")
            assert pages(got).get("last") == expected, count

    async def test_one_proof_serves_a_walk(self) -> None:
        """Of that credential, requested in that way; others have proofs of their own."""
        self.github.put_list("/list", items(4))
        targets = [f"/list?per_page=1&page={page}" for page in (1, 2, 3, 4)]
        for token in ("alice-1", "bob-1"):
            await self.warm(*targets, token=token)
        for walks in (1, 2):
            for target in targets:
                await self.home.get(target, token="alice-1")
            assert self.request_count("per_page=1&page=5") == walks
            # as the last page of the proof, and as a page of the walk
            assert self.request_count("per_page=1&page=4") == 2 * walks
        await self.home.get(targets[0], token="bob-1")
        assert self.request_count("per_page=1&page=5") == 3
        assert self.github.total_paid == 0

    async def test_concurrent_walk_needs_one_proof(self) -> None:
        """Pages that are requested together share the requests that prove them."""
        self.github.put_list("/list", items(100))
        targets = [f"/list?per_page=30&page={page}" for page in (1, 2, 3)]
        await self.warm(*targets)
        barrier = self.github.hold("/list")
        walk = [start(self.home.get(target, token="alice-1")) for target in targets]
        await barrier.arrived(4)
        barrier.open()
        for got in walk:
            assert pages(await got)["last"] == "per_page=30&page=4"
        assert (len(self.github.log), self.request_count("per_page=30&page=4")) == (4, 1)

    async def test_a_walk_ends(self) -> None:
        """A proof from a while ago is none, for other pages either."""
        self.github.put_list("/list", items(70))
        await self.warm("/list?per_page=30&page=1", "/list?per_page=30&page=2")
        await self.home.get("/list?per_page=30&page=1", token="alice-1")
        self.github.put_list("/list", items(100))
        self.home.move_on(10.0)
        got = await self.home.get("/list?per_page=30&page=2", token="alice-1")
        assert pages(got)["last"] == "per_page=30&page=4"

    async def test_changed_page_is_proved_again(self) -> None:
        """A proof from before the last 200 of a page does not count for it."""
        self.github.put_list("/list", items(60))
        first, end = "/list?per_page=30&page=1", "/list?per_page=30&page=2"
        await self.warm(first, end)
        await self.home.get(first, token="alice-1")
        self.github.put_list("/list", [*items(59), {"id": 99}])
        assert (await self.home.get(end, token="alice-1")).outcome.endswith("detail=changed")
        self.github.put_list("/list", [*items(59), {"id": 99}, {"id": 100}])
        assert "next" in pages(await self.home.get(end, token="alice-1"))

    async def test_page_validated_by_another_replica_is_proved_again(self) -> None:
        """A proof from before a validation by any replica does not count for that page."""
        server = start_redis(self)
        redis = {"url": "redis://{}:{}".format(*server.address), "timeout": 30.0}
        one, other = [
            await open_home(self, self.github, cache={"backend": "redis"}, redis=redis)
            for _ in range(2)
        ]
        first, end = "/list?per_page=30&page=1", "/list?per_page=30&page=2"
        self.github.put_list("/list", items(60))
        for home in (one, one, other):
            for target in (first, end):
                await home.get(target, token="alice-1")
                await settled(one.parts.store, other.parts.store)
        await one.get(first, token="alice-1")
        await other.get(end, token="alice-1")
        await settled(one.parts.store, other.parts.store)
        self.github.put_list("/list", items(61))
        assert "next" in pages(await one.get(end, token="alice-1"))

    async def test_cost_of_proofs_in_a_fleet(self) -> None:
        """A polled page costs two requests through any number of replicas, and a walk one each.

        Each replica that takes part in a walk proves its end for itself.
        """
        server = start_redis(self)
        redis = {"url": "redis://{}:{}".format(*server.address), "timeout": 30.0}
        fleet = [
            await open_home(self, self.github, cache={"backend": "redis"}, redis=redis)
            for _ in range(3)
        ]

        async def sent(homes: list[Home], *targets: str) -> int:
            """Return how many requests a walk through *targets* costs, each by the next replica."""
            self.github.reset_counts()
            for number, target in enumerate(targets):
                home = homes[number % len(homes)]
                assert (await home.get(target, token="alice-1")).status == 200
                await settled(home.parts.store)
            assert self.github.total_paid == 0
            return len(self.github.log)

        self.github.put_list("/repos/o/r/issues", items(60))
        self.github.put_list("/repos/o/r/pulls", items(175))
        end = "/repos/o/r/issues?per_page=30&page=2"
        walk = [f"/repos/o/r/pulls?per_page=30&page={page}" for page in range(1, 7)]
        for home in fleet:
            for target in (end, *walk):
                await home.get(target, token="alice-1")
                await settled(home.parts.store)
        assert await sent(fleet, *[end] * 6) == 2 * 6
        assert await sent(fleet[:1], *[end] * 6) == 2 * 6
        assert await sent(fleet[:1], *walk) == 6 + 1
        assert await sent(fleet, *walk) == 6 + 3

    async def test_a_write_ends_proofs(self) -> None:
        """After its write, a credential gets no `Link` that was proved before, on any page."""
        self.github.put_list("/list", items(60))
        await self.warm("/list?per_page=30", "/list?per_page=30&page=2")
        await self.home.get("/list?per_page=30", token="alice-1")
        await self.home.send("POST", "/list", token="alice-1", body=b'{"new":1}')
        got = await self.home.get("/list?per_page=30&page=2", token="alice-1")
        assert pages(got)["next"] == "per_page=30&page=3"

    async def test_own_last_is_replayed_without_verify_last(self) -> None:
        """A documented deviation, by option: the list has grown meanwhile."""
        loose = await open_home(self, self.github, cache={"verify_last": False})
        for home, last in ((loose, 3), (self.home, 4)):
            self.github.put_list("/list", items(70))
            self.home = home
            await self.warm(*(f"/list?per_page=30&page={page}" for page in (1, 2, 3)))
            self.github.put_list("/list", items(100))
            got = await home.get("/list?per_page=30&page=1", token="alice-1")
            assert pages(got)["last"] == f"per_page=30&page={last}"
            assert bool(self.request_count("per_page=30&page=4")) is (home is not loose)

    async def test_last_link_of_another_credential_is_proved_both_ways(self) -> None:
        """The page after it is empty, and it itself is not, for the requesting credential."""
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
            assert self.request_count("per_page=30&page=3") == 1

    async def test_table_lists_operations_with_numbered_pages(self) -> None:
        """Exactly full without a `Link`: proved with numbers, complete without pages, else paid."""
        for path, proofs, paid in (
            ("/repos/o/r/issues", 1, 0),
            ("/repositories/1/issues", 1, 0),
            ("/repos/o/r/contents/src", 0, 0),
            ("/repos/o/r/dependabot/alerts", 0, 1),
            ("/unknown", 0, 1),
        ):
            self.github.put(path, items(30))
            self.github.put(f"{path}?page=2", [])
            await self.home.get(path, token="alice-1")
            self.github.reset_counts()
            await self.home.get(path, token="alice-1")
            assert self.request_count("page=2", path) == proofs, path
            assert (len(self.github.log), self.github.total_paid) == (1 + proofs, paid), path

    async def test_page_with_room_needs_no_proof(self) -> None:
        """Nor do objects, and arrays of operations without pages."""
        self.github.put("/object", {"items": items(30)})
        for count in (29, 31, 100):
            self.github.put(f"/list{count}", items(count))
        self.github.put("/repos/o/r/dependabot/alerts", items(29))
        self.github.put("/request_count", items(5))
        targets = ["/object", "/list29", "/list31", "/list100", "/repos/o/r/dependabot/alerts"]
        targets += ["/request_count?per_page=10", "/request_count?page=1"]
        await self.warm(*targets)
        for target in targets:
            await self.home.get(target, token="alice-1")
        assert (len(self.github.log), self.github.total_paid) == (len(targets), 0)

    async def test_the_largest_page_is_100(self) -> None:
        """A request for more receives 100 items, and that is a full page."""
        target = "/repos/o/r/issues?per_page=250"
        self.github.put_list("/repos/o/r/issues", items(100))
        await self.warm(target)
        self.github.put_list("/repos/o/r/issues", items(101))
        got = await self.home.get(target, token="alice-1")
        assert pages(got)["next"] == "per_page=250&page=2"

    async def test_growth_of_a_list_with_cursors_shows(self) -> None:
        """Its first page was all there was, and has not changed since."""
        path = "/repos/o/r/dependabot/alerts"
        self.github.put_list(path, items(30), cursor=True, honours_page=False)
        await self.warm(path)
        self.github.put_list(path, items(31), cursor=True, honours_page=False)
        for paid in (1, 1):
            got = await self.home.get(path, token="alice-1")
            assert pages(got)["next"].startswith("after=")
            assert self.github.total_paid == paid
        assert not [each for each in self.github.log if each.status == 400]

    async def test_list_without_numbered_pages_is_requested_without_validators(self) -> None:
        """A 400 or 404 to a proof is remembered: no numbered pages, and no failure."""
        for path, status in (("/repos/o/r/issues", 400), ("/repos/o/r/pulls", 404)):
            self.github.put(path, items(30))
            self.github.put(f"{path}?page=2", {"message": "no"}, status=status)
            for proofs in (0, 1, 1, 1):
                got = await self.home.get(path, token="alice-1")
                assert (got.status, len(got.json)) == (200, 30)
                assert self.request_count("page=2", path) == proofs, status
            assert self.github.paid["alice", path] == 4
            await self.home.send("POST", "/repos/o/r/issues", token="alice-1", body=b"{}")
            await self.home.get(path, token="alice-1")
            assert self.request_count("page=2", path) == 1, status
            self.home.move_on(3700.0)
            await self.home.get(path, token="alice-1")
            assert self.request_count("page=2", path) == 2, status
        assert not self.home.parts.github_breaker.is_open

    async def test_page_beyond_githubs_count_is_absent(self) -> None:
        """A 422 to a proof is remembered: there is no such page, so there is no link to it."""
        path = "/repos/o/r/events"
        self.github.put_list(path, items(90))
        self.github.put(f"{path}?page=4", {"message": "too far"}, status=422)
        await self.warm(f"{path}?page=3")
        for proofs in (0, 0, 0):
            got = await self.home.get(f"{path}?page=3", token="alice-1")
            assert got.outcome.endswith("detail=revalidated")
            assert self.request_count("page=4", path) == proofs
        self.home.move_on(3700.0)
        await self.home.get(f"{path}?page=3", token="alice-1")
        assert self.request_count("page=4", path) == 1

    async def test_a_list_that_became_shorter_is_not_complete(self) -> None:
        """Its last page was removed, and its first one is its end; that proves no later end."""
        home = self.home
        for count, ends in ((5, False), (2, True), (4, False), (2, True), (3, False)):
            self.github.put_list("/list", items(count))
            for _ in range(2):
                got = await home.get("/list?per_page=2", token="alice-1")
                assert ("next" not in pages(got)) is ends, count

    async def test_page_that_was_the_last_is_not_complete(self) -> None:
        """The first item is removed: page 1 is now what page 2 was, and the list grows again."""
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

    async def test_failed_request_for_a_page_is_no_proof(self) -> None:
        """Items that were counted an hour ago do not count."""
        self.home.move_on(0.0)
        target = "/list?per_page=1"
        for list_items in (items(1), items(2)):
            self.github.put_list("/list", list_items)
            await self.home.get(target, token="alice-1")
            self.home.move_on(3600.0)
        await self.home.get(target, token="alice-1")
        self.home.move_on(3600.0)
        wrong = self.github.fault("/list?per_page=1&page=2", "502")
        await self.home.get(target, token="alice-1")
        assert wrong.seen
        wrong.end()
        self.home.move_on(3600.0)
        self.github.put_list("/list", items(3))
        got = await self.home.get(target, token="alice-1")
        assert pages(got)["last"] == "per_page=1&page=3"

    async def test_full_last_page_by_cursor_is_requested_without_validators(self) -> None:
        """It cannot be proved; the new `Link` is stored, and used while it leads on."""
        self.github.put_list("/list", items(60), cursor=True)
        got = await self.home.get("/list?per_page=30", token="alice-1")
        end = "/list?" + pages(got)["next"]
        for expected in (1, 2):
            got = await self.home.get(end, token="alice-1")
            assert ("next" in pages(got), self.github.paid["alice", end]) == (False, expected)
            assert len(self.github.exchanges(end)) == expected
        self.github.put_list("/list", items(61), cursor=True)
        for _ in range(2):
            got = await self.home.get(end, token="alice-1")
            assert "next" in pages(got)
        assert self.github.paid["alice", end] == 3

    async def test_empty_later_page_stores_no_link(self) -> None:
        """Only GitHub knows the `Link` of an empty page: it is not guessed for a client."""
        self.github.put_list("/list", items(30))
        got = await self.home.get("/list?page=2", token="alice-1")
        assert (got.json, pages(got)["prev"]) == ([], "page=1")
        assert self.github.log[-1].field(b"if-none-match") is None
