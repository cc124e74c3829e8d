"""The stand-in for api.github.com follows the rules on which tests rely."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import resource
import sys
import zlib
from typing import Any, cast

import pytest
from attrs import frozen
from twisted.internet import error, reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IPullProducer, ITCPTransport
from twisted.internet.protocol import ProcessProtocol, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.fakes.github import (
    BLOCK,
    NEW_VERSION,
    OLD_VERSION,
    VARY,
    Exchange,
    GitHub,
    populate,
)

REACTOR = cast("Any", reactor)
AGENT = "tests"


@frozen
class Reply:
    """A response as received."""

    status: int
    fields: list[tuple[str, str]]
    content: bytes
    """As sent, but for chunks."""
    clean: bool
    """The connection was closed, not reset."""

    def get(self, name: str) -> str | None:
        values = [v for k, v in self.fields if k.lower() == name.lower()]
        return ", ".join(values) if values else None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        assert value is not None, f"no {name} in {self}"
        return value

    def json(self) -> Any:
        content = self.content
        if self.get("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        return json.loads(content)


class Client(Protocol):
    """A connection that stores received data until it is lost."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.size_bytes = 0
        self.keeps = True
        self.clean = False
        self.done: Deferred[None] = Deferred()
        self.watched: tuple[bytes, Deferred[None]] | None = None

    @property
    def wire(self) -> ITCPTransport:
        return cast("ITCPTransport", self.transport)

    def dataReceived(self, data: bytes) -> None:
        self.size_bytes += len(data)
        if self.keeps:
            self.received.append(data)
            if self.watched is not None and self.watched[0] in b"".join(self.received):
                seen, self.watched = self.watched[1], None
                seen.callback(None)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.clean = reason is not None and reason.check(error.ConnectionDone) is not None
        self.done.callback(None)

    def seen(self, piece: bytes) -> Deferred[None]:
        """Fire when these bytes have been received."""
        seen: Deferred[None] = Deferred()
        self.watched = (piece, seen)
        self.dataReceived(b"")
        return seen


@implementer(IPullProducer)
class Upload:
    """Sends zeros, as fast as the transport accepts them."""

    def __init__(self, wire: ITCPTransport, size_bytes: int) -> None:
        self.wire = wire
        self.left = size_bytes

    def resumeProducing(self) -> None:
        block = bytes(min(self.left, 1 << 16))
        self.left -= len(block)
        self.wire.write(block)
        if not self.left:
            cast("Any", self.wire).unregisterProducer()

    def stopProducing(self) -> None:
        self.left = 0


def parsed(raw: bytes, *, clean: bool = True) -> Reply:
    while raw.startswith(b"HTTP/1.1 100 "):
        raw = raw.partition(b"\r\n\r\n")[2]
    head, _, content = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = [(k, v.strip()) for k, _, v in (line.partition(":") for line in lines)]
    if ("Transfer-Encoding", "chunked") in fields:
        rest, content = content, b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            content += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
    return Reply(int(first.split(" ")[1]), fields, content, clean)


def spelled(method: str, target: str, fields: dict[str, str], body: bytes = b"") -> bytes:
    if body:
        fields = {"Content-Length": str(len(body))} | fields
    lines = [f"{method} {target} HTTP/1.1", "Host: api.github.com"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def connected(github: GitHub) -> Client:
    port = int(github.api_url.rpartition(":")[2])
    client = Client()
    await connectProtocol(TCP4ClientEndpoint(REACTOR, "127.0.0.1", port), client)
    return client


async def raw(
    github: GitHub,
    target: str,
    method: str = "GET",
    body: bytes = b"",
    token: str | None = "tok",
    **fields: str,
) -> tuple[bytes, bool]:
    """Send a request on a new connection, and return all bytes received until it closes."""
    own = {"Connection": "close", "User_Agent": AGENT}
    if token is not None:
        own["Authorization"] = f"token {token}"
    client = await connected(github)
    client.wire.write(spelled(method, target, own | fields, body))
    await client.done
    return b"".join(client.received), client.clean


async def send(
    github: GitHub,
    target: str,
    method: str = "GET",
    body: bytes = b"",
    token: str | None = "tok",
    **fields: str,
) -> Reply:
    received, clean = await raw(github, target, method, body, token, **fields)
    return parsed(received, clean=clean)


async def pause(seconds: float = 0.0) -> None:
    await deferLater(REACTOR, seconds, lambda: None)


def hexed(*pieces: bytes) -> str:
    return hashlib.sha256(b"".join(pieces)).hexdigest()


class Case(TestCase):
    """A GitHub with two users."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.github = GitHub()
        self.github.user("alice", tokens=["tok", "tok2"])
        self.github.user("bob", tokens=["bobs"])
        self.github.user("robot[bot]", tokens=["ghs_1"])
        await self.github.listen()

    async def tearDown(self) -> None:  # type: ignore[override]  # trial awaits it
        await self.github.close()


class Credentials(Case):
    async def test_forms_of_authorization(self) -> None:
        """A token is known in each form of Authorization."""
        basic = base64.b64encode(b"user:tok").decode()
        reversed_ = base64.b64encode(b"tok:x-oauth-basic").decode()
        for form in ("token tok", "Bearer tok", f"Basic {basic}", f"basic {reversed_}"):
            reply = await send(self.github, "/user", Authorization=form)
            assert (reply.status, reply.json()["login"]) == (200, "alice"), form

    async def test_unknown_token_receives_401(self) -> None:
        """An unknown, revoked or malformed token receives 401."""
        self.github.revoke("tok2")
        for form in ("token tok2", "token nobodys", "Basic ???", "Digest tok", "tok"):
            reply = await send(self.github, "/user", Authorization=form)
            assert (reply.status, reply.json()["message"]) == (401, "Bad credentials")

    async def test_token_is_valid_once_it_belongs_to_a_user(self) -> None:
        """A token that was unknown is accepted after a user receives it."""
        assert (await send(self.github, "/user", token="new")).status == 401
        self.github.token("new", "alice", expires="2027-01-01 00:00:00 UTC")
        reply = await send(self.github, "/user", token="new")
        assert reply.json()["login"] == "alice"
        assert "2027" in reply["github-authentication-token-expiration"]

    async def test_request_without_credential_is_anonymous(self) -> None:
        """Without credentials there is no user, and responses are public."""
        assert (await send(self.github, "/user", token=None)).status == 401
        reply = await send(self.github, "/", token=None)
        assert reply["Cache-Control"] == "public, max-age=60, s-maxage=60"
        assert reply["X-RateLimit-Limit"] == "60"
        assert reply.get("X-OAuth-Scopes") is None

    async def test_installation_has_no_user_resource(self) -> None:
        """An installation has no /user, but GraphQL names it."""
        reply = await send(self.github, "/user", token="ghs_1")
        assert reply.status == 403
        assert reply.json()["message"] == "Resource not accessible by integration"
        body = b'{"query": "query { viewer { login } }"}'
        reply = await send(self.github, "/graphql", "POST", body, token="ghs_1")
        assert reply.json() == {"data": {"viewer": {"login": "robot[bot]"}}}
        assert reply["X-RateLimit-Resource"] == "graphql"

    async def test_request_without_user_agent_is_refused(self) -> None:
        """A request without User-Agent receives 403."""
        reply = await send(self.github, "/", User_Agent="")
        assert reply.status == 403
        assert b"administrative rules" in reply.content


class Tags(Case):
    async def test_tag_is_the_hash_of_fields_and_content(self) -> None:
        """The tag is the hash of Accept, Authorization, Cookie and content, in this order."""
        self.github.put("/a", b'{"a":1}')
        reply = await send(self.github, "/a", Cookie="c=1", Accept="x/y")
        expected = hexed(b"x/y:", b"token tok:", b"c=1:", b'{"a":1}')
        assert reply["ETag"] == f'"{expected}"'
        reply = await send(self.github, "/a", Authorization="Bearer tok")
        assert reply["ETag"] == f'"{hexed(b"Bearer tok:", reply.content)}"'
        reply = await send(self.github, "/a?x=1", token=None, X_GitHub_Api_Version=NEW_VERSION)
        assert reply["ETag"] == f'"{hexed(reply.content)}"'
        assert self.github.tag({"a": 1}).decode() == reply["ETag"]
        assert reply["Vary"] == VARY

    async def test_tag_depends_on_the_fields_in_vary(self) -> None:
        """Only fields that Vary names count; all of them, where it is * or missing."""
        for vary, pieces in (
            ("Authorization", [b"token tok:"]),
            ("*", [b"x/y:", b"token tok:", b"c:"]),
            (None, [b"x/y:", b"token tok:", b"c:"]),
        ):
            self.github.put("/a", b"{}", vary=vary)
            reply = await send(self.github, "/a", Accept="x/y", Cookie="c")
            assert reply["ETag"] == f'"{hexed(*pieces, b"{}")}"'
            assert reply.get("Vary") == vary

    async def test_compressed_content_has_a_weak_tag(self) -> None:
        """Compressed content has the same tag, as a weak one, unless compression is off."""
        self.github.put("/a", {"a": 1})
        strong = (await send(self.github, "/a"))["ETag"]
        reply = await send(self.github, "/a", Accept_Encoding="br, gzip;q=0.5")
        assert (reply["ETag"], reply["Content-Encoding"]) == (f"W/{strong}", "gzip")
        assert reply.json() == {"a": 1}
        reply = await send(self.github, "/a", Accept_Encoding="gzip;q=0")
        assert reply.get("Content-Encoding") is None
        self.github.gzip = False
        reply = await send(self.github, "/a", Accept_Encoding="gzip")
        assert reply["ETag"] == strong

    async def test_pretty_printing_preserves_the_tag(self) -> None:
        """JSON is pretty-printed for curl and the like after its tag was computed."""
        self.github.put("/a", {"a": 1})
        plain = await send(self.github, "/a")
        for name in ("curl/8", "Wget/1", "Mozilla Firefox", "Safari/1"):
            reply = await send(self.github, "/a", User_Agent=name)
            assert reply["ETag"] == plain["ETag"]
            assert reply.content == b'{\n  "a": 1\n}\n'

    async def test_tags_by_the_other_rule_cannot_be_computed(self) -> None:
        """By the other rule tags are stable, differ by credential, and cannot be computed."""
        self.github.tag_rule = "other"
        self.github.put("/a", {"a": 1})
        first, again, other = [
            (await send(self.github, "/a", token=token))["ETag"] for token in ("tok", "tok", "tok2")
        ]
        assert first == again
        assert first != other
        computed = self.github.tag({"a": 1}, authorization=b"token tok")
        assert first != computed.decode()
        assert (await send(self.github, "/a", If_None_Match=first)).status == 304

    async def test_resource_without_tag(self) -> None:
        """A resource can have no tag."""
        self.github.put("/a", {"a": 1}, etag=False)
        reply = await send(self.github, "/a", If_None_Match="*")
        assert (reply.status, reply.get("ETag")) == (200, None)


class Conditions(Case):
    async def test_if_none_match_compares_weakly(self) -> None:
        """If-None-Match compares weakly, and accepts lists and *."""
        self.github.put("/a", {"a": 1})
        tag = (await send(self.github, "/a"))["ETag"]
        for condition in (tag, f"W/{tag}", f'"x", {tag}', f'W/"x",{tag} ,"y"', "*"):
            reply = await send(self.github, "/a", If_None_Match=condition)
            assert (reply.status, reply["ETag"], reply.content) == (304, tag, b"")
        for condition in ('"x"', f'"x{tag[1:]}', tag[1:-1]):
            assert (await send(self.github, "/a", If_None_Match=condition)).status == 200
        self.github.put("/a", {"a": 2})
        assert (await send(self.github, "/a", If_None_Match=tag)).status == 200

    async def test_tag_computed_for_another_credential_matches(self) -> None:
        """The response to a computed tag of another credential is 304."""
        self.github.put("/a", {"a": 1})
        tag = self.github.tag({"a": 1}, authorization=b"token bobs").decode()
        assert (await send(self.github, "/a", token="bobs", If_None_Match=tag)).status == 304
        assert (await send(self.github, "/a", If_None_Match=tag)).status == 200

    async def test_ignored_lists_of_tags_never_match(self) -> None:
        """Where lists are not honoured, more than one member never matches."""
        self.github.honours_lists = False
        self.github.put("/a", {"a": 1})
        tag = (await send(self.github, "/a"))["ETag"]
        assert (await send(self.github, "/a", If_None_Match=f'{tag}, "x"')).status == 200
        assert (await send(self.github, "/a", If_None_Match=tag)).status == 304

    async def test_ignored_conditions_never_yield_304(self) -> None:
        """Where conditions are not honoured, no request receives 304."""
        self.github.honours_conditions = False
        self.github.put("/a", {"a": 1})
        tag = (await send(self.github, "/a"))["ETag"]
        assert (await send(self.github, "/a", If_None_Match=tag)).status == 200

    async def test_if_modified_since_compares_dates(self) -> None:
        """If-Modified-Since counts where there is a date, and not beside If-None-Match."""
        date = "Tue, 24 Nov 2026 10:00:00 GMT"
        self.github.put("/a", {"a": 1}, last_modified=date)
        self.github.put("/b", {"a": 1})
        reply = await send(self.github, "/a", If_Modified_Since=date)
        assert (reply.status, reply["Last-Modified"]) == (304, date)
        earlier = date.replace("24", "23")
        assert (await send(self.github, "/a", If_Modified_Since=earlier)).status == 200
        assert (await send(self.github, "/b", If_Modified_Since=date)).status == 200
        reply = await send(self.github, "/a", If_Modified_Since=date, If_None_Match='"x"')
        assert reply.status == 200

    async def test_304_omits_link_content_type_and_content(self) -> None:
        """A 304 has the current quota, an optional tag, and no Link or content."""
        self.github.put_list("/a", list(range(40)))
        whole = await send(self.github, "/a", token="tok")
        assert "next" in whole["Link"]
        reply = await send(self.github, "/a", If_None_Match=whole["ETag"])
        assert reply.status == 304
        for name in ("Link", "Content-Type", "Content-Length", "Content-Encoding"):
            assert reply.get(name) is None, name
        assert reply["X-RateLimit-Used"] == "1"
        self.github.tag_in_304 = False
        self.github.content_type_in_304 = True
        reply = await send(self.github, "/a", If_None_Match=whole["ETag"])
        assert reply.get("ETag") is None
        assert reply["Content-Type"] == "application/json; charset=utf-8"

    async def test_head_equals_get_without_content(self) -> None:
        """HEAD has the fields of GET, without content."""
        self.github.put("/a", {"a": 1})
        whole = await send(self.github, "/a")
        reply = await send(self.github, "/a", "HEAD")
        assert (reply.content, reply["Content-Length"]) == (b"", "7")
        assert reply["ETag"] == whole["ETag"]
        assert (await send(self.github, "/a", "HEAD", If_None_Match="*")).status == 304


class Quotas(Case):
    async def test_200_and_404_are_charged_and_304_is_free(self) -> None:
        """A 200 and a 404 cost one, a 304 nothing; all tokens of a user share a quota."""
        self.github.put("/a", {"a": 1})
        tag = (await send(self.github, "/a"))["ETag"]
        await send(self.github, "/a", If_None_Match=tag)
        await send(self.github, "/a", token="tok2")
        reply = await send(self.github, "/none")
        assert reply["X-RateLimit-Used"] == "3"
        assert reply["X-RateLimit-Remaining"] == "4997"
        assert reply["X-RateLimit-Resource"] == "core"
        assert self.github.paid == {("alice", "/a"): 2, ("alice", "/none"): 1}
        assert self.github.free == {("alice", "/a"): 1}
        assert (self.github.total_paid, self.github.total_free) == (3, 1)
        self.github.reset_counts()
        assert (self.github.total_paid, self.github.total_free) == (0, 0)
        assert (await send(self.github, "/a", token="bobs"))["X-RateLimit-Used"] == "1"

    async def test_304_without_valid_credential_is_charged(self) -> None:
        """A 304 without a credential, or with a bad one, is charged."""
        self.github.put("/a", {"a": 1})
        for _ in range(2):
            await send(self.github, "/a", token=None, If_None_Match="*")
        reply = await send(self.github, "/a", token="bad", If_None_Match="*")
        assert reply["X-RateLimit-Used"] == "3"
        assert self.github.paid == {("anonymous", "/a"): 3}

    async def test_path_selects_the_quota(self) -> None:
        """The path selects the quota that is charged."""
        for path, resource_, limit in (
            ("/search/code?q=x", "code_search", "10"),
            ("/search/issues?q=x", "search", "30"),
            ("/app-manifests/x/conversions", "integration_manifest", "5000"),
            ("/repos/o/r", "core", "5000"),
            ("/orgs/o/audit-log", "audit_log", "1750"),
        ):
            reply = await send(self.github, path)
            assert reply["X-RateLimit-Resource"] == resource_
            assert reply["X-RateLimit-Limit"] == limit

    async def test_exhausted_quota_yields_403_or_429(self) -> None:
        """Beyond the limit GitHub sends 403 or 429, also where a 304 would be free."""
        self.github.put("/a", {"a": 1})
        self.github.set_quota("alice", remaining=1, reset_in_s=100)
        tag = (await send(self.github, "/a"))["ETag"]
        reply = await send(self.github, "/a")
        assert (reply.status, reply["X-RateLimit-Remaining"]) == (403, "0")
        assert "API rate limit exceeded for user ID" in reply.json()["message"]
        self.github.limit_status = 429
        assert (await send(self.github, "/a", If_None_Match=tag)).status == 429
        self.github.free_when_exhausted = True
        assert (await send(self.github, "/a", If_None_Match=tag)).status == 304
        assert (await send(self.github, "/a")).status == 429
        assert self.github.limited == {"alice": 3}
        assert self.github.total_paid == 1
        assert (await send(self.github, "/a", token="bobs")).status == 200
        self.github.set_quota("alice", remaining=0, reset_in_s=-1)
        assert (await send(self.github, "/a")).status == 200

    async def test_limits_of_users_and_addresses_can_be_set(self) -> None:
        """The limits of a user and of an address can be set."""
        self.github.user("carol", tokens=["c"], limit=15_000)
        assert (await send(self.github, "/zen", token="c"))["X-RateLimit-Limit"] == "15000"
        self.github.anonymous_limit = 1
        await send(self.github, "/zen", token=None)
        reply = await send(self.github, "/zen", token=None)
        assert "exceeded for 127.0.0.1" in reply.json()["message"]

    async def test_rate_limit_resource_is_free(self) -> None:
        """GET /rate_limit is free, even when nothing is left, and has no tag."""
        self.github.set_quota("alice", remaining=0)
        reply = await send(self.github, "/rate_limit")
        assert (reply.status, reply.get("ETag")) == (200, None)
        assert reply.json()["resources"]["core"]["remaining"] == 0
        assert reply.json()["resources"]["search"]["limit"] == 30
        assert self.github.total_paid == 0

    async def test_requests_in_flight_are_counted_and_limited(self) -> None:
        """The most requests in flight of a credential are counted, and can be limited."""
        self.github.put("/a", {"a": 1})
        self.github.secondary_limit_in_flight = 2
        barrier = self.github.hold("/a")
        waiting = [Deferred.fromCoroutine(send(self.github, "/a")) for _ in range(2)]
        await barrier.arrived(2)
        reply = await send(self.github, "/zen")
        assert (reply.status, reply["Retry-After"]) == (403, "60")
        assert "secondary rate limit" in reply.json()["message"]
        assert (await send(self.github, "/zen", token="tok2")).status == 200
        barrier.open()
        assert [(await each).status for each in waiting] == [200, 200]
        assert self.github.most_in_flight == {"tok": 3, "tok2": 1}
        assert self.github.in_flight["tok"] == 0

    async def test_points_per_minute_are_limited(self) -> None:
        """Reading costs one point, writing five; beyond the budget the chosen response is sent."""
        self.github.put_list("/a", [])
        self.github.secondary_points_per_minute = 6
        self.github.secondary_retry_after_s = None
        self.github.secondary_status = 429
        self.github.secondary_message = "abuse"
        await send(self.github, "/a")
        assert (await send(self.github, "/a", "POST", b"{}")).status == 201
        reply = await send(self.github, "/a")
        assert (reply.status, reply.get("Retry-After")) == (429, None)
        assert "abuse detection mechanism" in reply.json()["message"]
        assert reply["X-RateLimit-Remaining"] != "0"
        assert self.github.most_points_in_minute["tok", "rest"] == 7
        body = b'{"query": "{viewer{login}}"}'
        assert (await send(self.github, "/graphql", "POST", body)).status == 200


class Lists(Case):
    def rels(self, reply: Reply) -> dict[str, str]:
        link = reply.get("Link")
        parts = [part.split(";") for part in link.split(", ")] if link else []
        return {rel.split('"')[1]: url.strip("<>") for url, rel in parts}

    async def test_link_names_prev_next_last_and_first(self) -> None:
        """Link names the pages with absolute URLs and the same query."""
        self.github.put_list("/a", list(range(7)))
        at = f"{self.github.api_url}/a?state=all&per_page=3&page="
        expected: dict[int, tuple[list[int], dict[str, str]]] = {
            1: ([0, 1, 2], {"next": at + "2", "last": at + "3"}),
            2: (
                [3, 4, 5],
                {"prev": at + "1", "next": at + "3", "last": at + "3", "first": at + "1"},
            ),
            3: ([6], {"prev": at + "2", "first": at + "1"}),
            9: ([], {"prev": at + "3", "last": at + "3", "first": at + "1"}),
        }
        for page, (items, rels) in expected.items():
            reply = await send(self.github, f"/a?state=all&per_page=3&page={page}")
            assert (reply.json(), self.rels(reply)) == (items, rels)

    async def test_page_size_is_30_by_default_and_100_at_most(self) -> None:
        """A page has 30 items by default and 100 at most; one page has no Link."""
        self.github.put_list("/a", list(range(150)))
        self.github.put_list("/b", list(range(30)))
        self.github.put_list("/c", list(range(31)), links=False)
        for target, size in (("/a", 30), ("/a?per_page=101", 100), ("/a?per_page=x", 30)):
            assert len((await send(self.github, target)).json()) == size
        reply = await send(self.github, "/b")
        assert (len(reply.json()), reply.get("Link")) == (30, None)
        assert (await send(self.github, "/c")).get("Link") is None

    async def test_tag_of_an_empty_list(self) -> None:
        """The tag of [] is the tag of an empty list."""
        self.github.put_list("/a", [])
        tag = self.github.tag([], authorization=b"token tok").decode()
        reply = await send(self.github, "/a", If_None_Match=tag)
        assert reply.status == 304

    async def test_grown_list_links_a_next_page_with_the_same_tag(self) -> None:
        """A list that grew links a next page, though its first page has the same tag."""
        self.github.put_list("/a", list(range(30)))
        before = await send(self.github, "/a")
        self.github.put_list("/a", list(range(31)))
        after = await send(self.github, "/a")
        assert before["ETag"] == after["ETag"]
        assert 'rel="next"' in after["Link"]

    async def test_cursors_link_pages_both_ways(self) -> None:
        """Cursors lead from page to page and back; no link names the last page."""
        self.github.put_list("/a", list(range(7)), cursor=True)
        target, seen = "/a?per_page=3", []
        while True:
            reply = await send(self.github, target)
            seen.append(reply.json())
            rels = self.rels(reply)
            if "next" not in rels:
                break
            target = rels["next"].removeprefix(self.github.api_url)
        assert seen == [[0, 1, 2], [3, 4, 5], [6]]
        assert set(rels) == {"prev"}
        reply = await send(self.github, rels["prev"].removeprefix(self.github.api_url))
        assert reply.json() == [3, 4, 5]
        assert set(self.rels(reply)) == {"prev", "next"}

    async def test_search_counts_all_items(self) -> None:
        """Object lists count all items and show a page of them."""
        self.github.put_search("/search/issues", list(range(5)))
        self.github.put_list("/runs", [1], wrap="workflow_runs")
        reply = await send(self.github, "/search/issues?q=a+b&per_page=2&page=2")
        expected = {"total_count": 5, "incomplete_results": False, "items": [2, 3]}
        assert reply.json() == expected
        assert "q=a+b&per_page=2&page=3" in self.rels(reply)["next"]
        assert (await send(self.github, "/runs")).json() == {"total_count": 1, "workflow_runs": [1]}

    async def test_list_can_differ_by_user_or_be_private(self) -> None:
        """A list can belong to the requesting user, or be hidden."""
        self.github.put_list("/a", lambda login: [login])
        self.github.put_list("/b", [1], private_to={"bob"})
        assert (await send(self.github, "/a")).json() == ["alice"]
        assert (await send(self.github, "/b")).status == 404
        assert (await send(self.github, "/b", token="bobs")).status == 200


class Content(Case):
    async def test_forms_of_content(self) -> None:
        """Content is bytes, a JSON value, text or a callable; the query may select it."""
        self.github.put("/bytes", b'{"a": 1}')
        self.github.put("/value", ["ü"])
        self.github.put("/text", "hi", content_type="text/plain")
        self.github.put("/call", lambda login, accept: [login, accept])
        self.github.put("/value?x=1", 1)
        for target, content in (
            ("/bytes", b'{"a": 1}'),
            ("/value", '["ü"]'.encode()),
            ("/text", b"hi"),
            ("/call", b'["alice","x/y"]'),
            ("/value?x=1", b"1"),
            ("/%76alue", '["ü"]'.encode()),
        ):
            assert (await send(self.github, target, Accept="x/y")).content == content
        self.github.delete("/value")
        assert (await send(self.github, "/value")).status == 404

    async def test_private_resource_is_404_for_other_users(self) -> None:
        """A private resource and a missing one have the same 404, without a tag."""
        self.github.put("/a", {"a": 1}, private_to={"Bob"})
        self.github.put("/repos/o/p/issues", [])
        self.github.private("/repos/o/p", {"bob"})
        missing = await send(self.github, "/missing")
        for target in ("/a", "/repos/o/p/issues"):
            reply = await send(self.github, target)
            assert (reply.status, reply.content) == (404, missing.content)
            assert reply.get("ETag") is None
            assert (await send(self.github, target, token=None)).status == 404
            assert (await send(self.github, target, token="bobs")).status == 200
        self.github.private("/repos/o/p", None)
        assert (await send(self.github, "/repos/o/p/issues")).status == 200

    async def test_accept_selects_variants(self) -> None:
        """Accept selects raw text and other media types."""
        variants = {"raw": "# hi", "diff": b"--- a", "star": [{"starred_at": 1}]}
        self.github.put("/a", {"a": 1}, variants=variants)
        for accept, content_type, content in (
            ("application/vnd.github.raw", "vnd.github.raw; charset=utf-8", b"# hi"),
            ("application/vnd.github.v3.diff", "vnd.github.diff; charset=utf-8", b"--- a"),
            ("application/vnd.github.star+json", "json; charset=utf-8", b'[{"starred_at":1}]'),
            ("application/vnd.github+json", "json; charset=utf-8", b'{"a":1}'),
        ):
            reply = await send(self.github, "/a", Accept=accept)
            assert reply["Content-Type"] == f"application/{content_type}"
            assert reply.content == content
        reply = await send(self.github, "/a", Accept="application/vnd.github.raw+json")
        assert reply["X-GitHub-Media-Type"] == "github.v3; param=raw; format=json"

    async def test_api_version_selects_content(self) -> None:
        """The API version selects content, is in the response, and must be a known one."""
        self.github.put("/a", {"v": 1}, versions={NEW_VERSION: {"v": 2}})
        old = await send(self.github, "/a", X_GitHub_Api_Version=OLD_VERSION)
        new = await send(self.github, "/a", X_GitHub_Api_Version=NEW_VERSION)
        none = await send(self.github, "/a")
        assert [r.json()["v"] for r in (old, new, none)] == [1, 2, 1]
        selected = [r["x-github-api-version-selected"] for r in (old, new, none)]
        assert selected == [OLD_VERSION, NEW_VERSION, OLD_VERSION]
        for name in ("Deprecation", "Sunset", "Link"):
            assert old.get(name) is not None
            assert new.get(name) is None
            assert none.get(name) is None
        assert 'rel="deprecation"' in old["Link"]
        reply = await send(self.github, "/a", X_GitHub_Api_Version="2020-01-01")
        assert reply.status == 400
        self.github.deprecation = "always"
        assert (await send(self.github, "/a")).get("Sunset") is not None

    async def test_built_in_resources_use_urls_of_the_api(self) -> None:
        """Root, meta, users and repositories have URLs of the API itself."""
        self.github.repository("o/r", {"alice": "push"})
        self.github.repository("o/secret", {"bob": "admin"}, private=True)
        url = self.github.api_url
        root = await send(self.github, "/")
        assert root.json()["rate_limit_url"] == f"{url}/rate_limit"
        assert "hooks" in (await send(self.github, "/meta")).json()
        assert (await send(self.github, "/zen"))["Content-Type"][:10] == "text/plain"
        assert (await send(self.github, "/users/bob")).json()["login"] == "bob"
        repository = (await send(self.github, "/repos/o/r")).json()
        assert repository["url"] == f"{url}/repos/o/r"
        assert repository["permissions"]["push"] is True
        assert repository["permissions"]["admin"] is False
        assert "permissions" not in (await send(self.github, "/repos/o/r", token=None)).json()
        assert (await send(self.github, "/repos/o/secret")).status == 404
        mine = (await send(self.github, "/user/repos", token="bobs")).json()
        assert [r["full_name"] for r in mine] == ["o/secret"]

    async def test_each_response_has_the_fields_of_github(self) -> None:
        """Each response has GitHub's fields, and a request id of its own."""
        one, two = await send(self.github, "/zen"), await send(self.github, "/zen")
        assert one["X-GitHub-Request-Id"] != two["X-GitHub-Request-Id"]
        assert one["Server"] == "github.com"
        assert one["Cache-Control"] == "private, max-age=60, s-maxage=60"
        assert one["X-OAuth-Scopes"] == "repo, user"
        assert one["X-GitHub-Media-Type"] == "github.v3; format=json"
        for name in ("Date", "X-Accepted-OAuth-Scopes", "X-RateLimit-Reset"):
            assert one.get(name) is not None

    async def test_resource_can_have_own_fields(self) -> None:
        """A resource can add fields, also to a 304."""
        self.github.put("/events", [], fields={"X-Poll-Interval": "60"}, cache_control="no-store")
        for status, condition in ((200, ""), (304, "*")):
            reply = await send(self.github, "/events", If_None_Match=condition)
            assert (reply.status, reply["X-Poll-Interval"]) == (status, "60")
            assert reply["Cache-Control"] == "no-store"

    async def test_ranges_of_raw_content(self) -> None:
        """Raw content is served by ranges."""
        self.github.put("/raw", b"0123456789", content_type="application/octet-stream")
        for wanted, content, where in (
            ("bytes=2-4", b"234", "bytes 2-4/10"),
            ("bytes=7-", b"789", "bytes 7-9/10"),
            ("bytes=-2", b"89", "bytes 8-9/10"),
        ):
            reply = await send(self.github, "/raw", Range=wanted)
            assert (reply.status, reply.content) == (206, content)
            assert reply["Content-Range"] == where
        assert (await send(self.github, "/raw", Range="bytes=10-")).status == 416
        reply = await send(self.github, "/raw", Range="bytes=0-1", If_Range='"other"')
        assert (reply.status, len(reply.content)) == (200, 10)
        assert reply["Accept-Ranges"] == "bytes"

    async def test_content_is_chunked_on_request(self) -> None:
        """Content is sent in chunks where that is switched on."""
        self.github.chunked = True
        reply = await send(self.github, "/zen")
        assert reply.content == b"Keep it logically awesome."
        assert reply.get("Content-Length") is None


class Redirects(Case):
    async def test_renamed_repository_redirects(self) -> None:
        """A renamed repository redirects reading with 301 and writing with 307, query and all."""
        self.github.put_list("/repos/a/old/issues", list(range(31)))
        self.github.rename("/repos/a/old", "/repositories/42")
        target = "/repos/a/old/issues?page=1"
        for method, status in (("GET", 301), ("POST", 307)):
            reply = await send(self.github, target, method)
            assert reply.status == status
            where = f"{self.github.api_url}/repositories/42/issues?page=1"
            assert reply["Location"] == where
        reply = await send(self.github, "/repositories/42/issues")
        assert len(reply.json()) == 30
        assert f"<{self.github.api_url}/repositories/42/issues?page=2>" in reply["Link"]
        assert (await send(self.github, "/repos/a/older")).status == 404

    async def test_renamed_private_repository_is_404_for_others(self) -> None:
        """A renamed private repository is a 404 for others, under either name."""
        self.github.repository("a/old", {"bob": "pull"}, private=True)
        self.github.put("/repos/a/p", {})
        self.github.private("/repos/a/p", {"bob"})
        self.github.rename("/repos/a/old", "/repositories/42")
        self.github.rename("/repos/a/p", "/repositories/43")
        for target in ("/repos/a/old", "/repositories/42", "/repos/a/p", "/repositories/43"):
            assert (await send(self.github, target)).status == 404
        assert (await send(self.github, "/repos/a/old", token="bobs")).status == 301
        assert (await send(self.github, "/repositories/43", token="bobs")).status == 200

    async def test_list_can_link_to_another_path(self) -> None:
        """Link can name another path than the request."""
        self.github.put_list("/a", list(range(31)), link_path="/repositories/1/a")
        reply = await send(self.github, "/a")
        assert f"<{self.github.api_url}/repositories/1/a?page=2>" in reply["Link"]

    async def test_download_redirects_to_another_host(self) -> None:
        """A download is a redirect to another host, without a tag."""
        location = "https://codeload.example/o/r?sig=x%2By&expires=1"
        self.github.redirect("/repos/o/r/zipball", location)
        reply = await send(self.github, "/repos/o/r/zipball")
        assert (reply.status, reply["Location"]) == (302, location)
        assert (reply.content, reply.get("ETag")) == (b"", None)


class Writes(Case):
    async def test_post_adds_to_a_list(self) -> None:
        """The response to a POST to a list is 201 with a tag, and the list has a new item."""
        self.github.put_list("/a", [])
        reply = await send(self.github, "/a", "POST", b'{"title":"x"}')
        assert (reply.status, reply.json()) == (201, {"id": 1, "title": "x"})
        assert reply["ETag"] == f'"{hexed(b"token tok:", reply.content)}"'
        assert reply["Location"] == f"{self.github.api_url}/a/1"
        assert (await send(self.github, "/a")).json() == [{"id": 1, "title": "x"}]
        assert (await send(self.github, "/a", "POST", b"{")).status == 400
        assert (await send(self.github, "/a", "POST", b"{}", token=None)).status == 401
        assert (await send(self.github, "/none", "POST", b"{}")).status == 404

    async def test_patch_put_and_delete_change_a_resource(self) -> None:
        """PATCH merges, PUT replaces, DELETE removes."""
        self.github.put("/a", {"a": 1, "b": 1})
        reply = await send(self.github, "/a", "PATCH", b'{"b":2}')
        assert (reply.status, reply.json()) == (200, {"a": 1, "b": 2})
        await send(self.github, "/a", "PUT", b'{"c":3}')
        assert (await send(self.github, "/a")).json() == {"c": 3}
        assert (await send(self.github, "/a", "DELETE")).status == 204
        assert (await send(self.github, "/a")).status == 404

    async def test_response_to_a_method_can_be_set(self) -> None:
        """The response to a method of a path can be set."""
        self.github.put("/a/dispatches", {"ok": 1}, method="POST", status=202)
        reply = await send(self.github, "/a/dispatches", "POST", b"{}")
        assert (reply.status, reply.json()) == (202, {"ok": 1})
        assert (await send(self.github, "/a/dispatches")).status == 404

    async def test_yes_no_resource_is_204_or_404_by_user(self) -> None:
        """A yes/no resource is 204 or 404 by user, without a tag."""
        self.github.yes_no("/user/starred/o/r", {"bob"})
        self.github.yes_no("/orgs/o/members/x")
        reply = await send(self.github, "/user/starred/o/r", token="bobs")
        assert (reply.status, reply.get("ETag"), reply.content) == (204, None, b"")
        assert reply.get("Content-Length") is None
        assert (await send(self.github, "/user/starred/o/r")).status == 404
        assert (await send(self.github, "/user/starred/o/r", "PUT")).status == 204
        assert (await send(self.github, "/user/starred/o/r")).status == 204
        assert (await send(self.github, "/user/starred/o/r", "DELETE")).status == 204
        assert (await send(self.github, "/user/starred/o/r")).status == 404
        assert (await send(self.github, "/orgs/o/members/x")).status == 204

    async def test_statistics_yield_202_first(self) -> None:
        """The response for statistics is 202 until they are computed."""
        self.github.statistics("/stats", [1], computing=2)
        replies = [await send(self.github, "/stats") for _ in range(3)]
        assert [r.status for r in replies] == [202, 202, 200]
        assert replies[0].get("ETag") is None
        assert replies[2].get("ETag") is not None

    async def test_graphql_records_mutations(self) -> None:
        """GraphQL records mutations, needs a credential, and a test can set its response."""
        body = b'{"query": "mutation { x }"}'
        await send(self.github, "/graphql", "POST", body)
        assert self.github.mutations == [("alice", "mutation { x }")]
        assert (await send(self.github, "/graphql", "POST", body, token=None)).status == 401
        self.github.graphql = lambda login, query, variables: {"v": variables}
        reply = await send(self.github, "/graphql", "POST", b'{"query":"q","variables":{"a":1}}')
        assert reply.json() == {"data": {"v": {"a": 1}}}


class Log(Case):
    async def test_log_has_requests_and_their_users(self) -> None:
        """The log has each request as received, and its user."""
        target = "/a%2Fb?q=%7e+x&&"
        await send(self.github, target, "POST", b"body", X_oDD="1")
        exchange = self.github.log[-1]
        assert isinstance(exchange, Exchange)
        assert (exchange.method, exchange.target) == (b"POST", target.encode())
        assert (b"X-oDD", b"1") in exchange.fields
        assert exchange.field(b"x-odd") == b"1"
        assert exchange.field(b"x-even") is None
        assert (exchange.body, exchange.status) == (b"body", 404)
        assert exchange.login == "alice"
        assert abs(exchange.at - REACTOR.seconds()) < 60
        assert self.github.exchanges("/a%2Fb") == [exchange]

    async def test_disconnected_client_is_not_in_flight(self) -> None:
        """A client that disconnects while waiting leaves no request in flight, and no status."""
        barrier = self.github.hold()
        client = await connected(self.github)
        client.wire.write(spelled("GET", "/zen", {"User-Agent": AGENT}))
        await barrier.arrived()
        client.wire.abortConnection()
        await client.done
        while self.github.in_flight["anonymous"]:
            await pause(0.01)
        assert (barrier.waiting, self.github.log[-1].status) == (0, 0)


class Connections(Case):
    async def test_connection_serves_many_requests(self) -> None:
        """A connection serves many requests, also when they are pipelined or in pieces."""
        client = await connected(self.github)
        one = spelled("GET", "/zen", {"User-Agent": AGENT})
        last = spelled("POST", "/a", {"User-Agent": AGENT, "Connection": "close"}, b"body")
        client.wire.write(one + one)
        for byte in one + last:
            client.wire.write(bytes([byte]))
            await pause()
        await client.done
        received = b"".join(client.received)
        assert received.count(b"HTTP/1.1 200 OK") == 3
        assert self.github.connections_made == 1
        assert self.github.log[-1].body == b"body"

    async def test_pipelined_requests_have_responses_in_order(self) -> None:
        """Responses have the order of the requests, though the first one waits."""
        barrier = self.github.hold("/zen")
        client = await connected(self.github)
        fields = {"User-Agent": AGENT}
        client.wire.write(spelled("GET", "/zen", fields))
        client.wire.write(spelled("GET", "/none", fields | {"Connection": "close"}))
        await barrier.arrived()
        await pause(0.01)
        assert client.received == []
        barrier.open()
        await client.done
        assert [e.status for e in self.github.log] == [200, 404]

    async def test_malformed_request_receives_400(self) -> None:
        """A request that is not HTTP receives 400."""
        for nonsense in (
            b"hello\r\n\r\n",
            b"GET x HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nx\r\n\r\n",
        ):
            client = await connected(self.github)
            client.wire.write(nonsense)
            await client.done
            assert parsed(b"".join(client.received)).status == 400

    async def test_http_1_0_closes_the_connection(self) -> None:
        """A response to HTTP/1.0 ends with the connection."""
        client = await connected(self.github)
        client.wire.write(b"GET /zen HTTP/1.0\r\nUser-Agent: x\r\n\r\n")
        await client.done
        assert parsed(b"".join(client.received)).status == 200

    async def test_expect_100_continue_gets_100(self) -> None:
        """A client that waits for 100 (Continue) receives it."""
        client = await connected(self.github)
        fields = {"User-Agent": AGENT, "Expect": "100-continue", "Connection": "close"}
        client.wire.write(spelled("POST", "/_sink", fields | {"Content-Length": "2"}))
        await client.seen(b"100 Continue\r\n\r\n")
        client.wire.write(b"hi")
        await client.done
        assert parsed(b"".join(client.received)).json()["bytes"] == 2


class Streams(Case):
    async def test_sink_counts_received_bytes(self) -> None:
        """The sink reports the bytes received, with Content-Length, or chunked with trailers."""
        body = bytes(range(256)) * 300
        expected = {"bytes": len(body), "sha256": hexed(body)}
        assert (await send(self.github, "/_sink", "POST", body)).json() == expected
        client = await connected(self.github)
        fields = {"User-Agent": AGENT, "Transfer-Encoding": "chunked", "Connection": "close"}
        client.wire.write(spelled("PUT", "/_sink", fields))
        for start in range(0, len(body), 1000):
            piece = body[start : start + 1000]
            client.wire.write(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece))
            await pause()
        client.wire.write(b"0\r\nTrailer: x\r\n\r\n")
        await client.done
        assert parsed(b"".join(client.received)).json() == expected

    async def test_stream_sends_exactly_the_requested_bytes(self) -> None:
        """A stream has exactly the bytes of its path."""
        for size in (0, 1, 200_000):
            reply = await send(self.github, f"/_stream/{size}")
            assert reply.content == (BLOCK * 4)[:size]
            assert reply["Content-Length"] == str(size)
            assert reply["Content-Type"] == "application/octet-stream"

    async def test_large_streams_use_constant_memory(self) -> None:
        """200 MB are sent and received in constant memory, with backpressure."""
        size = 200_000_000
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        client = await connected(self.github)
        client.keeps = False
        fields = {"User-Agent": AGENT, "Connection": "close"}
        client.wire.write(spelled("GET", f"/_stream/{size}", fields))
        cast("Any", client.wire).pauseProducing()
        await pause(0.2)
        cast("Any", client.wire).resumeProducing()
        await client.done
        assert client.size_bytes > size
        client = await connected(self.github)
        client.wire.write(spelled("POST", "/_sink", fields | {"Content-Length": str(size)}))
        cast("Any", client.wire).registerProducer(Upload(client.wire, size), False)
        await client.done
        assert parsed(b"".join(client.received)).json()["bytes"] == size
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown_kb < 60_000


class Faults(Case):
    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        await super().setUp()
        self.github.put("/a", {"a": "x" * 1000})

    async def test_status_faults_are_free_and_counted(self) -> None:
        """A server error repeats as configured, costs nothing, and applies to its path only."""
        self.github.fault("/a", 502, times=1)
        assert (await send(self.github, "/zen")).status == 200
        reply = await send(self.github, "/a")
        assert (reply.status, reply.get("X-RateLimit-Limit")) == (502, None)
        assert (await send(self.github, "/a")).status == 200
        fault = self.github.fault(None, "503", login="bob")
        assert (await send(self.github, "/a", token="bobs")).status == 503
        assert (await send(self.github, "/a")).status == 200
        fault.end()
        assert (await send(self.github, "/a", token="bobs")).status == 200
        assert fault.seen == 1
        with pytest.raises(ValueError, match="gremlins"):
            self.github.fault(None, "gremlins")

    async def test_connection_faults_have_no_response(self) -> None:
        """Connections are closed or reset before the response."""
        for kind, clean in (("refuse", True), ("reset", False)):
            self.github.fault("/a", kind, times=1)
            assert await raw(self.github, "/a") == (b"", clean)
        assert [e.status for e in self.github.log] == [0, 0]

    async def test_content_faults_send_half_of_the_content(self) -> None:
        """Content ends half-way, closed or reset, also where the validator matches."""
        for kind, clean in (("truncated", True), ("reset in content", False)):
            self.github.fault("/a", kind, times=1)
            reply = await send(self.github, "/a", If_None_Match="*")
            assert (reply.status, reply.clean) == (200, clean)
            assert len(reply.content) == int(reply["Content-Length"]) // 2

    async def test_connection_remains_open_during_silent_faults(self) -> None:
        """No response, or half of one, is sent while the connection stays open."""
        for kind in ("timeout", "idle-in-content"):
            self.github.fault("/a", kind, times=1)
            client = await connected(self.github)
            client.wire.write(spelled("GET", "/a", {"User-Agent": AGENT}))
            while not self.github.in_flight["anonymous"]:
                await pause(0.01)
            await pause(0.05)
            assert bool(client.received) == (kind == "idle-in-content")
            assert not client.done.called
            client.wire.abortConnection()
            await client.done
            while self.github.in_flight["anonymous"]:
                await pause(0.01)

    async def test_malformed_status_line_and_content(self) -> None:
        """Status lines and compressed content can be malformed."""
        self.github.fault("/a", "malformed", times=1)
        received, _ = await raw(self.github, "/a")
        assert not received.startswith(b"HTTP/")
        self.github.fault("/a", "bad-gzip", times=1)
        reply = await send(self.github, "/a")
        assert reply["Content-Encoding"] == "gzip"
        assert len(reply.content) == int(reply["Content-Length"])
        with pytest.raises((OSError, EOFError, zlib.error)):
            gzip.decompress(reply.content)

    async def test_faults_of_fields(self) -> None:
        """Tags can be missing, storing forbidden, a field huge."""
        self.github.fault("/a", "no-etag", times=1)
        assert (await send(self.github, "/a")).get("ETag") is None
        self.github.fault("/a", "no-store", times=1)
        assert (await send(self.github, "/a"))["Cache-Control"] == "no-store"
        self.github.fault("/a", "huge field", times=1, size_bytes=70_000)
        assert len((await send(self.github, "/a"))["X-Huge"]) == 70_000

    async def test_slow_fault_and_delay(self) -> None:
        """A slow fault delays one response; a delay applies to all."""
        self.github.fault("/a", "slow", times=1, delay_s=0.05)
        start = REACTOR.seconds()
        assert (await send(self.github, "/a")).status == 200
        assert REACTOR.seconds() - start >= 0.05
        self.github.delay_s = 0.05
        start = REACTOR.seconds()
        assert (await send(self.github, "/a")).status == 200
        assert REACTOR.seconds() - start >= 0.05

    async def test_limit_faults_need_no_quota(self) -> None:
        """Limit responses can be forced without reaching a limit."""
        self.github.fault("/a", "primary-limit", times=1)
        reply = await send(self.github, "/a")
        assert (reply.status, reply["X-RateLimit-Remaining"]) == (403, "0")
        self.github.fault("/a", "secondary-limit", times=1)
        assert (await send(self.github, "/a")).get("Retry-After") is not None
        self.github.fault("/a", "abuse-limit", times=1)
        assert "abuse" in (await send(self.github, "/a")).json()["message"]
        assert (await send(self.github, "/a"))["X-RateLimit-Used"] == "1"

    async def test_offline_server_refuses_connections(self) -> None:
        """An offline server refuses connections; later it listens at the same URL."""
        url = self.github.api_url
        await self.github.go_away()
        with pytest.raises(error.ConnectionRefusedError):
            await send(self.github, "/a")
        await self.github.come_back()
        assert self.github.api_url == url
        assert (await send(self.github, "/a")).status == 200

    async def test_close_breaks_open_connections(self) -> None:
        """Closing aborts open connections, and leaves nothing behind."""
        self.github.hold("/a")
        client = await connected(self.github)
        client.wire.write(spelled("GET", "/a", {"User-Agent": AGENT}))
        await self.github.gates[0].arrived()
        await self.github.close()
        await client.done
        assert not client.clean


class Gates(Case):
    async def test_gate_holds_requests(self) -> None:
        """Held requests wait for the gate, and their responses are those of its opening."""
        self.github.put("/a", 1)
        barrier = self.github.hold("/a")
        waiting = [Deferred.fromCoroutine(send(self.github, "/a?x")) for _ in range(3)]
        await barrier.arrived(3)
        assert (await send(self.github, "/zen")).status == 200
        barrier.release(1)
        assert (await waiting[0]).json() == 1
        assert barrier.waiting == 2
        self.github.put("/a", 2)
        barrier.open()
        assert [(await each).json() for each in waiting[1:]] == [2, 2]
        assert (await send(self.github, "/a")).json() == 2

    async def test_gate_can_hold_responses(self) -> None:
        """A gate can hold responses that were made on arrival."""
        self.github.put("/a", 1)
        barrier = self.github.hold("/a", compute_first=True)
        waiting = Deferred.fromCoroutine(send(self.github, "/a"))
        await barrier.arrived()
        self.github.put("/a", 2)
        barrier.open()
        assert (await waiting).json() == 1


class Program(ProcessProtocol):
    """``python -m tests.fakes.github``."""

    def __init__(self) -> None:
        self.out = self.err = b""
        self.started: Deferred[str] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.out += data
        if b"\n" in self.out and not self.started.called:
            self.started.callback(self.out.decode().splitlines()[0])

    def errReceived(self, data: bytes) -> None:
        self.err += data

    def processEnded(self, reason: Failure) -> None:
        if not self.started.called:
            self.started.errback(AssertionError(self.err.decode()))
        self.ended.callback(None)


class Controls(Case):
    async def control(self, name: str, **given: Any) -> Any:
        reply = await send(self.github, f"/_control/{name}", "POST", json.dumps(given).encode())
        assert reply.status == 200, reply
        return reply.json()

    async def test_control_calls_are_free(self) -> None:
        """The methods that tests call can be called over HTTP, and cost nothing."""
        await self.control("user", login="dora", tokens=["doras"], limit=7)
        await self.control("put", path="/a", content={"a": 1}, private_to=["dora"])
        reply = await send(self.github, "/a", token="doras")
        assert (reply.status, reply["X-RateLimit-Limit"]) == (200, "7")
        await self.control("fault", path="/a", kind="500", times=1)
        assert (await send(self.github, "/a", token="doras")).status == 500
        reply = await send(self.github, "/_control/counts")
        assert reply.json()["total_paid"] == 1
        assert reply.json()["paid"] == [["dora", "/a", 1]]
        log = (await send(self.github, "/_control/log?last=5")).json()
        assert [e["status"] for e in log] == [200, 500]
        await self.control("reset_counts")
        assert self.github.total_paid == 0

    async def test_switches_can_be_read_and_set(self) -> None:
        """Switches can be read and set; an unknown one is refused."""
        assert (await self.control("switches", tag_rule="other"))["tag_rule"] == "other"
        assert self.github.tag_rule == "other"
        reply = await send(self.github, "/_control/switches")
        assert reply.json()["honours_lists"] is True
        for name, given in (("switches", b'{"x":1}'), ("close", b"{}"), ("put", b"{")):
            reply = await send(self.github, f"/_control/{name}", "POST", given)
            assert reply.status == 400

    async def test_preflight_is_free_and_needs_no_credential(self) -> None:
        """A preflight has a response without a credential, at no cost."""
        reply = await send(
            self.github, "/user", "OPTIONS", token=None, Access_Control_Request_Method="GET"
        )
        assert (reply.status, reply["Access-Control-Allow-Origin"]) == (204, "*")
        assert "Authorization" in (reply["Access-Control-Allow-Headers"] or "")
        assert self.github.total_paid == 0

    async def test_resets_at_resets_all_quotas(self) -> None:
        """All quotas are full again at `resets_at`."""
        self.github.resets_at = 4_000_000_000
        for target in ("/zen", "/search/issues"):
            assert (await send(self.github, target))["X-RateLimit-Reset"] == "4000000000"

    async def test_gates_can_be_controlled_over_http(self) -> None:
        """Gates can be closed, watched and opened."""
        await self.control("hold", path="/zen")
        waiting = Deferred.fromCoroutine(send(self.github, "/zen"))
        while (await send(self.github, "/_control/waiting?path=/zen")).json() != {"waiting": 1}:
            await pause(0.01)
        await self.control("open", path="/zen")
        assert (await waiting).status == 200

    async def test_populate_creates_resources_of_the_requested_size(self) -> None:
        """Resources for benchmarks have the requested size, and are equal for all users."""
        populate(self.github, resources=2, users=2, lists=1, items=40, size_bytes=23_000)
        one = await send(self.github, "/repos/bench/repo-1", token="token0")
        two = await send(self.github, "/repos/bench/repo-1", token="token1")
        assert one.content == two.content
        assert abs(len(one.content) - 23_000) < 500
        reply = await send(self.github, "/repos/bench/repo-0/issues", token="token0")
        assert 'rel="last"' in reply["Link"]

    async def test_program_prints_its_url_and_exits_on_a_signal(self) -> None:
        """The program prints its URL first, and ends on a signal."""
        program = Program()
        arguments = [sys.executable, "-m", "tests.fakes.github", "--resources", "1", "--users", "1"]
        process = REACTOR.spawnProcess(program, sys.executable, arguments, env=dict(os.environ))
        outside = GitHub()
        outside.api_url = await program.started
        reply = await send(outside, "/repos/bench/repo-0", token="token0")
        assert reply.status == 200
        counts = (await send(outside, "/_control/counts")).json()
        assert counts["total_paid"] == 1
        process.signalProcess("TERM")
        await program.ended
        assert program.err == b""
