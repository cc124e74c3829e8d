"""Heads of responses."""

from __future__ import annotations

from collections import Counter

import pytest
from twisted.trial.unittest import TestCase

from ghmirror_tw.github.cors import EXPOSED, ON_PREFLIGHT
from ghmirror_tw.web import exchange_channel
from ghmirror_tw.web.response_head import head_of
from tests.harness.home import Home, open_home

#: As api.github.com spells them over HTTP/1.1.
SPELLINGS = (
    "Access-Control-Allow-Origin",
    "Access-Control-Expose-Headers",
    "Cache-Control",
    "Content-Type",
    "Date",
    "ETag",
    "Last-Modified",
    "Link",
    "Location",
    "Retry-After",
    "Server",
    "Strict-Transport-Security",
    "Vary",
    "Deprecation",
    "Sunset",
    "X-Accepted-GitHub-Permissions",
    "X-Accepted-OAuth-Scopes",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-GitHub-Media-Type",
    "X-GitHub-OTP",
    "X-GitHub-Request-Id",
    "X-GitHub-SSO",
    "X-OAuth-Client-Id",
    "X-OAuth-Scopes",
    "X-Poll-Interval",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-RateLimit-Resource",
    "X-RateLimit-Used",
    "X-XSS-Protection",
    "github-authentication-token-expiration",
    "x-github-api-version-selected",
)


def test_names_have_the_spelling_of_github() -> None:
    """With any received spelling."""
    for given in (str.lower, str.upper, str.title):
        lines = [(given(name).encode(), b"x") for name in SPELLINGS if "Access" not in name]
        head = (head_of(b"HTTP/1.1", 200, lines) or b"").decode()
        names = [line.partition(":")[0] for line in head.split("\r\n")[1:-2]]
        assert sorted(names) == sorted(SPELLINGS)


@pytest.mark.parametrize(
    ("status", "first"),
    [
        (200, b"HTTP/1.1 200 OK"),
        (422, b"HTTP/1.1 422 Unprocessable Entity"),
        (429, b"HTTP/1.1 429 Too Many Requests"),
        (504, b"HTTP/1.1 504 Gateway Timeout"),
        (599, b"HTTP/1.1 599 Unknown Status"),
    ],
)
def test_reason_phrase(status: int, first: bytes) -> None:
    """That of RFC 9110, or GitHub's."""
    assert (head_of(b"HTTP/1.1", status, []) or b"").split(b"\r\n")[0] == first


def test_value_with_a_line_break_is_rejected() -> None:
    """It would inject a field."""
    for value in (b"a\r\nb: c", b"a\nb", b"a\rb"):
        assert head_of(b"HTTP/1.1", 200, [(b"x", value)]) is None


class Heads(TestCase):
    """Heads on real connections."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.patch(exchange_channel, "CLOSE_TIMEOUT_S", 0.05)
        self.home = await open_home(self, cache={"max_stored_size": 2000})
        self.github = self.home.github
        self.github.put("/thing", {"a": 1})
        self.github.put("/large", b"x" * 300_000, content_type="application/octet-stream")

    async def head(self, method: str, target: str, *more: str, home: Home | None = None) -> str:
        """Return the head of one response, unchanged."""
        lines = "".join(f"{line}\r\n" for line in more)
        got = await (home or self.home).raw(
            f"{method} {target} HTTP/1.1\r\nHost: a\r\nUser-Agent: a\r\n"
            f"Connection: close\r\n{lines}\r\n".encode()
        )
        return got.partition(b"\r\n\r\n")[0].decode()

    @staticmethod
    def values(head: str) -> dict[str, str]:
        """Return the fields of a head by the names as they are spelled, each of which is once."""
        lines = [line.partition(": ") for line in head.split("\r\n")[1:]]
        twice = [name for name, count in Counter(line[0] for line in lines).items() if count > 1]
        assert not twice, head
        return {name: value for name, _, value in lines}

    async def heads(self) -> dict[str, str]:
        """Return a head of each kind."""
        alice, bob = (f"Authorization: token {name}-1" for name in ("alice", "bob"))
        small = await open_home(self, self.github, cache={"fresh_for": 60.0})
        users = await open_home(self, self.github, server={"allowed_users": frozenset({"alice"})})
        heads = {
            "miss": await self.head("GET", "/thing", alice),
            "revalidated": await self.head("GET", "/thing", alice),
            "shared": await self.head("GET", "/thing", bob),
            "not modified": await self.head("GET", "/thing", alice, "If-None-Match: *"),
            "head": await self.head("HEAD", "/thing", alice),
            "not found": await self.head("GET", "/nowhere", alice),
            "streamed": await self.head("GET", "/large", alice),
            "write": await self.head("DELETE", "/thing/1", bob),
            "before fresh": await self.head("GET", "/thing", alice, home=small),
            "fresh": await self.head("GET", "/thing", alice, home=small),
            "no credential": await self.head("GET", "/thing", home=users),
            "not allowed": await self.head("GET", "/thing", bob, home=users),
            "malformed": await self.head("GET", "/a/../b", alice),
            "no request": await self.head("GET", "/", "no colon"),
            "too long": await self.head("GET", "/" + "x" * 20_000),
            "unknown method": await self.head("BREW", "/"),
            "health": await self.head("GET", "/healthz"),
            "options": await self.head("OPTIONS", "/thing", alice),
        }
        await self.github.go_away()
        heads["stale"] = await self.head("GET", "/thing", alice)
        heads["error"] = await self.head("GET", "/other", alice)
        return heads

    async def test_every_response_has_cors_fields(self) -> None:
        """GitHub's, the mirror's own, fresh, stale, streamed, and errors of the parser."""
        heads = await self.heads()
        assert " 200 " in heads["stale"]
        assert " 502 " in heads["error"]
        for kind, head in heads.items():
            values = self.values(head)
            assert values["Access-Control-Allow-Origin"] == "*", kind
            exposed = values["Access-Control-Expose-Headers"].split(", ")
            assert {"Link", "X-RateLimit-Remaining", "Cache-Status", "Age"} <= set(exposed), kind
            assert {"X-Cache", "X-From-Cache", "X-Cache-Mode"} <= set(exposed), kind

    async def test_every_response_has_cache_status(self) -> None:
        """Except health checks."""
        for kind, head in (await self.heads()).items():
            if kind != "health":
                values = self.values(head)
                assert {"Cache-Status", "X-Cache", "X-Cache-Mode", "Date"} <= set(values), kind

    async def test_all_kinds_of_responses_have_the_spelling_of_github(self) -> None:
        """Stored, stale and streamed ones."""
        for kind, head in (await self.heads()).items():
            for name in self.values(head):
                near = [each for each in SPELLINGS if each.lower() == name.lower()]
                assert near in ([], [name]), (kind, name)


class Preflights(TestCase):
    """`OPTIONS` with `Access-Control-Request-Method`."""

    async def test_preflight_needs_neither_credential_nor_github(self) -> None:
        """Also with allowed users, below either prefix, and for any path."""
        for users in (frozenset[str](), frozenset({"alice"})):
            home = await open_home(self, server={"allowed_users": users})
            preflight = {
                "Origin": "https://app.example",
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "authorization",
            }
            for target in ("/repos/o/r", "/api/v3/user", "/graphql"):
                got = await home.send("OPTIONS", target, headers=preflight)
                assert (got.status, got.content) == (204, b"")
                for name, value in ON_PREFLIGHT:
                    assert got.field(name.decode()) == value.decode()
                assert got.field("access-control-allow-origin") == "*"
                assert got.field("cache-status") == "ghmirror; detail=preflight"
                assert got.field("x-cache-mode") == "NO-STORE"
                assert got.field("content-length") is None
            assert not home.github.log
            line = 'ghmirror_requests_total{method="OPTIONS",outcome="pass",status="204"}'
            assert await home.metric(line) == 3.0

    async def test_other_options_requests_are_forwarded(self) -> None:
        """With the same checks as all requests."""
        home = await open_home(self, server={"allowed_users": frozenset({"alice"})})
        assert (await home.send("OPTIONS", "/repos/o/r")).status == 401
        await home.send("OPTIONS", "/repos/o/r", token="alice-1")
        assert home.github.log[-1].method == b"OPTIONS"

    async def test_exposed_fields_include_those_of_github(self) -> None:
        """And the mirror's own."""
        home = await open_home(self)
        home.github.put("/thing", {"a": 1})
        port = int(home.github.api_url.rpartition(":")[2])
        direct = await home.send("GET", "/thing", token="alice-1", port=port)
        exposed = EXPOSED.decode().split(", ")
        theirs = (direct.field("access-control-expose-headers") or "").split(", ")
        assert set(theirs) <= set(exposed)
        assert len(exposed) == len(set(exposed))
