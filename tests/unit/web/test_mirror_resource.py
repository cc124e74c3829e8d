"""Malformed requests, responses that break off, and rewritten responses, on real sockets."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from ghmirror_tw.web import exchange_channel
from tests.harness.home import Home, open_home, start, until

#: The sent bytes (with HOST in place of the mirror's own), and the status of the response.
BAD: list[tuple[bytes, int]] = [
    (b"GET / HTTP/1.1 x\r\n\r\n", 400),
    (b"GET  / HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\r\n\r\n", 400),
    (b"GET http://u@evil.test/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
    (b"GET http://evil.test/ HTTP/1.1\r\n\r\n", 400),
    (b"GET //evil.test/ HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 404),
    (b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 400),
    (b"GET @evil.test/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
    (b"GET * HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
    (b"GET /a%00b HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
    (b"GET /a/../b HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: user@evil.test\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: HOST\r\nno colon\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: HOST\r\nX : 1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: a\0b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: a\rb: c\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n\r\n", 400),
    (
        b"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    (b"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    (b"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1000001\r\n\r\n", 413),
    (
        b"POST / HTTP/1.1\r\nHost: HOST\r\nExpect: 100-continue\r\nContent-Length: 1000001\r\n\r\n",
        413,
    ),
    (
        b"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\nf4241\r\n"
        + b"x" * 1_000_001,
        413,
    ),
    (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: HOST\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: HOST\r\n" + b"X: %s\r\n" % (b"x" * 900) * 30 + b"\r\n", 431),
    (b"BREW / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 501),
    (b"TRACE / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 501),
    (b"CONNECT / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 501),
]


class BadRequests(TestCase):
    """The mirror responds to them itself."""

    async def test_bad_requests_get_a_json_error(self) -> None:
        """Nothing of them reaches GitHub."""
        self.patch(exchange_channel, "CLOSE_TIMEOUT_S", 0.05)
        home = await open_home(self, server={"max_request_size": 1_000_000})
        for sent, status in BAD:
            closing = sent.replace(b"Host: HOST", b"Host: %s" % home.url[7:].encode())
            if b"Connection" not in closing and b"\r\n\r\n" in closing:
                closing = closing.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
            got = await home.raw(closing)
            head, _, body = got.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status), (sent[:80], got[:200])
            assert got.count(b"HTTP/1.1 ") == 1, (sent[:80], got)
            shown = json.loads(body)
            assert {"message", "documentation_url"} <= set(shown)
            assert b"ghmirror; detail=" in head
        assert list(home.github.log) == []

    async def test_loop_is_a_508(self) -> None:
        """A request with the mirror in its `Via` is not forwarded."""
        home = await open_home(self)
        via = f"1.1 {home.parts.resource.pseudonym.decode()}"
        got = await home.get("/zen", token="alice-1", headers={"Via": ["1.0 other", via]})
        assert (got.status, list(home.github.log)) == (508, [])

    async def test_targets_reach_github_byte_for_byte(self) -> None:
        """Encoded slashes stay encoded, and the host is always GitHub's."""
        home = await open_home(self)
        for target in ("/a%2Fb/c%20d?q=%2F&x=a%5Cb", "/x?", "/search?q=a+b:c@d", "/a;b=c"):
            await home.get(target, token="alice-1", headers={"Host": ["other.test"]})
            exchange = home.github.log[-1]
            assert exchange.target == target.encode()
            assert exchange.field(b"host") == home.github.api_url[7:].encode()

    async def test_pipelined_requests_get_responses_in_order(self) -> None:
        """An HTTP/1.0 connection is closed after its response."""
        home = await open_home(self)
        line = b"GET %s HTTP/1.1\r\nHost: x\r\nUser-Agent: t\r\n%s\r\n"
        got = await home.raw(
            line % (b"/zen", b"") + line % (b"/nowhere", b"Connection: a, close\r\n")
        )
        assert got.index(b" 200 ") < got.index(b" 404 ")
        assert got.endswith(b"}")
        old = await home.raw(b"GET / HTTP/1.0\r\nUser-Agent: t\r\n\r\n")
        assert f"{home.url}/user".encode() in old


class Failures(TestCase):
    """Faults of GitHub's end in an error response."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self, github={"timeout": 0.3, "idle_timeout": 0.3})
        self.github = self.home.github
        self.github.put("/thing", {"text": "x" * 3000})

    async def fails(self, kind: str, status: int) -> None:
        """The response after a fault of *kind* has *status*; later ones succeed."""
        for path, method in (("/thing", "GET"),):
            fault = self.github.fault(path, kind)
            no_cache = {"Cache-Control": "no-cache"}
            got = await self.home.send(method, path, token="alice-1", headers=no_cache)
            fault.end()
            assert got.status == status, (kind, got)
            assert {"message", "documentation_url"} <= set(got.json)
            assert got.field("x-cache") == "MISS"
        assert (await self.home.get("/thing", token="alice-1")).status == 200

    async def test_status_of_each_fault(self) -> None:
        """GitHub's own 5xx; 502 for a broken response, 504 for a timeout."""
        for status in (500, 502, 503, 504):
            await self.fails(str(status), status)
        for kind in ("refuse", "reset", "malformed"):
            await self.fails(kind, 502)
        for kind in ("reset-in-content", "truncated", "bad-gzip"):
            await self.fails(kind, 502)
        for kind in ("timeout", "idle-in-content"):
            await self.fails(kind, 504)

    async def test_timeout_names_the_option(self) -> None:
        """The mirror's own 504 has the option and its value."""
        for kind, words in (
            ("timeout", "[github] timeout = 300ms"),
            ("idle-in-content", "[github] idle_timeout = 300ms"),
        ):
            fault = self.github.fault("/thing", kind)
            got = await self.home.get("/thing", token="alice-1")
            fault.end()
            assert words in got.json["message"]

    async def test_server_error_of_github_is_passed_on(self) -> None:
        """With status, fields and content, to each client that waits."""
        self.home.move_on(0.0)
        barrier = self.github.hold("/thing")
        self.github.fault("/thing", "503")
        pending = [start(self.home.get("/thing", token="alice-1")) for _ in range(3)]
        await barrier.arrived(1)
        await until(lambda: self.home.parts.resource.in_flight == 3)
        barrier.open()
        for number, each in enumerate(pending):
            got = await each
            assert (got.status, got.json["message"]) == (503, "Server Error")
            collapsed = "; collapsed" if number else ""
            assert got.outcome == f"fwd=uri-miss; fwd-status=503{collapsed}"
            assert got.field("x-github-request-id") is not None
            assert got.field("x-cache") == "MISS"
        assert len(self.github.exchanges("/thing")) == 1

    async def test_server_error_to_head_has_no_content(self) -> None:
        """As for any response to HEAD."""
        self.github.fault("/thing", "502")
        got = await self.home.send("HEAD", "/thing", token="alice-1")
        assert (got.status, got.outcome) == (502, "fwd=uri-miss; fwd-status=502")
        assert got.field("x-github-request-id") is not None

    async def test_large_server_error_is_a_502(self) -> None:
        """Content too large for all that wait is replaced; the message names the limit."""
        self.github.put("/large", {"text": "x" * 3000}, status=503)
        small = await open_home(self, self.github, cache={"max_stored_size": 1000})
        self.github.gzip = False
        got = await small.get("/large", token="alice-1")
        assert (got.status, got.outcome) == (502, "detail=broken-answer")
        assert "[cache] max_stored_size = 1000B" in got.json["message"]

    async def test_unreachable_github_is_a_502(self) -> None:
        """After it returns, requests succeed again."""
        home = await open_home(self, self.github)
        await home.get("/thing", token="alice-1")
        await self.github.go_away()
        got = await home.get("/thing", token="alice-1", headers={"Cache-Control": "no-cache"})
        write = await home.send("POST", "/thing", token="alice-1", body=b"{}")
        assert (got.status, write.status) == (502, 502)
        await self.github.come_back()
        assert (await home.get("/thing", token="alice-1")).status == 200

    async def test_response_that_breaks_off_later_aborts_the_connection(self) -> None:
        """After the first byte there is no other way to report it."""
        self.github.put("/big", b"x" * 3_000_000, content_type="application/octet-stream")
        self.github.fault("/big", "reset-in-content")
        small = await open_home(self, self.github, cache={"max_stored_size": 1000})
        head = (
            b"GET /big HTTP/1.1\r\nHost: x\r\nUser-Agent: t\r\nAuthorization: token alice-1\r\n\r\n"
        )
        broken = Deferred.fromCoroutine(small.raw(head))
        result: list[Any] = []
        broken.addBoth(result.append)
        turned: Deferred[None] = Deferred()
        broken.addBoth(turned.callback)
        await turned
        got = result[0]
        assert not isinstance(got, bytes) or len(got) < 3_000_000


class Passing(TestCase):
    """Requests and responses that pass through the mirror."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github

    async def test_end_to_end_fields_are_forwarded(self) -> None:
        """Fields of the connection are not."""
        sent = {
            "X-Own": "1",
            "Connection": "x-hop",
            "X-Hop": "1",
            "TE": "trailers",
            "Proxy-Authorization": "Basic secret",
            "Content-Type": "application/json",
        }
        await self.home.send("PATCH", "/thing", token="alice-1", headers=sent, body=b"{}")
        exchange = self.github.log[-1]
        assert exchange.body == b"{}"
        assert exchange.field(b"x-own") == b"1"
        assert exchange.field(b"via") is not None
        for name in (b"x-hop", b"te", b"proxy-authorization", b"x-forwarded-for"):
            assert exchange.field(name) is None

    async def test_urls_name_the_mirror(self) -> None:
        """In JSON, `Link` and `Location`, in the shape that the client uses."""
        api = self.github.api_url
        self.github.put("/thing", {"url": f"{api}/thing", "text": f"see {api}/thing"})
        self.github.rename("/old", "/thing")
        for prefix in ("", "/api/v3"):
            got = await self.home.get(f"{prefix}/thing", token="alice-1")
            assert got.json["url"] == f"{self.home.url}{prefix}/thing"
            assert got.json["text"] == f"see {api}/thing"
            assert (got.field("etag") or "").startswith('W/"')
            moved = await self.home.get(f"{prefix}/old", token="alice-1")
            assert moved.status == 301
            assert (moved.field("location") or "").startswith(f"{self.home.url}{prefix}/")
        raw = f'{{"url": "{api}/thing"}}'.encode()
        self.github.put("/raw", raw, content_type="application/vnd.github.raw+json")
        assert (await self.home.get("/raw", token="alice-1")).content == raw
        self.github.redirect("/zip", "https://codeload.test/x", 302)
        zipped = await self.home.get("/zip", token="alice-1")
        assert zipped.field("location") == "https://codeload.test/x"

    async def test_graphql(self) -> None:
        """Both of its URLs are forwarded, and its JSON is rewritten."""
        api = self.github.api_url
        self.github.graphql = lambda *_: {"url": f"{api}/x"}
        for path, base in (("/graphql", ""), ("/api/graphql", "/api/v3")):
            for coding in ({}, {"Accept-Encoding": "gzip"}):
                got = await self.home.send(
                    "POST", path, token="alice-1", body=b'{"query":"{x}"}', headers=coding
                )
                assert got.json == {"data": {"url": f"{self.home.url}{base}/x"}}
                assert (got.field("content-encoding") == "gzip") is bool(coding)

    async def test_codings_and_preconditions(self) -> None:
        """The client gets gzip or identity as it accepts, and a 304 if it has the content."""
        self.github.put("/text", "y" * 1000, content_type="text/plain; charset=utf-8")
        plain = await self.home.get("/text", token="alice-1")
        packed = await self.home.get("/text", token="alice-1", headers={"Accept-Encoding": "gzip"})
        assert plain.content == gzip.decompress(packed.content) == b"y" * 1000
        assert packed.field("cache-control") == "private, no-cache"
        etag = (packed.field("etag") or "").removeprefix("W/")
        for condition in (etag, f'"other", W/{etag}', "*"):
            got = await self.home.get("/text", token="bob-1", headers={"If-None-Match": condition})
            expected = 304 if condition == "*" else 200
            assert got.status == expected
        for condition in (etag, f'"other", W/{etag}', "*"):
            headers = {"If-None-Match": condition}
            got = await self.home.get("/text", token="alice-1", headers=headers)
            assert (got.status, got.content) == (304, b"")

    async def test_ranges_and_streams(self) -> None:
        """Ranges and content too large to store are passed through for each client."""
        content = bytes(range(256)) * 400
        self.github.put("/big", content, content_type="application/octet-stream")
        part = await self.home.get("/big", token="alice-1", headers={"Range": "bytes=0-9"})
        assert part.outcome == "fwd=bypass"
        small = await open_home(self, self.github, cache={"max_stored_size": 1000})
        for coding in ({}, {"Accept-Encoding": "gzip"}):
            got = await small.get("/big", token="alice-1", headers=coding)
            assert got.plain == content
            assert got.outcome == "fwd=uri-miss; fwd-status=200"
        items = [{"url": f"{self.github.api_url}/{number}"} for number in range(500)]
        self.github.put("/json", items)
        for coding in ({}, {"Accept-Encoding": "gzip"}):
            got = await small.get("/json", token="alice-1", headers=coding)
            assert got.json == [{"url": f"{small.url}/{number}"} for number in range(500)]

    async def test_fields_of_a_trusted_proxy(self) -> None:
        """Only a trusted proxy sets the host; any client sets `https`."""
        trusted = await open_home(
            self, self.github, server={"trusted_proxies": _networks("127.0.0.0/8")}
        )
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "mirror.test"}
        self.github.put("/thing", {"url": f"{self.github.api_url}/thing"})
        shown = []
        for home in (self.home, trusted):
            got = await home.get("/thing", token="alice-1", headers=forwarded)
            shown.append(got.json["url"])
        secure = self.home.url.replace("http:", "https:")
        assert shown == [f"{secure}/thing", "https://mirror.test/thing"]
        assert self.github.log[-1].field(b"x-forwarded-host") is None
        public = await open_home(self, self.github, server={"public_url": "https://p.test"})
        got = await public.get("/thing", token="alice-1", headers={"Host": "p.test"})
        assert got.json["url"] == "https://p.test/thing"
        got = await public.get("/thing", token="alice-1")
        assert got.json["url"] == f"{public.url}/thing"

    async def test_ignored_proxy_is_logged_once(self) -> None:
        """The mirror is not configured for it."""
        events: list[LogEvent] = []
        watch = cast("ILogObserver", events.append)
        globalLogPublisher.addObserver(watch)
        self.addCleanup(globalLogPublisher.removeObserver, watch)
        self.github.put("/thing", {"a": 1})
        await self.home.get("/thing", token="alice-1")
        for _ in range(3):
            headers = {"X-Forwarded-Proto": "https"}
            await self.home.get("/thing", token="alice-1", headers=headers)
        logged = [event for event in events if "X-Forwarded-Proto" in (event["log_format"] or "")]
        assert len(logged) == 1

    async def test_only_allowed_users_are_served(self) -> None:
        """Others get no information."""
        self.github.user("robot[bot]", tokens=["ghs_1"])
        allowed = frozenset({"alice", "robot[bot]"})
        home = await open_home(self, self.github, server={"allowed_users": allowed})
        self.github.put("/thing", {"a": 1})
        responses = [await home.get("/thing", token=t) for t in ("alice-1", "alice-1", "ghs_1")]
        assert [each.status for each in responses] == [200, 200, 200]
        refused = [await home.get(p, token="bob-1") for p in ("/thing", "/nowhere")]
        assert [each.status for each in refused] == [403, 403]
        assert refused[0].content == refused[1].content
        assert (await home.get("/thing")).status == 401
        unknown = await home.get("/thing", token="nobodys")
        assert (unknown.status, unknown.json["message"]) == (401, "Bad credentials")
        await self.github.go_away()
        assert (await home.get("/thing", token="carol-1")).status == 502
        await self.github.come_back()


def _networks(*texts: str) -> Any:
    from ipaddress import ip_network  # noqa: PLC0415

    make: Callable[[str], Any] = ip_network
    return tuple(make(text) for text in texts)
