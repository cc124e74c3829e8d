"""The admin listener: requests without content, for expected hosts."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.trial.unittest import TestCase

from ghmirror_tw.web.admin_site import ADMIN_CONNECTIONS
from tests.harness.home import Home, Raw, open_home, reactor, until

PAGES = ("/", "/metrics", "/status.json", "/nothing")


class Admin(TestCase):
    """A mirror's admin listener, over real connections."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self, server={"admin_hosts": frozenset({"mirror.example"})})

    async def connect(self) -> tuple[Raw, Any]:
        """Return a connection, and its transport."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.home.admin_port)
        raw = await connectProtocol(endpoint, Raw())
        return raw, raw.transport

    async def raw(self, sent: bytes) -> bytes:
        """Send bytes, and return all received ones until the connection is closed."""
        raw, transport = await self.connect()
        transport.write(sent)
        received: bytes = await raw.ended
        return received

    async def status(self, path: str, host: str) -> int:
        """Return the status of a page for a request with this `Host`."""
        home = self.home
        got = await home.send("GET", path, port=home.admin_port, headers={"Host": host})
        return got.status

    async def test_only_expected_hosts_get_pages(self) -> None:
        """Addresses, localhost and configured hosts, with any port; all hosts for health checks."""
        for host in ("127.0.0.1", "10.1.2.3:8081", "[::1]:8081", "LOCALHOST:1", "Mirror.Example:2"):
            assert await self.status("/status.json", host) == 200, host
        for host in (
            "rebound.example",
            "rebound.example:8081",
            "127.0.0.1.rebound.example",
            "localhost.rebound.example",
            "x.mirror.example",
            "mirror.example.",
            "2130706433",
            "[::1",
            "",
            "a b",
        ):
            for page in PAGES:
                assert await self.status(page, host) == 421, (page, host)
            assert await self.status("/healthz", host) == 200
            assert await self.status("/readyz?x", host) == 200
        head = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: rebound.example\r\n"
        received = await self.raw(head + b"Connection: close\r\n\r\n")
        assert received.startswith(b"HTTP/1.1 421 ")

    async def test_responses_have_no_cors_fields(self) -> None:
        """So no page of another origin can read them."""
        requests = [("GET", path) for path in ("/", "/status.json", "/metrics", "/readyz", "/x")]
        for method, path in (*requests, ("HEAD", "/metrics"), ("OPTIONS", "/status.json")):
            got = await self.home.send(
                method,
                path,
                headers={"Origin": "http://elsewhere", "Access-Control-Request-Method": "GET"},
                port=self.home.admin_port,
            )
            names = [name.lower() for name, _ in got.fields.getAllRawHeaders()]
            assert not [name for name in names if name.startswith(b"access-control-")], path
        for head in (b"x", b"GET / HTTP/1.1\r\nContent-Length: 1"):
            refused = await self.raw(head + b"\r\n\r\n")
            assert refused.startswith(b"HTTP/1.1 4")
            assert b"access-control-" not in refused.lower()

    async def test_refusal_names_the_option(self) -> None:
        """The message names `admin_hosts`."""
        home = self.home
        got = await home.send("GET", "/", port=home.admin_port, headers={"Host": "mirror"})
        assert "[server] admin_hosts" in got.json["message"]
        assert got.json["status"] == "421"

    async def test_http_1_0_needs_no_host(self) -> None:
        """Browsers do not send HTTP/1.0."""
        assert (await self.raw(b"GET /metrics HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200 ")
        head = b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n"
        assert (await self.raw(head)).startswith(b"HTTP/1.1 421 ")

    async def test_content_is_refused_on_the_fields(self) -> None:
        """Before any of it is received."""
        for line in (
            b"Content-Length: 60000000\r\nContent-Type: application/x-www-form-urlencoded",
            b"Content-Length: 1",
            b"Content-Length: " + b"9" * 5_000,
            b"Transfer-Encoding: chunked",
            b"Content-Length: 10\r\nExpect: 100-continue",
        ):
            for method in (b"POST", b"GET"):
                head = b"%s /metrics HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n" % (method, line)
                received = await self.raw(head)
                assert received.startswith(b"HTTP/1.1 413 "), (line, method)
                assert b"100 Continue" not in received
        head = b"GET /healthz HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        assert (await self.raw(head)).startswith(b"HTTP/1.0 200 ")

    async def test_content_received_with_the_fields_is_dropped(self) -> None:
        """It is neither parsed nor handled as a request."""
        content = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
        for sent in (
            b"Content-Length: %d\r\n\r\n" % len(content) + content,
            b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(content), content),
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ):
            received = await self.raw(head + sent + content)
            assert received.startswith(b"HTTP/1.1 413 ")
            assert received.count(b"HTTP/1.1 ") == 1

    async def test_large_fields_are_refused(self) -> None:
        """With the same limits as for clients."""
        line = b"X: " + b"x" * 20_000 + b"\r\n"
        received = await self.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + line)
        assert received.startswith(b"HTTP/1.1 431 ")

    async def test_least_recently_used_connection_is_closed_at_the_limit(self) -> None:
        """The listener accepts few connections."""
        first, _ = await self.connect()
        rest = [await self.connect() for _ in range(ADMIN_CONNECTIONS)]
        await until(lambda: first.ended.called)
        first.ended.addErrback(lambda _: None)
        assert await self.status("/healthz", "localhost") == 200
        for raw, transport in rest:
            raw.ended.addErrback(lambda _: None)
            transport.abortConnection()

    #: Idle connections are closed after a minute in any case.
    test_least_recently_used_connection_is_closed_at_the_limit.timeout = 30  # type: ignore[attr-defined]

    async def test_failing_page_is_a_500(self) -> None:
        """The log has the reason."""

        def fail() -> dict[str, Any]:
            raise RuntimeError("no figures")

        self.home.parts.admin.figures = fail
        assert await self.status("/status.json", "localhost") == 500
        assert len(self.flushLoggedErrors(RuntimeError)) == 1
        assert await self.status("/healthz", "localhost") == 200
