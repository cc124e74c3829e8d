"""GitHub is reached through a proxy, whose own responses never count as GitHub's."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from tempfile import mkdtemp

from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from tests.fakes.forward_proxies import start_proxy, start_script
from tests.fakes.github import GitHub
from tests.harness.certificates import Authority
from tests.harness.home import Home, Received, open_home, start, until

LOGIN = "user:hunter2"
SECRETS = ("hunter2", base64.b64encode(LOGIN.encode()).decode())


async def open_tls(case: TestCase, host: str = "127.0.0.1", name: str = "") -> tuple[GitHub, str]:
    """Start a GitHub with TLS, which is called by its address or a *name*.

    Return it and the path of its authority's certificate.
    """
    folder = Path(mkdtemp(prefix="authority-"))
    case.addCleanup(shutil.rmtree, folder)
    paths = Authority.new().issue(folder, (name or host,))
    factory = DefaultOpenSSLContextFactory(str(paths["key"]), str(paths["certificate"]))
    github = GitHub()
    github.user("alice", tokens=["alice-1"])
    await github.listen(context_factory=factory, interface=host)
    if ":" in host:
        github.api_url = github.api_url.replace(host, f"[{host}]")
    case.addCleanup(github.close)
    return github, str(paths["authority"])


async def got_and_logged(home: Home, target: str = "/zen") -> tuple[Received, str]:
    """Send a request; return the response, and the messages of the log."""
    home.accept("alice-1")
    with capturedLogs() as events:
        got = await home.get(target, token="alice-1")
    return got, "\n".join(map(formatEvent, events))


class Tunnels(TestCase):
    """A real proxy that wants a password."""

    async def test_all_requests_use_the_proxy(self) -> None:
        """Reads share a connection, writes have their own; GitHub sees nothing of the proxy."""
        proxy = await start_proxy(self, LOGIN)
        github, authority = await open_tls(self)
        where = github.api_url.removeprefix("https://")
        options = {"api_url": github.api_url, "ca_path": authority, "proxy": proxy.url}
        home = await open_home(self, github, github=options)
        for target in ("/zen", "/user", "/zen"):
            got = await home.get(target, token="alice-1")
            assert got.status == 200, got
        assert (github.connections_made, proxy.targets) == (1, [where])
        github.put("/x", {}, method="POST", status=201)
        got = await home.send("POST", "/x", token="alice-1", body=b"{}")
        assert got.status == 201
        await proxy.seen(lambda: len(proxy.targets) == 2)
        assert (github.connections_made, proxy.targets) == (2, [where] * 2)
        for exchange in github.exchanges():
            names = {name.lower() for name, _ in exchange.fields}
            assert not {each for each in names if each.startswith(b"proxy")}
            assert not {each for _, each in exchange.fields if b"hunter2" in each}

    async def test_plain_http_uses_a_tunnel(self) -> None:
        """As TLS does."""
        proxy = await start_proxy(self, LOGIN)
        home = await open_home(self, github={"proxy": proxy.url})
        for _ in range(2):
            assert (await home.get("/user", token="alice-1")).json["login"] == "alice"
        assert proxy.targets == [home.github.api_url.removeprefix("http://")]
        assert home.github.connections_made == 1

    async def test_large_content_passes_the_tunnel(self) -> None:
        """Unchanged in both directions."""
        proxy = await start_proxy(self, LOGIN)
        home = await open_home(self, github={"proxy": proxy.url})
        got = await home.get("/_stream/3000000", token="alice-1")
        assert len(got.content) == 3_000_000
        sent = bytes(range(256)) * 10_000
        got = await home.send("POST", "/_sink", token="alice-1", body=sent)
        assert got.json["bytes"] == len(sent)

    async def test_ipv6_addresses(self) -> None:
        """Of the proxy, of GitHub, or of both."""
        proxy = await start_proxy(self, LOGIN, host="[::1]")
        github, authority = await open_tls(self, "::1")
        options = {"api_url": github.api_url, "ca_path": authority, "proxy": proxy.url}
        home = await open_home(self, github, github=options)
        assert (await home.get("/zen", token="alice-1")).status == 200
        assert proxy.targets == [github.api_url.removeprefix("https://")]

    async def test_status_page_uses_the_proxy(self) -> None:
        """With and without TLS."""
        proxy = await start_proxy(self, LOGIN)
        plain = await open_home(self)
        secure, authority = await open_tls(self)
        for github in (plain.github, secure):
            page = {"components": [{"name": "API Requests", "status": "major_outage"}]}
            github.put("/status", page)
            before = len(proxy.targets)
            options = {
                "api_url": plain.github.api_url,
                "status_url": f"{github.api_url}/status",
                "ca_path": authority,
                "proxy": proxy.url,
            }
            home = await open_home(self, plain.github, github=options)
            github_breaker = home.parts.github_breaker
            await until(lambda: github_breaker.is_open)  # noqa: B023 - it is over before the next
            (where,) = proxy.targets[before:]
            assert where == github.api_url.partition("://")[2]
            await home.close()

    async def test_status_page_behind_a_refusing_proxy(self) -> None:
        """The reason is logged, and is no evidence against GitHub."""
        script = start_script(self, b"HTTP/1.1 403 No\r\n\r\n")
        with capturedLogs() as events:
            home = await open_home(
                self,
                github={"status_url": "https://status.test/", "proxy": script.url},
            )
            await until(lambda: any("page unreadable" in formatEvent(event) for event in events))
        assert not home.parts.github_breaker.is_open
        logged = "\n".join(map(formatEvent, events))
        assert "does not connect to status.test:443: it responded to CONNECT with 403 No" in logged
        assert not [secret for secret in SECRETS if secret in logged]

    async def test_refusal_of_the_proxy(self) -> None:
        """The client gets connect-error, the log the reason without the password."""
        proxy = await start_proxy(self, LOGIN, ports=[1, 443])
        where = proxy.url.partition("@")[2]
        github = await open_home(self)
        port = github.github.api_url.rpartition(":")[2]
        for login, api_url, words in (
            (LOGIN, github.github.api_url, f"127.0.0.1:{port}: it responded to CONNECT with 403"),
            ("user:hunter2x", "http://127.0.0.1:1", "with 401 Unauthorized: it requires another"),
            (
                "",
                "http://127.0.0.1:1",
                "with 407 Proxy Authentication Required: it requires a user",
            ),
            (
                LOGIN,
                "http://127.0.0.1:1",
                "127.0.0.1:1: it responded to CONNECT with 500 Unable to",
            ),
        ):
            url = f"http://{login}@{where}" if login else f"http://{where}"
            home = await open_home(self, github.github, github={"api_url": api_url, "proxy": url})
            got, logged = await got_and_logged(home)
            assert (got.status, got.outcome) == (502, "detail=connect-error")
            assert f"reason=connect-error error=the proxy {where} does not connect to " in logged, (
                logged[-900:]
            )
            assert words in logged
            assert not [secret for secret in SECRETS if secret in logged + str(got)]
        assert not github.github.log

    async def test_unreachable_proxy(self) -> None:
        """The log names the proxy."""
        options = {"proxy": f"http://{LOGIN}@127.0.0.1:1"}
        home = await open_home(self, github=options)
        got, logged = await got_and_logged(home)
        assert (got.status, got.outcome) == (502, "detail=connect-error")
        assert "the proxy 127.0.0.1:1 does not connect to" in logged
        assert "refused" in logged
        assert not home.github.log

    async def test_refusing_proxy_leads_to_stale_responses(self) -> None:
        """As if GitHub were unavailable."""
        folder = Path(mkdtemp(prefix="proxy-"))
        self.addCleanup(shutil.rmtree, folder)
        path = folder / "proxy"
        proxy = await start_proxy(self, LOGIN)
        path.write_text(proxy.url + "\n")
        home = await open_home(self, github={"proxy_path": str(path)})
        assert (await home.get("/zen", token="alice-1")).status == 200
        path.write_text(start_script(self, b"HTTP/1.1 502 Bad Gateway\r\n\r\n").url)
        home.parts.client.use(home.parts.client.trust)
        got, logged = await got_and_logged(home)
        assert (got.status, got.outcome) == (200, "fwd=stale; detail=connect-error")
        assert not [secret for secret in SECRETS if secret in logged]

    async def test_proxy_file_is_read_for_each_connection(self) -> None:
        """A new password is used at once, a missing file is logged."""
        folder = Path(mkdtemp(prefix="proxy-"))
        self.addCleanup(shutil.rmtree, folder)
        path = folder / "proxy"
        proxy = await start_proxy(self, LOGIN)
        path.write_text(proxy.url.replace("hunter2", "old"))
        home = await open_home(self, github={"proxy_path": str(path)})
        assert (await home.get("/zen", token="alice-1")).status == 502
        path.unlink()
        got, logged = await got_and_logged(home)
        assert (got.status, got.outcome) == (502, "detail=connect-error")
        assert "[github] proxy_path: " in logged
        assert "cannot be read" in logged
        path.write_text(proxy.url + "\n")
        assert (await home.get("/zen", token="alice-1")).status == 200

    async def test_certificate_of_github_is_verified_through_the_tunnel(self) -> None:
        """The certificate of GitHub is verified at the end of a tunnel; the log names what is
        wrong with it, and no request is sent to GitHub.
        """
        proxy = await start_proxy(self, LOGIN)
        github, authority = await open_tls(self)
        named, other = await open_tls(self, name="api.github.test")
        for url in (proxy.url, ""):
            for ca_path, origin, words in (
                (other, github, "certificate verify failed (is its authority in [github] ca_path"),
                ("", github, "certificate verify failed (is its authority in [github] ca_path"),
                (other, named, "its certificate does not name 127.0.0.1"),
            ):
                options = {"api_url": origin.api_url, "ca_path": ca_path, "proxy": url}
                home = await open_home(self, origin, github=options)
                got, logged = await got_and_logged(home)
                assert (got.status, got.outcome) == (502, "detail=connect-error"), logged
                assert words in logged
            options = {"api_url": github.api_url, "ca_path": authority, "proxy": url}
            home = await open_home(self, github, github=options)
            assert (await home.get("/zen", token="alice-1")).status == 200
        assert (len(github.log), len(named.log)) == (2, 0)


class Nonsense(TestCase):
    """Proxies with invalid responses."""

    async def test_nonsense_of_the_proxy_is_not_from_github(self) -> None:
        """Its connection is not used again."""
        forged = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        for response, hangs_up, words in (
            (b"SSH-2.0-OpenSSH_9.2\r\n", False, "is no HTTP/1.1"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, False, "is too long"),
            (b"HTTP/1.1 200 OK\r\nX: 1\r\n", True, "it closed the connection after CONNECT"),
            (b"", True, "it closed the connection after CONNECT"),
            (forged, False, "content of its own"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", False, "content of its own"),
            (b"HTTP/1.1 200 OK\r\n\r\n" + forged, False, "content of its own"),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n" + forged, False, "with 502 Bad Gateway"),
        ):
            script = start_script(self, response, hangs_up=hangs_up)
            home = await open_home(self, github={"proxy": script.url})
            got, logged = await got_and_logged(home)
            assert (got.status, got.outcome) == (502, "detail=connect-error"), response[:50]
            assert words in logged
            assert not [secret for secret in SECRETS if secret in logged + str(got)]
            (request,) = script.received
            assert request.startswith(b"CONNECT ")
            assert b"alice-1" not in request
            await script.disconnected

    async def test_proxy_that_responds_in_place_of_github(self) -> None:
        """TLS fails."""
        script = start_script(self, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        home = await open_home(
            self, github={"api_url": "https://127.0.0.1:1", "proxy": script.url, "timeout": 0.5}
        )
        got, _ = await got_and_logged(home)
        assert got.status == 504
        connect, hello = script.received
        assert connect.startswith(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n")
        assert hello.startswith(b"\x16\x03")

    async def test_silent_proxy_times_out(self) -> None:
        """After `connect_timeout` in all."""
        script = start_script(self, b"")
        home = await open_home(self, github={"proxy": script.url, "connect_timeout": 0.05})
        got, logged = await got_and_logged(home)
        assert (got.status, got.outcome) == (502, "detail=connect-error")
        assert "no tunnel within 0.05 s" in logged
        await script.disconnected

    async def test_cancelled_request_closes_connection_to_proxy(self) -> None:
        """Its tunnel is not needed any more."""
        script = start_script(self, b"")
        home = await open_home(self, github={"proxy": script.url})
        getting = start(home.get("/zen", token="alice-1"))
        getting.addErrback(lambda _: None)
        await script.contacted
        getting.cancel()
        await home.close()
        await script.disconnected
