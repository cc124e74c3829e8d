"""Content of requests is streamed to GitHub once the request is admitted."""

from __future__ import annotations

import contextlib
import gc
import socket
import tempfile
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from ghmirror_tw.upstream import http_client
from ghmirror_tw.upstream.connection_shares import SMALL_CONTENT_BYTES
from ghmirror_tw.web.exchange_channel import CLIENT_TIMEOUT_S, CLOSE_TIMEOUT_S, PIECE_BYTES
from ghmirror_tw.web.mirror_channel import MirrorChannel
from ghmirror_tw.web.mirror_request import MOST_DROPPED
from ghmirror_tw.web.request_content import RequestContent
from tests.fakes.scripted_server import Connection, Server, raw_response
from tests.harness.home import Home, open_home, until
from tests.unit.web.test_misbehaving_clients import FIELDS, Wire, get

CREATED = raw_response(b"Content-Type: application/json", content=b"{}", status=201)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
#: Content that is streamed is larger than this.
SMALL = SMALL_CONTENT_BYTES
BIG_CHUNK = b"%x\r\n%b\r\n" % (SMALL + 1, b"a" * (SMALL + 1))
REFUSAL = b"HTTP/1.1 401 Unauthorized\r\n"


def post(target: bytes, more: bytes) -> bytes:
    """Return the head of a POST."""
    return b"POST %s HTTP/1.1\r\n" % target + FIELDS + more + b"\r\n"


def length(size: int) -> bytes:
    """Return a field that announces so many bytes."""
    return b"Content-Length: %d\r\n" % size


class Uploads(TestCase):
    """A mirror in front of a server that a test controls."""

    home: Home
    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        def no_file(*_: object, **__: object) -> None:
            raise AssertionError("a file was made")

        for name in ("SpooledTemporaryFile", "TemporaryFile", "mkstemp"):
            self.patch(tempfile, name, no_file)
        self.server = Server()
        self.server.listen(self)
        await self.open()

    async def open(self, **options: Any) -> None:
        """Start the mirror; the time for its clients is a clock of the test's own."""
        self.clock = Clock()
        self.home = await open_home(self, github={"api_url": self.server.url}, **options)
        self.home.accept("alice-1", "alice", "mallory")
        self.home.site.reactor = self.clock

    async def begin(self, sent: bytes) -> tuple[Wire, MirrorChannel]:
        """Send the beginning of a request; return both ends of the connection."""
        known = set(self.home.site.channels)
        wire = Wire(self.home.port)
        self.addCleanup(wire.socket.close)
        await wire.send(sent)

        def connected() -> bool:
            return bool(set(self.home.site.channels) - known)

        await until(connected)
        (channel,) = set(self.home.site.channels) - known
        return wire, channel

    async def upstream(self, number: int = 0, *, has: bytes = b"") -> Connection:
        """Return a connection to GitHub, once it has received the fields and some content."""

        def came() -> bool:
            connections = self.server.connections
            if len(connections) <= number:
                return False
            return bool(connections[number].head) and has in connections[number].content

        await until(came)
        return self.server.connections[number]

    async def got(self, wire: Wire, text: bytes) -> bytes:
        """Return what a client has got, once *text* is in it."""

        def has() -> bool:
            wire.read()
            return text in wire.received

        await until(has)
        return bytes(wire.received)

    async def quiet(self) -> None:
        """Prove that nothing is held any more."""
        self.clock.advance(CLOSE_TIMEOUT_S)
        await until(lambda: not self.home.site.channels)
        await until(lambda: not self.home.parts.resource.in_flight)
        client = self.home.parts.client
        await until(lambda: client.open_exchanges == 0)
        assert not client.sending
        assert not self.clock.getDelayedCalls()
        # No behaviour of a client is a failure of GitHub.
        assert self.home.parts.mirror.github_breaker.failures == 0

    async def test_large_content_is_streamed(self) -> None:
        """With its length, or in chunks; GitHub has the first piece before the last is sent."""
        first, last = b"a" * (SMALL + 1), b"last"
        for framing, sent, ends in (
            (length(len(first + last)), (first, last), first + last),
            (CHUNKED, (BIG_CHUNK, b"4\r\nlast\r\n0\r\n\r\n"), b"0\r\n\r\n"),
        ):
            wire, _ = await self.begin(post(b"/x", framing))
            number = len(self.server.connections)
            await wire.send(sent[0])
            upstream = await self.upstream(number, has=first)
            assert framing.strip() in upstream.head
            await wire.send(sent[1])
            await self.upstream(number, has=ends)
            upstream.send(CREATED)
            assert (await self.got(wire, b"{}")).startswith(b"HTTP/1.1 201 ")
            # The connection can be used again.
            await wire.send(post(b"/x", length(1)) + b"x")
            upstream = await self.upstream(number + 1, has=b"x")
            upstream.send(CREATED.replace(b"{}", b"[]"))
            await self.got(wire, b"[]")
            wire.socket.close()
            await self.quiet()

    async def test_small_content_is_received_before_the_request_is_sent(self) -> None:
        """A slow client holds no connection to GitHub; chunks get a length."""
        content = b"a" * SMALL
        for number, (framing, sent) in enumerate(
            (
                (length(SMALL), (content[:4], content[4:])),
                (CHUNKED, (b"4\r\naaaa\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (SMALL - 4, content[4:]))),
            )
        ):
            wire, channel = await self.begin(post(b"/x", framing))
            await wire.send(sent[0])
            await until(lambda channel=channel: _received(channel) == 4)  # type: ignore[misc]
            assert len(self.server.connections) == number
            assert not self.home.parts.client.open_exchanges
            await wire.send(sent[1])
            upstream = await self.upstream(number, has=content)
            assert length(SMALL) in upstream.head
            upstream.send(CREATED)
            await self.got(wire, b"{}")
            wire.socket.close()
            await self.quiet()

    async def test_client_that_leaves_early_sends_no_small_content(self) -> None:
        """GitHub gets nothing of it."""
        wire, channel = await self.begin(post(b"/x", length(8)) + b"abcd")
        await until(lambda: not channel.reading_paused)
        wire.socket.close()
        await self.quiet()
        assert not self.server.connections

    async def test_complete_content_has_a_length(self) -> None:
        """Chunks that were received with the fields are joined."""
        wire, _ = await self.begin(post(b"/x", CHUNKED) + b"4\r\nabcd\r\n0\r\n\r\n")
        upstream = await self.upstream(has=b"abcd")
        assert b"Content-Length: 4\r\n" in upstream.head
        upstream.send(CREATED)
        await self.got(wire, b"{}")

    async def test_backpressure(self) -> None:
        """While GitHub does not read, the client cannot send."""
        wire, channel = await self.begin(post(b"/x", length(1 << 30)))
        upstream = await self.upstream()
        upstream.transport.pauseProducing()
        piece = bytes(1 << 16)

        def waits() -> bool:
            with contextlib.suppress(BlockingIOError):
                wire.socket.send(piece)
            return channel.reading_paused

        await until(waits)
        incoming: RequestContent = channel.requests[0].incoming
        sent = incoming.size
        assert sum(map(len, incoming.pieces)) <= PIECE_BYTES
        # Time passes, and it is not the client that is slow.
        self.clock.advance(10 * CLIENT_TIMEOUT_S)
        upstream.transport.resumeProducing()

        def goes_on() -> bool:
            with contextlib.suppress(BlockingIOError):
                wire.socket.send(piece)
            return incoming.size > sent + (8 << 20)

        await until(goes_on)
        wire.socket.close()
        await until(lambda: upstream.lost is not None)
        await self.quiet()

    async def test_too_large_content_is_a_413(self) -> None:
        """On its length, or when it is received; GitHub never gets a whole request."""
        await self.open(server={"max_request_size": 100})
        wire, _ = await self.begin(post(b"/x", length(101)))
        assert (await wire.ended()).startswith(b"HTTP/1.1 413 ")
        await self.quiet()
        assert not self.server.connections
        wire, _ = await self.begin(post(b"/x", CHUNKED) + b"32\r\n%b\r\n" % bytes(50))
        await wire.send(b"33\r\n%b\r\n0\r\n\r\n" % bytes(51))
        assert (await wire.ended()).startswith(b"HTTP/1.1 413 ")
        await self.quiet()
        assert not self.server.connections
        await self.open(server={"max_request_size": SMALL + 50})
        wire, _ = await self.begin(post(b"/x", CHUNKED) + BIG_CHUNK)
        upstream = await self.upstream(has=b"a" * SMALL)
        await wire.send(b"33\r\n%b\r\n0\r\n\r\n" % bytes(51))
        got = await wire.ended()
        assert got.startswith(b"HTTP/1.1 413 ")
        assert b"\r\nConnection: close\r\n" in got
        assert got.count(b"HTTP/1.1") == 1
        await until(lambda: upstream.lost is not None)
        assert b"0\r\n\r\n" not in upstream.content
        await self.quiet()

    async def test_malformed_or_late_content(self) -> None:
        """The client gets an error, and GitHub never a part as the whole."""
        for number, (more, status) in enumerate(((b"zz\r\n", b"400"), (b"", b"408"))):
            wire, channel = await self.begin(post(b"/x", CHUNKED) + BIG_CHUNK)
            upstream = await self.upstream(number, has=b"a" * SMALL)
            await until(lambda channel=channel: not channel.reading_paused)  # type: ignore[misc]
            await wire.send(more)
            if not more:
                self.clock.advance(CLIENT_TIMEOUT_S)
            assert (await wire.ended()).startswith(b"HTTP/1.1 %s " % status)
            await until(lambda upstream=upstream: upstream.lost is not None)  # type: ignore[misc]
            assert b"0\r\n\r\n" not in upstream.content
            await self.quiet()

    async def test_disconnect_aborts_the_upload(self) -> None:
        """No content is left in a reference cycle."""
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for number in range(3):
            wire, _ = await self.begin(post(b"/x", length(SMALL + 1)) + b"abcd")
            upstream = await self.upstream(number, has=b"abcd")
            wire.socket.close()
            await until(lambda upstream=upstream: upstream.lost is not None)  # type: ignore[misc]
            await self.quiet()
        assert not [each for each in gc.get_objects() if isinstance(each, RequestContent)]

    async def test_uploads_leave_connections_to_other_credentials(self) -> None:
        """However slow the clients of two credentials are; no request of a third one waits."""
        github = {"api_url": self.server.url, "max_connections": 10}
        self.home = await open_home(self, github=github)
        self.home.accept("mallory-1", "mallory-2", "alice-1")
        wires = []
        for name in (b"mallory-1", b"mallory-2"):
            for _ in range(10):
                head = post(b"/x", length(SMALL + 1)).replace(b"alice-1", name)
                wires.append((await self.begin(head + b"slow"))[0])
        passthrough = self.home.parts.mirror.passthrough
        await until(lambda: sum(map(len, passthrough.shares.waiting.values())) == 14)
        assert sorted(passthrough.shares.held.values()) == [2, 4]
        await self.upstream(5)
        for number, sent in enumerate((get(b"/x"), post(b"/x", length(SMALL + 1)) + b"slow")):
            wires.append((await self.begin(sent))[0])
            await self.upstream(6 + number)
        assert len(self.server.connections) == 8
        for wire in wires:
            wire.socket.close()
        await self.quiet()
        assert not passthrough.shares.held

    async def test_slow_uploads_of_many_credentials_are_aborted(self) -> None:
        """While another one waits: their clients get a 503."""
        github = {"api_url": self.server.url, "max_connections": 10}
        self.home = await open_home(self, github=github)
        names = [b"mallory-%d" % number for number in range(1, 5)]
        self.home.accept("alice-1", *(name.decode() for name in names))
        self.patch(http_client, "STALL_TIMEOUT_S", 0.0)
        wires = []
        for name, times in zip(names, (4, 2, 1, 1), strict=True):
            for _ in range(times):
                head = post(b"/x", length(SMALL + 1)).replace(b"alice-1", name)
                number = len(self.server.connections)
                wires.append((await self.begin(head + b"slow"))[0])
                await self.upstream(number)
        wires.append((await self.begin(post(b"/x", length(SMALL + 1)) + b"slow"))[0])
        await self.upstream(8)
        assert b"token alice-1" in self.server.connections[8].head
        ended = [each for each in wires if each.read() or b" 503 " in each.received]
        # A quarter of the eight.
        assert len(ended) == 2
        for wire in wires:
            wire.socket.close()
        await self.quiet()
        assert not self.home.parts.mirror.passthrough.shares.held

    async def test_unaccepted_credentials_hold_half_of_their_permits(self) -> None:
        """However slow the clients of made-up ones are: small content of others is sent."""
        wires = []
        for number in range(12):
            head = post(b"/x", length(SMALL + 1)).replace(
                b"token alice-1", b"Bearer eyJh.eyJ%d.c" % number
            )
            wires.append((await self.begin(head + b"slow"))[0])
        passthrough = self.home.parts.mirror.passthrough
        await until(lambda: sum(map(len, passthrough.shares.waiting.values())) == 7)
        await self.upstream(4)
        app = post(b"/app/installations/1/access_tokens", length(2))
        wire, _ = await self.begin(app.replace(b"token alice-1", b"Bearer eyJx.eyJy.z") + b"{}")
        upstream = await self.upstream(5, has=b"{}")
        upstream.send(CREATED)
        await self.got(wire, b"{}")
        for each in (wire, *wires):
            each.socket.close()
        await self.quiet()

    async def test_early_response(self) -> None:
        """It is forwarded at once; then the connection ends, though the client still sends."""
        # Not 401: after one, the mirror checks the credential over a connection that stays open.
        early = raw_response(b"X-Early: 1", content=b"{}", status=413)
        for number, framing in enumerate((length(1 << 30), CHUNKED)):
            wire, _ = await self.begin(post(b"/x", framing) + BIG_CHUNK)
            upstream = await self.upstream(number)
            upstream.send(early)
            got = await self.got(wire, b"{}")
            assert got.startswith(b"HTTP/1.1 413 ")
            assert b"\r\nConnection: close\r\n" in got
            await until(lambda upstream=upstream: upstream.lost is not None)  # type: ignore[misc]
            for _ in range(100):
                with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                    wire.socket.send(bytes(1 << 16))
            await wire.ended()
            wire.socket.close()
            await self.quiet()

    async def test_early_response_is_streamed(self) -> None:
        """While the client is still sending."""
        wire, _ = await self.begin(post(b"/x", length(1 << 20)) + b"abcd")
        upstream = await self.upstream(has=b"abcd")
        upstream.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 200000\r\n\r\nfirst")
        await self.got(wire, b"first")
        await wire.send(bytes(1 << 16))
        upstream.send(bytes(199_991) + b"last")
        await self.got(wire, b"last")
        await wire.ended()
        wire.socket.close()
        await self.quiet()

    async def test_small_rest_of_content_is_dropped(self) -> None:
        """The connection serves the next request."""
        assert MOST_DROPPED > SMALL
        wire, _ = await self.begin(post(b"/x", length(MOST_DROPPED)))
        upstream = await self.upstream()
        upstream.send(raw_response(content=b"{}", status=401))
        got = await self.got(wire, b"{}")
        assert got.startswith(REFUSAL)
        assert b"Connection: close" not in got
        await wire.send(bytes(MOST_DROPPED) + get(b"/healthz"))
        await self.got(wire, b"HTTP/1.1 200 OK\r\n")
        await wire.send(post(b"/healthz", length(10)))
        await self.got(wire, b"HTTP/1.1 405 ")
        self.clock.advance(CLIENT_TIMEOUT_S)
        await wire.ended()
        await self.quiet()

    async def test_upload_is_not_retried(self) -> None:
        """The client gets a 502."""
        wire, _ = await self.begin(post(b"/x", length(SMALL + 1)) + b"abcd")
        upstream = await self.upstream(has=b"abcd")
        upstream.transport.abortConnection()
        assert (await self.got(wire, b"}")).startswith(b"HTTP/1.1 502 ")
        assert len(self.server.connections) == 1

    async def test_100_continue(self) -> None:
        """It is sent when the request is admitted, and only then."""
        expecting = b"Expect: 100-continue\r\n"
        wire, _ = await self.begin(post(b"/x", length(4) + expecting))
        await self.got(wire, b"HTTP/1.1 100 Continue\r\n\r\n")
        await wire.send(b"abcd")
        upstream = await self.upstream(has=b"abcd")
        assert b"expect" not in upstream.head.lower()
        upstream.send(CREATED)
        await self.got(wire, b"HTTP/1.1 201 ")
        wire.socket.close()
        await self.quiet()
        await self.open(server={"allowed_users": frozenset({"alice"})})
        anonymous = post(b"/x", length(4) + expecting).replace(b"Authorization", b"X-None")
        wire, _ = await self.begin(anonymous)
        got = await wire.ended()
        assert got.startswith(REFUSAL)
        assert got.count(b"HTTP/1.1") == 1
        await self.quiet()
        assert len(self.server.connections) == 1
        for login, wanted in ((b"alice", True), (b"mallory", False)):
            number = len(self.server.connections)
            sent = post(b"/x", length(4) + expecting).replace(b"alice-1", login)
            wire, channel = await self.begin(sent)
            connection = await self.upstream(number)
            assert connection.head.startswith(b"GET /user ")
            assert not wire.read()
            assert not wire.received
            assert channel.reading_paused
            user = b'{"login":"%s"}' % login
            connection.send(raw_response(b"Connection: close", content=user))
            if wanted:
                await self.got(wire, b"HTTP/1.1 100 Continue\r\n\r\n")
                wire.socket.close()
            else:
                got = await wire.ended()
                assert got.startswith(b"HTTP/1.1 403 ")
                assert b"100 Continue" not in got
            await self.quiet()

    async def test_content_of_refused_requests_is_not_read(self) -> None:
        """However much is sent."""
        await self.open(server={"allowed_users": frozenset({"alice"})})
        sent = post(b"/x", length(1 << 30)).replace(b"Authorization", b"X-None")
        wire, _ = await self.begin(sent + bytes(1 << 16))
        assert (await wire.ended()).startswith(REFUSAL)
        await self.quiet()

    async def test_graphql_is_buffered_up_to_a_limit(self) -> None:
        """To distinguish a query from a mutation; larger content is streamed as a mutation."""
        mirror = self.home.parts.mirror
        query, mutation = b'{"query":"{x}","pad":"%b"}', b'{"query":"mutation{x}","pad":"%b"}'
        for number, (content, writes) in enumerate(
            (
                (query % (b"a" * 10), False),
                (mutation % (b"a" * 10), True),
                (query % (b"a" * 900_000), False),
                (mutation % (b"a" * 900_000), True),
                (query % (b"a" * 2_000_000), True),
            )
        ):
            for chunked in (False, True):
                before = mirror.epochs.generations.last
                place = 2 * number + chunked
                framing = CHUNKED if chunked else length(len(content))
                cut = len(content) * 3 // 4
                parts = [content[:cut], content[cut:]]
                if chunked:
                    parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
                    parts[1] += b"0\r\n\r\n"
                wire, _ = await self.begin(post(b"/graphql", framing))
                await wire.send(parts[0])
                if len(content) > 1 << 20:
                    await self.upstream(place, has=b"query")
                else:
                    assert len(self.server.connections) == place
                await wire.send(parts[1])
                upstream = await self.upstream(place, has=b"query")

                def whole(upstream: Connection = upstream, content: bytes = content) -> bool:
                    return upstream.size >= len(upstream.head) + len(content)

                await until(whole)
                assert bool(mirror.epochs.generations.last - before) is writes
                upstream.send(CREATED)
                await self.got(wire, b"{}")
                wire.socket.close()
                await self.quiet()

    async def test_connection_with_an_upload_is_not_closed_for_room(self) -> None:
        """Once GitHub has the request."""
        self.home.site.most_connections = 1
        wire, channel = await self.begin(post(b"/x", length(SMALL + 1)))
        await self.upstream()
        await until(lambda: channel.answering)
        other = socket.create_connection(("127.0.0.1", self.home.port))
        self.addCleanup(other.close)
        other.setblocking(False)
        other.send(get(b"/thing"))
        await until(lambda: _refused(other))
        await wire.send(bytes(SMALL + 1))
        self.server.connections[0].send(CREATED)
        await self.got(wire, b"{}")

    async def test_connection_with_small_content_is_closed_for_room(self) -> None:
        """While that is incoming, nothing was sent to GitHub."""
        self.home.site.most_connections = 1
        wire, channel = await self.begin(post(b"/x", length(SMALL)) + b"slow")
        await until(lambda: _received(channel) == 4)
        await until(lambda: not channel.reading_paused)
        other, _ = await self.begin(get(b"/healthz"))
        assert (await wire.ended()) == b""
        await self.got(other, b"HTTP/1.1 200 OK")
        other.socket.close()
        await self.quiet()
        assert not self.server.connections


def _received(channel: MirrorChannel) -> int:
    """Return how many bytes of the content of a channel's first request were received."""
    return channel.requests[0].incoming.size if channel.requests else 0


def _refused(end: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        return end.recv(1000).startswith(b"HTTP/1.1 503 ")
    return False
