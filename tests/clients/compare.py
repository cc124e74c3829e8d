"""Two ways of one client: directly to a stand-in for GitHub, and to its twin through a mirror.

A tap in front of either records what the client sends and receives, byte for byte. The two
recordings may differ in what `DIFFERENCES` lists, with a reason each, and in nothing else::

    async def test_reading(self):
        sides = await sides_of(self, furnish)
        both = await sides.run(lambda side: output_of([..., side.url]))
        assert both.unexplained() == []
"""

from __future__ import annotations

import gzip
import re
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator
from email.utils import parsedate_to_datetime
from http.client import HTTPResponse, IncompleteRead
from io import BytesIO
from pathlib import Path
from typing import Any, cast

from attrs import define, evolve, field, frozen
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import (
    Certificate,
    DefaultOpenSSLContextFactory,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.fakes.github import GitHub
from tests.harness.certificates import Authority
from tests.harness.running import Sections, start_mirror

reactor: Any = global_reactor

Fields = list[tuple[str, str]]
Furnish = Callable[[GitHub], object]

# -- recording


@define(eq=False)
class Recording:
    """One connection, with the data in both directions."""

    sent: bytearray = field(factory=bytearray)
    received: bytearray = field(factory=bytearray)


class _Upstream(Protocol):
    """The tap's own connection to the server."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def dataReceived(self, data: bytes) -> None:
        self._client.recording.received += data
        self._client.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._client.end()


class _Client(Protocol):
    """The client's connection to the tap; the server's is opened with it."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self.recording = Recording()
        self._begun = b""
        self._tunnelled = tap.names is None
        self._upstream: _Upstream | None = None

    def connectionMade(self) -> None:
        self._tap.clients.add(self)
        self._tap.recordings.append(self.recording)
        connecting = connectProtocol(self._tap.endpoint(), _Upstream(self))
        connecting.addCallbacks(self._connected, lambda _failure: self.end())

    def _connected(self, upstream: _Upstream) -> None:
        self._upstream = upstream
        assert upstream.transport is not None
        upstream.transport.write(bytes(self.recording.sent))

    def dataReceived(self, data: bytes) -> None:
        if not self._tunnelled:
            self._begun += data
            if b"\r\n\r\n" in self._begun:
                assert self._begun.startswith(b"CONNECT ")
                self._tunnelled = True
                self.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                cast("Any", self.transport).startTLS(self._tap.names)
            return
        self.recording.sent += data
        if self._upstream is not None:
            assert self._upstream.transport is not None
            self._upstream.transport.write(data)

    def write(self, data: bytes) -> None:
        if self.transport is not None and self.connected:
            self.transport.write(data)

    def end(self) -> None:
        if self.transport is not None and self.connected:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._tap.clients.discard(self)
        if self._upstream is not None and self._upstream.transport is not None:
            self._upstream.transport.loseConnection()


@define(eq=False)
class Tap:
    """A proxy of a server at 127.0.0.1 that records the requests and responses of its clients.

    With *certificate* (a context factory) its clients use TLS; with *trust*, so does the tap
    with the server. With *names* (a context factory) it is a proxy that takes each CONNECT and
    is itself the requested server.
    """

    port: int
    certificate: Any = None
    trust: IOpenSSLClientConnectionCreator | None = None
    names: Any = None
    recordings: list[Recording] = field(factory=list)
    clients: set[_Client] = field(factory=set)
    url: str = ""

    def endpoint(self) -> Any:
        """Return where the server is."""
        plain = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)
        return plain if self.trust is None else wrapClientTLS(self.trust, plain)

    async def listen(self, case: TestCase) -> Tap:
        """Listen on a free port until the test is over."""
        factory = Factory.forProtocol(lambda: _Client(self))
        factory.noisy = False
        if self.certificate is None:
            listening = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
            scheme, host = "http", "127.0.0.1"
        else:
            listening = reactor.listenSSL(0, factory, self.certificate, interface="127.0.0.1")
            scheme, host = "https", "localhost"
        self.url = f"{scheme}://{host}:{cast('Any', listening).getHost().port}"

        def close() -> Any:
            for client in list(self.clients):
                cast("Any", client.transport).abortConnection()
            return listening.stopListening()

        case.addCleanup(close)
        return self

    def take(self) -> list[Exchange]:
        """Return what was exchanged since the last time."""
        taken, self.recordings = self.recordings, []
        for client in self.clients:
            # a connection that remains open continues in a recording of its own
            client.recording = Recording()
            self.recordings.append(client.recording)
        return [each for recording in taken for each in exchanges(recording)]


# -- reading what was recorded


@frozen
class Exchange:
    """A request, and its final response; the content is without its coding."""

    method: str
    target: str
    sent: Fields
    content_sent: bytes
    status: int
    reason: str
    fields: Fields
    content: bytes
    complete: bool = True

    def values(self, name: str) -> list[str]:
        """Return the values of a field of the response."""
        return [value for key, value in self.fields if key.lower() == name]

    @property
    def shown(self) -> str:
        return f"{self.method} {self.target}"


class _Unclosed(BytesIO):
    """Is read on by the next response."""

    def close(self) -> None:
        pass

    def makefile(self, _mode: str) -> _Unclosed:
        return self


def _head(stream: BytesIO) -> tuple[str, str, Fields] | None:
    start = stream.readline()
    if not start:
        return None
    fields = []
    while line := stream.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        fields.append((name, value.strip()))
    method, target, _ = start.decode("latin-1").split(" ")
    return method, target, fields


def _content(stream: BytesIO, fields: Fields) -> bytes:
    named = {name.lower(): value for name, value in fields}
    if "chunked" not in named.get("transfer-encoding", ""):
        return stream.read(int(named.get("content-length", 0)))
    pieces = []
    while size := int(stream.readline(), 16):
        pieces.append(stream.read(size))
        stream.readline()
    stream.readline()
    return b"".join(pieces)


def exchanges(recording: Recording) -> Iterator[Exchange]:
    """Parse the recording of a connection."""
    requests, responses = BytesIO(bytes(recording.sent)), _Unclosed(bytes(recording.received))
    while (head := _head(requests)) is not None:
        method, target, fields = head
        content_sent = _content(requests, fields)
        if responses.tell() == len(recording.received):
            return
        response = HTTPResponse(cast("Any", responses), method=method)
        response.begin()
        complete = True
        try:
            content = response.read()
        except IncompleteRead as e:
            content, complete = e.partial, False
        if content and complete and response.headers.get("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        yield Exchange(
            method,
            target,
            fields,
            content_sent,
            response.status,
            response.reason,
            response.headers.items(),
            content,
            complete,
        )


# -- comparing


@frozen
class Pair:
    """The same exchange both ways; *URL* replaces the client's base URL in both."""

    direct: Exchange
    mirrored: Exchange

    def value(self, exchange: Exchange, name: str) -> str:
        return ", ".join(exchange.values(name))

    @property
    def cache_status(self) -> str:
        return self.value(self.mirrored, "cache-status")

    @property
    def is_own(self) -> bool:
        """Whether the mirror sent GitHub nothing for it."""
        return "fwd" not in self.cache_status

    @property
    def reads(self) -> bool:
        return self.mirrored.method in {"GET", "HEAD"}


Holds = Callable[[Pair, str, str], bool]


@frozen
class Difference:
    """Fields that may differ, where *holds* (of the pair, and both values as one), and why."""

    names: frozenset[str]
    why: str
    holds: Holds


def _list(value: str) -> list[str]:
    return [each.strip().lower() for each in value.split(",") if each.strip()]


def _added(_pair: Pair, direct: str, mirrored: str) -> bool:
    return not direct and bool(mirrored)


_TAG = re.compile(r'(W/)?"([0-9a-f]{64})"')


def _tag(pair: Pair, direct: str, mirrored: str) -> bool:
    tags = [_TAG.fullmatch(value) for value in (direct, mirrored)]
    if None in tags:
        return False
    (weak, tag), (weaker, other) = ((found and found.groups()) or ("", "") for found in tags)
    unseen = pair.mirrored.status == 304 or pair.mirrored.method == "HEAD"
    content_type = pair.value(pair.direct, "content-type")
    is_text = unseen or any(kind in content_type for kind in ("json", "text/", "vnd.github"))
    names_urls = any(mark in pair.direct.content for mark in (b"<URL>", b"<GITHUB>"))
    return (tag == other or names_urls or unseen) and (weak == weaker or (is_text and not weak))


def _more_names(pair: Pair, direct: str, mirrored: str) -> bool:
    return mirrored.startswith(f"{direct}, ") or (not direct and pair.direct.status >= 500)


def _both_times(_pair: Pair, direct: str, mirrored: str) -> bool:
    return all(parsedate_to_datetime(value).tzinfo is not None for value in (direct, mirrored))


def _quota(pair: Pair, _direct: str, _mirrored: str) -> bool:
    for exchange in (pair.direct, pair.mirrored):
        limit, remaining, used = (
            int(pair.value(exchange, f"x-ratelimit-{name}"))
            for name in ("limit", "remaining", "used")
        )
        if limit != remaining + used:
            return False
    return True


_REQUEST_ID = re.compile(r"[0-9A-F]+(:[0-9A-F]+){3}")


def _difference(names: str, why: str, holds: Holds) -> Difference:
    return Difference(frozenset(names.split()), why, holds)


DIFFERENCES = (
    _difference(
        "via cache-status x-cache x-cache-mode",
        "the mirror names itself (RFC 9110, 7.6.3), and how the response came about (RFC 9211)",
        _added,
    ),
    _difference(
        "age x-from-cache",
        "a response that GitHub has not confirmed now has an age (RFC 9111, 5.1)",
        _added,
    ),
    _difference(
        "cache-control",
        "caches behind the mirror validate each time, and not every minute, as GitHub lets them",
        lambda pair, _direct, mirrored: pair.reads and mirrored == "private, no-cache",
    ),
    _difference(
        "etag",
        "each stand-in's URLs are its own; what may be rewritten, or came as gzip, has a weak tag",
        _tag,
    ),
    _difference(
        "accept-ranges",
        "content that came as gzip is not GitHub's byte for byte; Range is forwarded all the same",
        lambda pair, _direct, mirrored: (
            not mirrored and pair.value(pair.mirrored, "etag").startswith("W/")
        ),
    ),
    _difference(
        "vary",
        "the mirror codes by Accept-Encoding, also what GitHub does not",
        lambda pair, direct, mirrored: (
            set(_list(direct)) <= set(_list(mirrored)) <= {*_list(direct), "accept-encoding"}
            or (pair.is_own and _list(mirrored) == ["accept-encoding"])
        ),
    ),
    _difference(
        "access-control-expose-headers",
        "scripts in pages may read what the mirror adds",
        _more_names,
    ),
    _difference(
        "access-control-allow-origin",
        "scripts in pages may read errors that come from before GitHub's application, too",
        lambda pair, direct, mirrored: not direct and mirrored == "*" and pair.direct.status >= 500,
    ),
    _difference(
        "retry-after",
        "a known limit is repeated with the time that is left of it",
        lambda pair, direct, mirrored: (
            pair.is_own and direct.isdigit() and 0 < int(mirrored) <= int(direct)
        ),
    ),
    _difference(
        "server strict-transport-security x-frame-options"
        " x-content-type-options x-xss-protection referrer-policy content-security-policy",
        "a known limit is repeated without GitHub: no request was processed there",
        lambda pair, _direct, mirrored: not mirrored and pair.is_own,
    ),
    _difference(
        "status",
        "Enterprise servers repeat the status of their message, which may be a 304",
        lambda pair, direct, mirrored: (
            not mirrored and direct == "200 OK" and "fwd-status=304" in pair.cache_status
        ),
    ),
    _difference(
        "content-length content-encoding transfer-encoding connection keep-alive",
        "these frame one message on one connection, and the mirror codes content itself",
        lambda _pair, _direct, _mirrored: True,
    ),
    _difference("date", "a response is as old as it is", _both_times),
    _difference(
        "x-github-request-id",
        "GitHub has other requests to number, or none: validations, proofs of Link, known limits",
        lambda pair, direct, mirrored: bool(
            _REQUEST_ID.fullmatch(direct)
            and (_REQUEST_ID.fullmatch(mirrored) or (not mirrored and pair.is_own))
        ),
    ),
    _difference(
        "x-ratelimit-remaining x-ratelimit-used",
        "what GitHub confirms with 304 is not charged, a proof of Link may be",
        _quota,
    ),
)
_BY_NAME = {name: difference for difference in DIFFERENCES for name in difference.names}


_TEXT_WITH_URL = re.compile(rb'(?<!url":)(?<!url": )(?<!href":)(?<!href": )(")<URL>')
_TEXT_IN_URL = re.compile(rb'([^"])<URL>')
_TIME = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")
_SPENT = re.compile(rb'"(used|remaining)": ?\d+')


@define(eq=False)
class Side:
    """One of the two ways."""

    github: GitHub
    tap: Tap
    url: str
    """Where the client sends its requests."""
    api_url: str
    """Where GitHub is, by its own account."""
    uploads_url: str = ""
    """GitHub's URL for uploads, or the mirror's, if that is not below `url`."""
    prefix: str = ""
    """The path of `url`."""

    def without_place(self, value: Any) -> Any:
        """Return a client's report without its base URL."""
        if isinstance(value, str):
            text = self._normal(value.encode())
            if text[:1] in {b"{", b"["}:
                text = self._texts_apart(text)
            return text.decode().replace(self.url.partition("//")[2], "<HOST>")
        if isinstance(value, list):
            return [self.without_place(each) for each in value]
        if isinstance(value, dict):
            return {
                name: self._member(name, self.without_place(each)) for name, each in value.items()
            }
        return value

    @property
    def is_direct(self) -> bool:
        """Whether GitHub itself is the client's server; texts have GitHub's URLs both ways."""
        return self.url == self.api_url

    def _member(self, name: str, value: Any) -> Any:
        if self.is_direct and name in {"description", "body"}:
            return value.replace("<URL>", "<GITHUB>")
        return value

    def _texts_apart(self, content: bytes) -> bytes:
        """Distinguish GitHub's URL in texts from that of a client that sends its requests there."""
        if self.is_direct:
            content = _TEXT_WITH_URL.sub(rb"\1<GITHUB>", content)
            content = _TEXT_IN_URL.sub(rb"\1<GITHUB>", content)
        return content

    def exchanges(self) -> list[Exchange]:
        """Return the exchanges since the last time, without URLs and times of this run."""
        return [self._exchange_without_place(each) for each in self.tap.take()]

    def _exchange_without_place(self, each: Exchange) -> Exchange:
        content = self._texts_apart(self._normal(each.content))
        if each.target.endswith("/rate_limit"):
            content = _SPENT.sub(rb'"\1":0', content)
        fields = [(name, self._normal(value.encode()).decode()) for name, value in each.fields]
        target = each.target.removeprefix(self.prefix)
        if ("Host", self.uploads_url.partition("//")[2]) in each.sent:
            target = f"/api/uploads{target}"
        return evolve(each, target=target, content=content, fields=fields)

    def _normal(self, text: bytes) -> bytes:
        if self.uploads_url:
            text = text.replace(self.uploads_url.encode(), b"<URL>/api/uploads")
        text = text.replace(self.url.encode(), b"<URL>")
        text = text.replace(self.api_url.encode(), b"<GITHUB>")
        return _TIME.sub(b"<TIME>", text)


@frozen
class Upstream:
    """The requests that reached GitHub: their number, and of those that it charged for."""

    requests: int
    paid: int


@frozen
class Both:
    """The outcome of one client, run both ways."""

    direct_report: Any
    mirrored_report: Any
    direct: list[Exchange]
    mirrored: list[Exchange]
    upstream: tuple[Upstream, Upstream]
    """Directly, and through the mirror."""
    connections: tuple[int, int] = (1, 1)
    """How many of them the client used, likewise."""

    @property
    def paid(self) -> tuple[int, int]:
        """The requests that GitHub charged for: directly, and through the mirror."""
        return self.upstream[0].paid, self.upstream[1].paid

    @property
    def report(self) -> Any:
        """The client's report, which is the same both ways."""
        assert self.mirrored_report == self.direct_report
        return self.direct_report

    def pairs(self) -> list[Pair]:
        """Return each exchange with its twin; the client sent the same requests both ways."""
        made: list[Pair] = []
        twins: dict[tuple[str, str], list[Exchange]] = defaultdict(list)
        for each in self.mirrored:
            twins[each.method, each.target].append(each)
        for each in self.direct:
            twin = twins[each.method, each.target]
            assert twin, f"not sent to the mirror: {each.shown}"
            made.append(Pair(each, twin.pop(0)))
        left = [each.shown for twin in twins.values() for each in twin]
        assert not left, f"sent to the mirror only: {left}"
        return made

    def unexplained(self) -> list[str]:
        """Return what differs without being in `DIFFERENCES`, in words."""
        return [each for pair in self.pairs() for each in _unexplained(pair)]

    def explained(self) -> set[str]:
        """Return the names of the fields that differ as `DIFFERENCES` has it."""
        return {name for pair in self.pairs() for name, *_ in _differing(pair)}


def _is_in_other_shape(pair: Pair) -> bool:
    """Return whether URLs alone differ, by the prefix, in the response to an upload.

    Its path is the same for clients of either shape of URL, and all have to take that with the
    prefix: PyGithub requires its own prefix, or none.
    """
    content = pair.mirrored.content.replace(b'"<URL>/api/v3', b'"<URL>')
    return pair.direct.target.startswith("/api/uploads/") and content == pair.direct.content


def _differing(pair: Pair) -> Iterable[tuple[str, str, str]]:
    names = [name.lower() for each in (pair.direct, pair.mirrored) for name, _ in each.fields]
    for name in dict.fromkeys(names):
        direct, mirrored = pair.direct.values(name), pair.mirrored.values(name)
        if direct != mirrored:
            yield name, ", ".join(direct), ", ".join(mirrored)


def _unexplained(pair: Pair) -> Iterator[str]:
    direct, mirrored = pair.direct, pair.mirrored
    for what in ("status", "reason", "complete", "content"):
        values = getattr(direct, what), getattr(mirrored, what)
        if values[0] != values[1] and not (what == "content" and _is_in_other_shape(pair)):
            yield f"{direct.shown}: {what}: {values[0]!r}, but through the mirror {values[1]!r}"
    for name, first, second in _differing(pair):
        known = _BY_NAME.get(name)
        if known is not None and known.holds(pair, first, second):
            continue
        yield f"{direct.shown}: {name}: {first!r}, but through the mirror {second!r}"
    spelled = {name.lower(): name for name, _ in direct.fields}
    for name, _ in mirrored.fields:
        if spelled.get(name.lower(), name) != name:
            yield f"{direct.shown}: {spelled[name.lower()]} is spelled {name} by the mirror"


@define(eq=False)
class Sides:
    """Both ways, each with a stand-in of its own."""

    direct: Side
    mirrored: Side

    def each(self, change: Callable[[GitHub], object]) -> None:
        """Change the same in both stand-ins."""
        for side in (self.direct, self.mirrored):
            change(side.github)

    async def run(self, client: Callable[[Side], Coroutine[Any, Any, Any]]) -> Both:
        """Run a client both ways, at the same time."""

        async def one(side: Side) -> Any:
            side.github.reset_counts()
            side.tap.take()
            return side.without_place(await client(side))

        ways = (self.direct, self.mirrored)
        running = [Deferred.fromCoroutine(one(side)) for side in ways]
        reports = await gatherResults(running, consumeErrors=True)
        sent = [Upstream(len(side.github.log), side.github.total_paid) for side in ways]
        used = [sum(bool(each.sent) for each in side.tap.recordings) for side in ways]
        first, second = (side.exchanges() for side in ways)
        return Both(reports[0], reports[1], first, second, (sent[0], sent[1]), (used[0], used[1]))


async def open_github(case: TestCase, context_factory: Any = None) -> GitHub:
    """Start a stand-in with nothing in it, whose quotas are full again at the hour after next."""
    github = GitHub(resets_at=(int(reactor.seconds()) // 3600 + 2) * 3600)
    await github.listen(context_factory=context_factory)
    case.addCleanup(github.close)
    return github


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def sides_of(
    case: TestCase,
    furnish: Furnish,
    sections: Sections | None = None,
    *,
    prefix: str = "",
    shape: str = "",
    folder: Path | None = None,
) -> Sides:
    """Start two stand-ins, furnished alike, a mirror of the second, and a tap before each way.

    The API is below *prefix*; through the mirror, clients use it below *shape*. With a *folder*,
    all that clients reach is reached by TLS, and the folder has the certificate of the authority,
    ``authority.pem``.
    """
    context = trust = None
    listen = "tcp:0:interface=127.0.0.1"
    if folder is not None:
        authority = Authority.new()
        paths = authority.issue(folder)
        key, certificate = paths["key"], paths["certificate"]
        context = DefaultOpenSSLContextFactory(str(key), str(certificate))
        trusted = trustRootFromCertificates([Certificate.loadPEM(authority.pem.encode())])
        trust = optionsForClientTLS("localhost", trustRoot=trusted)
        listen = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
    direct, mirrored = await open_github(case, context), await open_github(case)
    mirrored.api_url += prefix
    options = {name: dict(values) for name, values in (sections or {}).items()}
    options["server"] = {"listen": listen, **options.get("server", {})}
    options["github"] = {"api_url": mirrored.api_url, **options.get("github", {})}
    mirror = await start_mirror(case, options)
    taps = [
        await Tap(port_of(url), context, trust).listen(case) for url in (direct.api_url, mirror.url)
    ]
    direct.api_url = taps[0].url + prefix
    for github in (direct, mirrored):
        if prefix:
            github.alias(prefix, "")
        furnish(github)
    return Sides(
        Side(direct, taps[0], taps[0].url, taps[0].url),
        Side(
            mirrored,
            taps[1],
            taps[1].url + shape,
            mirrored.api_url.removesuffix(prefix),
            f"{taps[1].url}/api/uploads" if shape else "",
            shape,
        ),
    )


async def sides_of_github_com(case: TestCase, furnish: Furnish, folder: Path) -> Sides:
    """Like `sides_of`, with GitHub at ``https://api.github.com``, both ways by a proxy.

    Directly, it is the clients' proxy; the folder has the certificate of the authority.
    """
    names = ("api.github.com", "uploads.github.com")
    paths = Authority.new().issue(folder, names)
    context = DefaultOpenSSLContextFactory(str(paths["key"]), str(paths["certificate"]))
    url, uploads_url = (f"https://{name}" for name in names)
    taps = []
    stand_ins = []
    for _ in range(2):
        github = await open_github(case)
        taps.append(await Tap(port_of(github.api_url), names=context).listen(case))
        github.api_url = url
        furnish(github)
        stand_ins.append(github)
    options = {"api_url": url, "proxy": taps[1].url, "ca_path": str(paths["authority"])}
    mirror = await start_mirror(case, {"github": options})
    tap = await Tap(port_of(mirror.url)).listen(case)
    return Sides(
        Side(stand_ins[0], taps[0], url, url, uploads_url), Side(stand_ins[1], tap, tap.url, url)
    )
