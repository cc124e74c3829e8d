"""A mirror in this process, on real sockets, before a stand-in for GitHub.

In a test on the reactor::

    home = await open_home(self, cache={"fresh_for": 60.0})
    home.github.put("/thing", {"a": 1})
    got = await home.get("/thing", token="alice-1")
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Coroutine, Mapping
from io import BytesIO
from typing import Any

from attrs import define, evolve, frozen
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import (
    FileBodyProducer,
    HTTPConnectionPool,
    ProxyAgent,
    ResponseDone,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer

from ghmirror_tw.config.settings import Settings
from ghmirror_tw.store.failover import FailoverStore
from ghmirror_tw.web.admin_site import admin_site
from ghmirror_tw.web.client_connections import MirrorSite
from ghmirror_tw.web.listeners import BACKLOG
from ghmirror_tw.web.mirror_request import MirrorRequest
from ghmirror_tw.wiring.mirror_parts import MirrorParts, build_mirror_parts
from tests.fakes.github import GitHub

reactor: Any = global_reactor


@frozen
class Received:
    """A received response; *content* is in the coding that *fields* name."""

    status: int
    fields: Headers
    content: bytes

    def field(self, name: str) -> str | None:
        """Return the values of a field as one, or None."""
        values = self.fields.getRawHeaders(name)
        return ", ".join(values) if values else None

    @property
    def plain(self) -> bytes:
        """The content without its coding."""
        return gzip.decompress(self.content) if self.field("content-encoding") else self.content

    @property
    def json(self) -> Any:
        """The content, parsed."""
        return json.loads(self.plain)

    @property
    def outcome(self) -> str:
        """The parameters of `Cache-Status` after the cache's name."""
        return (self.field("cache-status") or "").removeprefix("ghmirror; ")


class Raw(Protocol):
    """Collects all bytes until the connection closes."""

    def __init__(self) -> None:
        self.received = b""
        self.ended: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ConnectionDone, ResponseDone):
            self.ended.callback(self.received)
        else:
            self.ended.errback(reason)


async def fetch(
    method: str,
    port: int,
    target: str,
    *,
    token: str | None = None,
    headers: Mapping[str, str | list[str]] | None = None,
    body: bytes | IBodyProducer | None = None,
) -> Received:
    """Send a request unchanged to a local port, and return the response as received."""
    lines = Headers({"Host": [f"127.0.0.1:{port}"], "User-Agent": ["tests"]})
    if token is not None:
        lines.setRawHeaders("Authorization", [f"token {token}"])
    for name, value in (headers or {}).items():
        lines.setRawHeaders(name, [value] if isinstance(value, str) else value)
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    agent = ProxyAgent(endpoint, reactor, HTTPConnectionPool(reactor, persistent=False))
    producer = FileBodyProducer(BytesIO(body)) if isinstance(body, bytes) else body
    response = await agent.request(method.encode(), target.encode(), lines, producer)
    raw = Raw()
    response.deliverBody(raw)
    return Received(response.code, response.headers, await raw.ended)


def start(sending: Coroutine[Deferred[Any], Any, Received]) -> Deferred[Received]:
    """Start a request without waiting for the response."""
    return Deferred.fromCoroutine(sending)


async def until(condition: Callable[[], bool]) -> None:
    """Wait in turns of the reactor until *condition* holds."""
    while not condition():
        await turn()


async def turn() -> None:
    """Wait for one turn of the reactor."""
    turned: Deferred[None] = Deferred()
    reactor.callLater(0, turned.callback, None)
    await turned


@define(eq=False)
class MovableReactor:
    """A reactor whose clock can be moved, and is stopped then; timers are those of the real one.

    Each reading of a stopped clock advances it by a microsecond, so that times are ordered.
    """

    real: Any
    #: The time of the stopped clock; negative: it runs.
    at: float = -1.0

    def seconds(self) -> float:
        """Return the time."""
        if self.at < 0:
            now: float = self.real.seconds()
            return now
        self.at += 1e-6
        return self.at

    def move(self, seconds: float) -> None:
        """Advance the clock by so many seconds, and stop it."""
        self.at = self.seconds() + seconds

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the real reactor."""
        return getattr(self.real, name)


@define(eq=False)
class Home:
    """One mirror, its GitHub, and a client for both; *close* ends it before the test does."""

    github: GitHub
    parts: MirrorParts
    site: MirrorSite
    port: int
    admin_port: int
    close: Callable[[], Deferred[None]]
    clock: MovableReactor

    def move_on(self, seconds: float) -> None:
        """Advance the mirror's clock by so many seconds; afterwards it is stopped.

        A beat to Redis follows at once: requests wait for one, which is due by the moved clock.
        """
        self.clock.move(seconds)
        store = self.parts.store
        if isinstance(store, FailoverStore):
            store.history.look()

    def accept(self, *tokens: str) -> None:
        """Mark tokens as valid, so that the mirror sends no check of them."""
        mirror = self.parts.mirror
        for token in tokens:
            mirror.credentials.accept(mirror.credentials.names.name(f"token {token}".encode()))

    @property
    def url(self) -> str:
        """How clients reach the mirror."""
        return f"http://127.0.0.1:{self.port}"

    async def send(
        self,
        method: str,
        target: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str | list[str]] | None = None,
        body: bytes | IBodyProducer | None = None,
        port: int | None = None,
    ) -> Received:
        """Send a request unchanged, and return the response as received."""
        return await fetch(
            method, port or self.port, target, token=token, headers=headers, body=body
        )

    async def get(self, target: str, **more: Any) -> Received:
        """GET a target."""
        return await self.send("GET", target, **more)

    async def admin(self, target: str) -> Received:
        """GET a target of the admin listener."""
        return await self.send("GET", target, port=self.admin_port)

    async def raw(self, sent: bytes) -> bytes:
        """Send bytes on a new connection; return all bytes received until it closes."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)
        protocol = await connectProtocol(endpoint, Raw())
        assert protocol.transport is not None
        protocol.transport.write(sent)
        received: bytes = await protocol.ended
        return received

    async def metric(self, line: str) -> float:
        """Return the value of one line of the metrics, 0.0 if it isn't there."""
        shown = (await self.admin("/metrics")).content.decode()
        for each in shown.splitlines():
            if each.startswith(line + " "):
                return float(each.rpartition(" ")[2])
        return 0.0


async def open_github(case: TestCase) -> GitHub:
    """Start a stand-in with users alice, bob and carol (tokens alice-1, alice-2, …)."""
    github = GitHub()
    for login in ("alice", "bob", "carol"):
        github.user(login, tokens=[f"{login}-1", f"{login}-2"])
    await github.listen()
    case.addCleanup(github.close)
    return github


def _is_connected(store: FailoverStore | None) -> bool:
    """Return whether Redis has all connections, and a beat has followed the last one; or none."""
    if store is None or not store.available:
        return True
    servers = store.redis.servers
    nodes = {*servers.nodes(), *servers.primaries()}
    full = all(len(each.pool.connections) in {0, each.pool_size} for each in nodes)
    return full and bool(store.history.is_known)


async def open_home(
    case: TestCase,
    before: GitHub | None = None,
    clock: MovableReactor | None = None,
    /,
    **options: Mapping[str, Any],
) -> Home:
    """Start a mirror with *options* by section, and a stand-in unless there is one already."""
    clock = clock or MovableReactor(reactor)
    github = before or await open_github(case)
    base = Settings()
    sections: dict[str, dict[str, Any]] = {"github": {"api_url": github.api_url, "status_url": ""}}
    for section, values in options.items():
        sections[section] = {**sections.get(section, {}), **values}
    settings = evolve(
        base,
        **{name: evolve(getattr(base, name), **values) for name, values in sections.items()},
    )
    parts = build_mirror_parts(clock, settings)
    for part in parts.in_closing_order:
        if hasattr(part, "open"):
            part.open()
    if parts.redis is not None:
        await parts.redis.settled()
        await until(lambda: _is_connected(parts.redis))
    parts.readiness.listening = parts.readiness.restored = True
    site = MirrorSite(parts.resource, MirrorRequest, reactor)
    port = reactor.listenTCP(0, site, backlog=BACKLOG, interface="127.0.0.1")
    pages = admin_site(parts.admin, settings.server.admin_hosts, reactor)
    admin = reactor.listenTCP(0, pages, interface="127.0.0.1")

    closed: list[bool] = []

    async def end() -> None:
        if closed:
            return
        closed.append(True)
        await port.stopListening()
        await admin.stopListening()
        for channel in [*site.channels, *pages.channels]:
            channel.transport.abortConnection()
        for part in parts.in_closing_order:
            await maybeDeferred(part.close)

    def close() -> Deferred[None]:
        return Deferred.fromCoroutine(end())

    case.addCleanup(close)
    return Home(github, parts, site, port.getHost().port, admin.getHost().port, close, clock)
