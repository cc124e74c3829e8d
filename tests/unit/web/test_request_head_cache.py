"""The header-block cache: requests are the same as those of Twisted's parser."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from attrs import define, field
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request
from twisted.web.http_headers import Headers

from ghmirror_tw.http.fields import Fields
from ghmirror_tw.web.client_connections import MirrorSite
from ghmirror_tw.web.mirror_channel import MirrorChannel
from ghmirror_tw.web.mirror_request import MirrorRequest
from ghmirror_tw.web.request_content import RequestContent
from ghmirror_tw.web.request_head_cache import LONGEST_BYTES, CachedHeaderBlock, LoneRequest
from tests.fakes.in_memory_connections import HOST, ClientTransport

#: A request as it is seen: method, target, version, its field lines, its content.
Seen = tuple[bytes, bytes, bytes, tuple[tuple[bytes, bytes], ...], bytes]


@define(eq=False)
class Audience:
    """Records requests, and responds to them on demand."""

    seen: list[Seen] = field(factory=list)
    waiting: list[Any] = field(factory=list)
    #: Whether it responds during the call with a request.
    at_once: bool = False
    max_request_size: int = 1000

    def render(self, request: Any) -> None:
        """Receive a request, with its content once that is complete."""
        if not isinstance(request, MirrorRequest):
            self.see(request, request.content.read())
        elif request.upload is None:
            self.see(request, b"")
        else:
            request.on_lost = request.channel.transport.abortConnection
            Deferred.fromCoroutine(self.receive(request, request.upload))

    async def receive(self, request: MirrorRequest, content: RequestContent) -> None:
        """Wait for the content of a request."""
        self.see(request, await content.whole(self.max_request_size) or b"")

    def see(self, request: Any, content: bytes) -> None:
        """Note what a request is."""
        lines = tuple(
            (name, value)
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
        )
        self.seen.append((request.method, request.uri, request.clientproto, lines, content))
        if isinstance(request, MirrorRequest):
            assert sorted(request.fields) == sorted((name.lower(), value) for name, value in lines)
        self.waiting.append(request)
        if self.at_once:
            self.respond()

    def note_refused(self, error: Any) -> None:
        """Record nothing."""

    def respond(self) -> None:
        """Respond to all waiting requests, and to those that arrive meanwhile."""
        while self.waiting:
            request = self.waiting.pop(0)
            request.setResponseCode(204)
            request.finish()


class Plain(Request):
    """Twisted's own request."""

    audience: Audience

    def process(self) -> None:
        """Record the request."""
        self.audience.render(self)


def ours(audience: Audience) -> tuple[MirrorChannel, ClientTransport]:
    """Return a channel of the mirror's."""
    clock = Clock()
    site = MirrorSite(audience, MirrorRequest, clock)
    channel = cast(MirrorChannel, site.buildProtocol(HOST))
    wire = ClientTransport()
    channel.makeConnection(wire)
    return channel, wire


class Plainly(HTTPChannel):
    """Twisted's channel with members of `Connection` compared, not words (RFC 9110, 7.6.1)."""

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Return whether there may be another request, by the members of the list."""
        return MirrorChannel.checkPersistence(cast(MirrorChannel, self), request, version)


def twisted(audience: Audience) -> tuple[HTTPChannel, ClientTransport]:
    """Return a channel of Twisted's."""
    factory = HTTPFactory(reactor=cast(IReactorTime, Clock()))
    factory.protocol = Plainly  # type: ignore[assignment]
    factory.log = lambda _: None  # type: ignore[assignment, method-assign]
    channel = cast(HTTPChannel, factory.buildProtocol(HOST))
    channel.requestFactory = type("Seen", (Plain,), {"audience": audience})  # type: ignore[assignment]
    wire = ClientTransport()
    channel.makeConnection(wire)
    return channel, wire


def played(
    make: Any, pieces: Iterable[bytes], *, at_once: bool = False
) -> tuple[list[Seen], ClientTransport]:
    """Return the requests in *pieces*."""
    audience = Audience(at_once=at_once)
    channel, wire = make(audience)
    for piece in pieces:
        if wire.ended:
            break
        channel.dataReceived(piece)
        audience.respond()
    channel.connectionLost(Failure(ConnectionDone()))
    return audience.seen, wire


LINES = (
    *(b"Host: a", b"Accept: */*", b"accept:x", b"Authorization: token t", b'If-None-Match: "a"'),
    *(b"Connection: keep-alive", b"Connection: close", b"Expect: 100-continue"),
    *(b"Content-Length: 0", b"Content-Length: 3", b"Content-Length: 2", b"Content-Length: x"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Upgrade: h2c"),
    *(
        b" folded",
        b"\tfolded: too",
        b"No colon",
        b"Space : x",
        b": nothing",
        b"Nul: \0",
        b"Cr: \r.",
    ),
    *(b"Lf: a\nHost: b", b"GET /hidden HTTP/1.1", b"X: " + b"y" * 9000),
)
FRONTS = (
    *(b"GET / HTTP/1.1", b"GET /a?b=c HTTP/1.1", b"HEAD /a HTTP/1.1", b"GET /b HTTP/1.0"),
    *(b"GET /aHTTP/1.1", b"/a HTTP/1.1", b" GET / HTTP/1.1", b"HTTP/1.1", b"POST /a HTTP/1.1"),
    *(b"get / HTTP/1.1", b"GET  / HTTP/1.1", b"GET /\x7f HTTP/1.1", b""),
    *(
        b"GET /a\n HTTP/1.1",
        b"GET / HTTP/1.2",
        b"GET / HTTP/1.1 ",
        b"GET /" + b"x" * 9000 + b" HTTP/1.1",
    ),
)
# Twisted accepts a request without any field, too.
blocks = st.lists(st.sampled_from(LINES), max_size=4).map(
    lambda lines: b"".join(line + b"\r\n" for line in lines) + b"\r\n"
)
usual = st.sampled_from((b"Host: a\r\n\r\n", b"Host: a\r\nAccept: */*\r\n\r\n"))
contents = st.sampled_from((b"", b"", b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"\r\n"))


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Draw the pieces that a client sends: often one request each, often with equal fields."""
    kinds = draw(st.lists(usual | blocks, min_size=1, max_size=2))
    requests = draw(
        st.lists(
            st.tuples(st.sampled_from(FRONTS), st.sampled_from(kinds), contents),
            min_size=2,
            max_size=5,
        )
    )
    pieces: list[bytes] = []
    for front, block, content in requests:
        request = front + b"\r\n" + block + content
        if pieces and draw(st.integers(0, 3)) == 0:
            pieces[-1] += request
        else:
            pieces.append(request)
    # Again and again, as clients do.
    pieces *= draw(st.sampled_from((1, 1, 2, 3)))
    if draw(st.integers(0, 3)) == 0:
        whole = b"".join(pieces)
        cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=4)))
        pieces = [whole[a:b] for a, b in zip((0, *cuts), (*cuts, len(whole)), strict=True)]
    return [piece for piece in pieces if piece]


@given(conversations())
@example(
    [
        b"\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
)
@example([b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"] * 2)
@example([b"GET / HTTP/1.1\r\nConnection: close\r\n folded\r\n\r\n" * 2])
@example([b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"] * 3)
@example([b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"] * 2)
@example([b"GET /a HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\n\r\n"] * 3)
def test_requests_equal_those_of_twisted(pieces: list[bytes]) -> None:
    """Or they are refused, with all behind them."""
    for at_once in (False, True):
        seen, wire = played(ours, pieces, at_once=at_once)
        expected, _ = played(twisted, pieces, at_once=at_once)
        assert seen == expected[: len(seen)]
        assert len(seen) == len(expected) or wire.ended


@given(st.sampled_from(FRONTS), usual | blocks)
def test_cut_request_is_parsed_alike(front: bytes, block: bytes) -> None:
    """In two pieces, at once, and again."""
    request = front + b"\r\n" + block
    first = b"GET /first HTTP/1.1\r\n" + block
    whole, wire = played(ours, [first, request])
    for cut in {1, len(front), len(front) + 2, len(request) // 2, len(request) - 1}:
        seen, other = played(ours, [first, request[:cut], request[cut:]])
        assert (seen, other.value()) == (whole, wire.value())


def test_one_empty_line_precedes_a_request() -> None:
    """RFC 9112, section 2.2."""
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for pieces in (
        [request, request + b"\r\n", request, b"\r\n" + request],
        [request, b"\r\n", request, b"\r\n" + request],
    ):
        for at_once in (False, True):
            seen, wire = played(ours, pieces, at_once=at_once)
            assert len(seen) == b"".join(pieces).count(b"GET")
            assert not wire.ended


def test_equal_blocks_are_parsed_once() -> None:
    """The fields are the same object then."""
    block = b"Host: a\r\nConnection: keep-alive\r\n\r\n"
    audience = Audience()
    channel, _ = ours(audience)
    found = []
    for target in (b"/a", b"/b", b"/c"):
        channel.dataReceived(b"GET %s HTTP/1.1\r\n" % target + block)
        found.append(audience.waiting[0].fields)
        audience.respond()
    channel.dataReceived(b"GET /d HTTP/1.1\r\nHost: b\r\n\r\n")
    found.append(audience.waiting[0].fields)
    audience.respond()
    channel.connectionLost(Failure(ConnectionDone()))
    assert [seen[1] for seen in audience.seen] == [b"/a", b"/b", b"/c", b"/d"]
    assert found[0] is found[1] is found[2]
    assert found[3].get(b"host") == b"b"
    assert channel.cached_block is None


def test_large_block_is_not_cached() -> None:
    """The memory of idle connections is bounded."""
    for size, keeps in ((LONGEST_BYTES - 20, True), (LONGEST_BYTES, False)):
        audience = Audience(at_once=True)
        channel, _ = ours(audience)
        channel.dataReceived(b"GET / HTTP/1.1\r\nX: " + b"y" * size + b"\r\n\r\n")
        assert (channel.cached_block is not None) is keeps
        channel.connectionLost(Failure(ConnectionDone()))


def test_lone_request() -> None:
    """Only a whole request of limited length is one."""
    whole = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
    front = LoneRequest.parse(whole, len(whole))
    assert front is not None
    assert (front.method, front.target, front.block) == (b"GET", b"/a", b"Host: a\r\n\r\n")
    for data in (
        b"GET /a HTTP/1.1\r\nabc",
        b"GET /a HTTP/1.1\r\n\r\n" + whole,
        whole[:-1],
        whole + b"x",
        whole + whole,
        b"GET /a HTTP/1.1\r\n\r\n",
        b"\r\n" + whole,
    ):
        assert LoneRequest.parse(data, 1000) is None
    assert LoneRequest.parse(whole, len(whole) - 1) is None


@given(usual | blocks, st.sampled_from(FRONTS), usual | blocks, st.integers(0, 60))
def test_match_agrees_with_lone_request(known: bytes, line: bytes, block: bytes, over: int) -> None:
    """A cached block matches exactly if the parsed request has it."""
    first = LoneRequest.parse(b"GET / HTTP/1.1\r\n" + known, 1 << 20)
    cached = None if first is None else CachedHeaderBlock.of(first, Headers(), Fields())
    if cached is None:
        return
    for data in (line + b"\r\n" + block, line + b"\r\n" + known, line + known):
        most = len(data) - 20 + over
        front, again = LoneRequest.parse(data, most), cached.match(data, most)
        if front is None or front.block != known:
            assert again is None
        else:
            assert again is not None
            assert (again[1], again[2]) == (front.method, front.target)
