"""Everything that has an address can have one of IPv6."""

from __future__ import annotations

import ipaddress
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP6ClientEndpoint, connectProtocol
from twisted.trial.unittest import TestCase

from tests.fakes.github import GitHub
from tests.harness.home import Raw, open_home
from tests.harness.redis_servers import start_redis
from tests.harness.running import Mirror, start_mirror

reactor: Any = global_reactor

FIELDS = "User-Agent: tests\r\nAuthorization: token alice-1\r\nConnection: close\r\n"


async def raw(port: int, sent: str) -> tuple[str, str]:
    """Send a request to ::1; return head and content of the response."""
    endpoint = TCP6ClientEndpoint(reactor, "::1", port)
    protocol = await connectProtocol(endpoint, Raw())
    assert protocol.transport is not None
    protocol.transport.write(sent.encode())
    head, _, content = (await protocol.ended).decode().partition("\r\n\r\n")
    return head, content


class Ipv6(TestCase):
    """A mirror that listens on tcp6, before a GitHub at ::1."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.github = GitHub()
        self.github.user("alice", tokens=["alice-1"])
        await self.github.listen(interface="::1")
        self.github.api_url = self.github.api_url.replace("::1", "[::1]")
        self.addCleanup(lambda: Deferred.fromCoroutine(self.github.close()))

    async def start(self, **server: object) -> tuple[Mirror, int]:
        """Start one with such a `[server]`; return it and its port."""
        options = {"listen": r"tcp6:0:interface=\:\:1", **server}
        mirror = await start_mirror(
            self, {"server": options, "github": {"api_url": self.github.api_url}}
        )
        return mirror, int(mirror.url.rpartition(":")[2])

    async def test_ipv6_from_client_to_github(self) -> None:
        """URLs in responses have the address in brackets, and requests name GitHub's own."""
        mirror, port = await self.start()
        assert mirror.url.startswith("http://[::1]:")
        self.github.put("/x", {"url": f"{self.github.api_url}/x"})
        for _ in range(2):
            for host in (f"[::1]:{port}", "[2001:DB8::1]", "[::ffff:10.0.0.1]:80"):
                head, content = await raw(
                    port, f"GET /api/v3/x HTTP/1.1\r\nHost: {host}\r\n{FIELDS}\r\n"
                )
                assert head.startswith("HTTP/1.1 200 "), head
                assert content == f'{{"url":"http://{host}/api/v3/x"}}'
        where = self.github.api_url.removeprefix("http://").encode()
        assert {each.field(b"host") for each in self.github.exchanges("/x")} == {where}

    async def test_invalid_hosts_are_refused(self) -> None:
        """Only addresses without a zone are valid in brackets."""
        _, port = await self.start()
        for host in ("::1", f"::1:{port}", "[::1", "[::g]", "[fe80::1%25eth0]", "[1.2.3.4]"):
            head, _ = await raw(port, f"GET / HTTP/1.1\r\nHost: {host}\r\n{FIELDS}\r\n")
            assert head.startswith("HTTP/1.1 400 "), host

    async def test_http_1_0_without_host_uses_the_local_address(self) -> None:
        """URLs for an HTTP/1.0 client without Host have the address that it connected to."""
        _, port = await self.start()
        self.github.put("/x", {"url": f"{self.github.api_url}/x"})
        _, content = await raw(port, f"GET /x HTTP/1.0\r\n{FIELDS}\r\n")
        assert content == f'{{"url":"http://[::1]:{port}/x"}}'

    async def test_trusted_proxies(self) -> None:
        """A listed IPv6 address or network is trusted, other addresses and IPv4 are not."""
        self.github.put("/x", {"url": f"{self.github.api_url}/x"})
        for trusted, base in (
            (["::1"], "https://[2001:db8::1]:8443"),
            (["2001:db8::/32", "::/64"], "https://[2001:db8::1]:8443"),
            (["2001:db8::/32", "0.0.0.0/0"], "https://a.test"),
        ):
            _, port = await self.start(trusted_proxies=trusted)
            _, content = await raw(
                port,
                "GET /x HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\n"
                f"X-Forwarded-Host: [2001:db8::1]:8443\r\n{FIELDS}\r\n",
            )
            assert content == f'{{"url":"{base}/x"}}', trusted

    async def test_dual_stack_socket_trusts_mapped_addresses(self) -> None:
        """A socket for both versions has clients of IPv4 at addresses of IPv6; a proxy is trusted
        by the address that it has.
        """
        home = await open_home(self, self.github)
        resource = home.parts.resource
        site = home.site
        port = reactor.listenTCP(0, site, interface="::")
        self.addCleanup(port.stopListening)
        resource.trusted_proxies = (ipaddress.ip_network("127.0.0.1"),)
        self.github.put("/x", {"url": f"{self.github.api_url}/x"})
        got = await home.get(
            "/x",
            token="alice-1",
            port=port.getHost().port,
            headers={"X-Forwarded-Proto": "https", "X-Forwarded-Host": "a.test"},
        )
        assert got.json == {"url": "https://a.test/x"}

    async def test_redis_over_ipv6(self) -> None:
        """A record that is stored over IPv6 is found by another mirror."""
        server = start_redis(self, host="::1")
        options = {"backend": "redis", "credential_secret": "x"}
        for outcome in ("fwd=uri-miss", "fwd=stale"):
            home = await open_home(
                self,
                self.github,
                cache=options,
                redis={"url": f"redis://[::1]:{server.port}/0"},
            )
            got = await home.get("/zen", token="alice-1")
            assert (got.status, got.outcome.split(";")[0]) == (200, outcome)
            assert home.parts.redis is not None
            assert home.parts.redis.available
            await home.close()
        assert self.github.paid["alice", "/zen"] == 1

    async def test_status_page_over_ipv6(self) -> None:
        """The status page of GitHub may be at an IPv6 address."""
        page = {"components": [{"name": "API Requests", "status": "operational"}]}
        self.github.put("/status", page)
        status = f"{self.github.api_url}/status"
        mirror = await start_mirror(
            self, {"github": {"api_url": self.github.api_url, "status_url": status}}
        )
        await mirror.logged("status=operational")
