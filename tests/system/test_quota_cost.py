"""The paid requests, as GitHub counts them: the promises that the project exists for."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import TestCase

from tests.harness.home import Home, Received, open_home


def together(*pending: Any) -> Deferred[list[Received]]:
    """Send all requests at once."""
    return gatherResults([Deferred.fromCoroutine(each) for each in pending], consumeErrors=True)


class Promises(TestCase):
    """Each test ends with the requests that the stand-in charged."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github

    def resources(self, count: int) -> list[str]:
        """Make public resources; return their paths."""
        paths = [f"/thing/{number}" for number in range(count)]
        for path in paths:
            self.github.put(path, {"path": path, "text": "x" * 500})
        return paths

    def tokens(self, count: int, generation: int = 1) -> list[str]:
        """Create tokens for users; return them."""
        made = []
        for number in range(count):
            login, token = f"user{number}", f"user{number}-{generation}"
            if login in self.github.users:
                self.github.token(token, login)
            else:
                self.github.user(login, tokens=[token])
            made.append(token)
        return made

    async def round(self, paths: list[str], tokens: list[str]) -> list[Received]:
        """Request each path with each token, at once."""
        return await together(*(self.home.get(p, token=t) for p in paths for t in tokens))

    async def test_each_resource_is_charged_once_for_all_credentials(self) -> None:
        """20 credentials and 30 resources of the same content, all at once, cold: 30 are paid.

        With all tokens rotated, and once more: none.
        """
        paths = self.resources(30)
        responses = await self.round(paths, self.tokens(20))
        assert {response.status for response in responses} == {200}
        assert self.github.total_paid == 30
        self.github.reset_counts()
        await self.round(paths, self.tokens(20, generation=2))
        await self.round(paths, self.tokens(20, generation=2))
        assert self.github.total_paid == 0

    async def test_change_is_charged_once(self) -> None:
        """One resource changes under 20 polling credentials: 1 is paid, and all see it."""
        tokens = self.tokens(20)
        (path,) = self.resources(1)
        await self.round([path], tokens)
        self.github.reset_counts()
        self.github.put(path, {"new": True})
        responses = [await self.home.get(path, token=token) for token in tokens]
        assert all(response.json == {"new": True} for response in responses)
        assert self.github.total_paid == 1

    async def test_private_content_is_charged_once_per_user(self) -> None:
        """12 users and 10 resources of their own: 120 paid once, then none."""
        tokens = self.tokens(12)
        paths = [f"/own/{number}" for number in range(10)]
        for path in paths:
            self.github.put(path, lambda login, _: {"of": login, "text": "x" * 500})
        for expected in (120, 0, 0):
            self.github.reset_counts()
            responses = await self.round(paths, tokens)
            owners = [response.json["of"] for response in responses]
            assert owners == [f"user{number}" for number in range(12)] * 10
            assert self.github.total_paid == expected

    async def never_twice(self) -> None:
        """An unchanged resource is paid for once only."""
        tokens = self.tokens(6)
        paths = self.resources(5)
        own = [f"/own/{number}" for number in range(4)]
        for path in own:
            self.github.put(path, lambda login, _: {"of": login})
        for _ in range(4):
            await self.round(paths + own, tokens)
            for token in tokens:
                await self.round(paths + own, [token])
        assert max(self.github.paid.values()) == 1, self.github.paid.most_common(3)

    async def test_ignored_lists_of_tags_charge_nothing_twice(self) -> None:
        """If GitHub ignores lists of entity-tags, unchanged content is charged once."""
        self.github.honours_lists = False
        await self.never_twice()

    async def test_tags_by_another_rule_charge_nothing_twice(self) -> None:
        """If GitHub's rule of entity-tags differs, unchanged content is charged once."""
        self.github.tag_rule = "other"
        await self.never_twice()

    async def test_private_resource_is_never_sent_to_other_users(self) -> None:
        """A user with a 404 from GitHub has a 404 from the mirror, with any stored records."""
        self.github.put("/secret", {"secret": 1}, private_to={"alice"})
        shown = await self.home.get("/secret", token="alice-1")
        hidden = await self.home.get("/secret", token="bob-1")
        nowhere = await self.home.get("/nowhere", token="bob-1")
        assert (shown.status, hidden.status) == (200, 404)
        assert hidden.content == nowhere.content
        assert hidden.field("cache-status") == nowhere.field("cache-status")
        assert (await self.home.get("/secret", token="alice-2")).outcome.endswith("detail=shared")

    async def test_revoked_access_is_effective_at_once(self) -> None:
        """A resource that GitHub hides from a credential is hidden by the mirror, too."""
        self.github.put("/secret", {"secret": 1}, private_to={"alice", "bob"})
        for token in ("alice-1", "bob-1"):
            await self.home.get("/secret", token=token)
        self.github.private("/secret", {"alice"})
        assert (await self.home.get("/secret", token="bob-1")).status == 404
        assert (await self.home.get("/secret", token="alice-1")).status == 200
        self.github.revoke("alice-1")
        assert (await self.home.get("/secret", token="alice-1")).status == 401
        assert (await self.home.get("/secret", token="alice-2")).status == 200

    async def test_first_request_for_an_empty_list_is_free(self) -> None:
        """An empty list is free of charge even for the first request."""
        self.github.put_list("/list", [])
        got = await self.home.get("/list", token="alice-1")
        assert (got.json, got.outcome) == ([], "fwd=uri-miss; fwd-status=304; detail=empty")
        assert got.field("content-type") == "application/json; charset=utf-8"
        assert self.github.total_paid == 0

    async def test_grown_list_has_a_next_page(self) -> None:
        """A full and unchanged page gains its `next` as soon as there is one."""
        items = [{"id": number} for number in range(60)]
        self.github.put_list("/list", items)
        target = "/list?per_page=30&page=2"
        assert "next" not in ((await self.home.get(target, token="alice-1")).field("link") or "")
        assert "next" not in ((await self.home.get(target, token="alice-1")).field("link") or "")
        self.github.reset_counts()
        self.github.put_list("/list", [*items, {"id": 60}])
        got = await self.home.get(target, token="alice-1")
        assert "page=3" in (got.field("link") or "")
        assert f'<{self.home.url}/list?per_page=30&page=3>; rel="next"' in (got.field("link") or "")

    async def test_last_page_of_a_shared_response_is_proved(self) -> None:
        """`rel=last` of a shared response is sent only after it is proved for the credential."""
        self.github.put_list("/list", [{"id": number} for number in range(70)])
        for page in (1, 2, 3):
            await self.home.get(f"/list?per_page=30&page={page}", token="alice-1")
        paid = self.github.total_paid
        got = await self.home.get("/list?per_page=30&page=1", token="bob-1")
        assert got.outcome.endswith("detail=shared")
        assert 'page=3>; rel="last"' in (got.field("link") or "")
        assert self.github.total_paid == paid
        sent = {exchange.target for exchange in self.github.log if exchange.login == "bob"}
        assert sent == {b"/list?per_page=30&page=%d" % page for page in (1, 3)}
        await self.home.get("/list?per_page=30&page=2", token="bob-1")
        assert self.github.total_paid == paid

    async def test_count_with_per_page_1_is_current(self) -> None:
        """A client that counts with `per_page=1` sees the list grow, though page 1 is the same."""
        items = [{"id": number} for number in range(3)]
        self.github.put_list("/list", items)
        for count in (3, 3, 4):
            self.github.put_list("/list", [*items, *({"id": n} for n in range(3, count))])
            got = await self.home.get("/list?per_page=1", token="alice-1")
            assert f'page={count}>; rel="last"' in (got.field("link") or "")

    async def test_list_without_pagination_needs_no_proof(self) -> None:
        """GitHub does not paginate a directory; its 30 files need no proof."""
        thirty = "/repos/o/r/contents/src"
        self.github.put(thirty, [{"id": number} for number in range(30)])
        await self.home.get(thirty, token="alice-1")
        self.github.reset_counts()
        for _ in range(3):
            got = await self.home.get(thirty, token="alice-1")
            assert got.outcome.endswith("detail=revalidated")
        assert self.github.total_paid == 0

    async def test_tag_of_the_client_yields_304_from_an_empty_mirror(self) -> None:
        """The response to a client's own tag is 304, although the mirror stores nothing."""
        self.github.put("/thing", {"a": 1})
        got = await self.home.get("/thing", token="alice-1")
        other = await open_home(self, self.github)
        self.github.reset_counts()
        known = {"If-None-Match": got.field("etag") or ""}
        again = await other.get("/thing", token="alice-1", headers=known)
        assert (again.status, again.content) == (304, b"")
        assert self.github.total_paid == 0
        assert (await other.get("/thing", token="alice-1")).json == {"a": 1}

    async def test_fresh_response_sends_no_request(self) -> None:
        """Within `fresh_for` no request is sent, except after a write or with no-cache."""
        home = await open_home(self, self.github, cache={"fresh_for": 60.0})
        self.github.put("/thing", {"a": 1})
        await home.get("/thing", token="alice-1")
        got = await home.get("/thing", token="alice-1")
        assert (got.outcome, got.field("age")) == ("hit; detail=fresh", "0")
        assert got.field("x-ratelimit-remaining") is None
        sent = len(self.github.log)
        no_cache = {"Cache-Control": "no-cache"}
        checked = await home.get("/thing", token="alice-1", headers=no_cache)
        assert checked.outcome.endswith("detail=revalidated")
        assert len(self.github.log) == sent + 1
        await home.send("POST", "/graphql", token="alice-1", body=b'{"query":"mutation{x}"}')
        again = await home.get("/thing", token="alice-1")
        assert again.outcome.endswith("detail=revalidated")
        assert (await home.get("/thing", token="alice-1")).outcome == "hit; detail=fresh"

    async def test_head_has_the_stored_response_of_a_get(self) -> None:
        """HEAD has the fields of the stored response of GET, and is not stored."""
        self.github.put("/thing", {"a": 1})
        passed = await self.home.send("HEAD", "/thing", token="alice-1")
        assert (passed.status, passed.outcome) == (200, "fwd=uri-miss; fwd-status=200")
        await self.home.get("/thing", token="alice-1")
        known = await self.home.send("HEAD", "/thing", token="alice-1")
        assert known.outcome.endswith("detail=revalidated")
        assert known.content == b""

    async def test_simultaneous_requests_of_a_credential_are_sent_once(self) -> None:
        """A client that disconnects does not cancel the request of the others."""
        self.github.put("/thing", {"a": 1})
        self.home.move_on(0.0)
        barrier = self.github.hold("/thing")
        first = Deferred.fromCoroutine(self.home.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        others = [Deferred.fromCoroutine(self.home.get("/thing", token="alice-1")) for _ in "123"]
        while self.home.parts.resource.in_flight < 4:
            await _tick(self.home)
        first.cancel()
        first.addErrback(lambda _: None)
        while self.home.parts.resource.in_flight > 3:
            await _tick(self.home)
        barrier.open()
        for response in await gatherResults(others):
            assert response.json == {"a": 1}
            assert response.outcome.endswith("; collapsed")
        assert len(self.github.exchanges("/thing")) == 1


class Sceptics(TestCase):
    """Properties that a first reading of the rules would miss."""

    async def test_304_is_sent_only_to_clients_with_the_validator(self) -> None:
        """A client without a tag that joined a conditional request receives content."""
        home = await open_home(self)
        home.github.put("/thing", {"a": 1})
        etag = (await home.get("/thing", token="alice-1")).field("etag") or ""
        other = await open_home(self, home.github)
        barrier = home.github.hold("/thing")
        known = {"If-None-Match": etag}
        first = Deferred.fromCoroutine(other.get("/thing", token="alice-1", headers=known))
        await barrier.arrived(1)
        second = Deferred.fromCoroutine(other.get("/thing", token="alice-1"))
        while other.parts.resource.in_flight < 2:
            await _tick(other)
        first.cancel()
        first.addErrback(lambda _: None)
        while other.parts.resource.in_flight > 1:
            await _tick(other)
        barrier.open()
        got = await second
        assert (got.status, got.json) == (200, {"a": 1})

    async def test_401_without_credential_refuses_no_credential(self) -> None:
        """A 401 to an anonymous request ends no grant."""
        home = await open_home(self, cache={"fresh_for": 60.0})
        home.github.put("/thing", {"a": 1})
        await home.get("/thing")
        assert (await home.get("/user")).status == 401
        assert (await home.get("/thing")).outcome == "hit; detail=fresh"

    async def test_unprovable_page_is_requested_without_validators(self) -> None:
        """An anonymous request for a page that may have grown is sent without validators."""
        home = await open_home(self)
        home.github.put_list("/list", [{"id": number} for number in range(30)])
        for expected in (1, 2, 3):
            await home.get("/list")
            assert home.github.total_paid == expected
            assert len(home.github.log) == expected

    async def test_client_that_does_not_read_is_disconnected(self) -> None:
        """The mirror closes the connection, and GitHub's connection is free again."""
        home = await open_home(
            self,
            github={"idle_timeout": 0.1, "max_connections": 1},
            cache={"max_stored_size": 1000},
        )
        content = b"x" * 30_000_000
        home.github.put("/big", content, content_type="application/octet-stream")
        home.github.put("/thing", {"a": 1})
        endpoint = TCP4ClientEndpoint(home.parts.reactor, "127.0.0.1", home.port)
        reader = await connectProtocol(endpoint, Protocol())
        transport: Any = reader.transport
        transport.pauseProducing()
        transport.write(b"GET /big HTTP/1.1\r\nHost: x\r\nUser-Agent: t\r\n\r\n")
        while not home.github.exchanges("/big") and not home.parts.resource.in_flight:
            await _tick(home)
        got = await home.get("/thing", token="alice-1")
        assert got.json == {"a": 1}
        transport.abortConnection()


async def _tick(home: Home) -> None:
    turned: Deferred[None] = Deferred()
    home.parts.reactor.callLater(0, turned.callback, None)
    await turned
