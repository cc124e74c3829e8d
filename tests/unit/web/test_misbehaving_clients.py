"""Misbehaving clients: each costs little, for a bounded time, and does not affect others.

The time of client connections is a `Clock`, so no test waits for it.
"""

# ruff: noqa: B023 - each condition is awaited in the turn of the loop that made it

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from unittest import skipUnless

from attrs import frozen
from OpenSSL import SSL
from twisted.internet import reactor as global_reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from ghmirror_tw.runtime.certificate_authorities import trust_root
from ghmirror_tw.runtime.socket_writes import SEVERAL
from ghmirror_tw.upstream import http_client
from ghmirror_tw.web.client_connections import RESERVED_CONNECTIONS
from ghmirror_tw.web.exchange_channel import CLIENT_TIMEOUT_S, CLOSE_TIMEOUT_S, PIECE_BYTES
from ghmirror_tw.web.mirror_channel import MirrorChannel
from ghmirror_tw.web.mirror_request import MirrorRequest
from tests.harness.certificates import Authority
from tests.harness.home import Home, Raw, Received, open_home, start, until
from tests.harness.running import start_mirror

TRACES = find_spec("_tracemalloc") is not None
if TRACES:
    import tracemalloc

reactor: Any = global_reactor

FIELDS = b"Host: x\r\nUser-Agent: t\r\nAuthorization: token alice-1\r\n"


def get(target: bytes, more: bytes = b"") -> bytes:
    """Return a GET as alice sends it."""
    return b"GET %s HTTP/1.1\r\n" % target + FIELDS + more + b"\r\n"


def post(more: bytes) -> bytes:
    """Return the head of a POST."""
    return b"POST /things HTTP/1.1\r\n" + FIELDS + more + b"\r\n"


@implementer(IOpenSSLContextFactory)
@frozen
class Context:
    """How the mirror does TLS in these tests."""

    context: SSL.Context

    def getContext(self) -> SSL.Context:
        """Return it."""
        return self.context


class Wire:
    """The client's end of a connection; it reads only on demand."""

    def __init__(self, port: int, *, small: bool = False) -> None:
        self.socket = socket.socket()
        if small:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.received = bytearray()
        self.closed = False

    def read(self, most: int = 1 << 20) -> bool:
        """Read available data; return whether the mirror has closed the connection."""
        with contextlib.suppress(BlockingIOError):
            try:
                piece = self.socket.recv(most)
            except ConnectionResetError:
                piece = b""
            self.closed = self.closed or not piece
            self.received += piece
        return self.closed

    async def ended(self) -> bytes:
        """Return all received data, when the mirror has closed the connection."""
        await until(self.read)
        return bytes(self.received)

    async def send(self, content: bytes) -> None:
        """Send it, as fast as it is read."""
        left = memoryview(content)

        def some() -> bool:
            nonlocal left
            with contextlib.suppress(BlockingIOError):
                left = left[self.socket.send(left[: 1 << 16]) :]
            return not left

        await until(some)


class Misbehaving(TestCase):
    """A mirror whose time for clients is a `Clock`."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await self.open()

    async def open(self, **options: Any) -> Home:
        """Start a mirror with the clock of this test."""
        self.clock = Clock()
        home = await open_home(self, **options)
        home.site.reactor = self.clock
        home.github.put("/thing", {"a": 1})
        return home

    def wire(self, *, small: bool = False, port: int | None = None) -> Wire:
        """Connect."""
        wire = Wire(port or self.home.port, small=small)
        self.addCleanup(wire.socket.close)
        return wire

    async def connected(self, *, small: bool = False) -> tuple[Wire, MirrorChannel]:
        """Connect, and return both ends."""
        before = set(self.home.site.channels)
        wire = self.wire(small=small)
        await until(lambda: bool(set(self.home.site.channels) - before))
        (channel,) = set(self.home.site.channels) - before
        if small:
            # the system's own buffers would hold megabytes
            channel.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return wire, channel

    async def well(self) -> None:
        """Prove that a well-behaved client is served."""
        got = await self.home.get("/thing", token="bob-1")
        assert (got.status, got.json) == (200, {"a": 1})

    async def nothing_left(self) -> None:
        """Prove that nothing is held any more: no connection, permit, waiter or timer."""
        home = self.home
        await until(lambda: not home.site.channels)
        await until(lambda: home.parts.resource.in_flight == 0)
        mirror = home.parts.mirror
        await until(lambda: home.parts.client.open_exchanges == 0)
        assert not home.parts.client.receiving
        assert not len(mirror.flights)
        assert not self.clock.getDelayedCalls()

    # Slow to send.

    async def test_trickling_fields_get_a_408(self) -> None:
        """A byte now and then does not restart the timeout."""
        wire, channel = await self.connected()
        for count, byte in enumerate(get(b"/thing")[:20]):
            await wire.send(bytes([byte]))
            await until(lambda: self.taken(channel) > count)
            await self.well()
            if count:
                self.clock.advance(CLIENT_TIMEOUT_S / 20)
        assert self.home.site.channels == {channel: None}
        self.clock.advance(CLIENT_TIMEOUT_S / 20)
        got = await wire.ended()
        assert got.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert got.endswith(b'"status":"408"}')
        self.clock.advance(CLOSE_TIMEOUT_S)
        await self.nothing_left()

    @staticmethod
    def taken(channel: MirrorChannel) -> int:
        """Return how many bytes of the first line a channel has got."""
        return len(channel._buffer) + (20 if hasattr(channel, "_command") else 0)

    async def test_first_byte_restarts_the_timeout(self) -> None:
        """An idle connection has the whole timeout from the first byte of a request."""
        wire, channel = await self.connected()
        self.clock.advance(CLIENT_TIMEOUT_S - 1)
        await wire.send(b"GET /thing HT")
        await until(lambda: channel.request_begun)
        self.clock.advance(CLIENT_TIMEOUT_S - 1)
        await wire.send(b"TP/1.1\r\n" + FIELDS + b"Connection: close\r\n\r\n")
        assert (await wire.ended()).startswith(b"HTTP/1.1 200 ")
        await self.nothing_left()

    async def test_trickling_content_gets_a_408(self) -> None:
        """GitHub receives no request."""
        wire, channel = await self.connected()
        await wire.send(post(b"Content-Length: 100000\r\n"))
        await until(lambda: not channel.line_mode)
        for _ in range(20):
            before = channel.content_wire_bytes
            await wire.send(b"x")
            await until(lambda: channel.content_wire_bytes > before)
            self.clock.advance(CLIENT_TIMEOUT_S / 20)
            await self.well()
        assert (await wire.ended()).startswith(b"HTTP/1.1 408 ")
        assert not self.home.github.exchanges("/things")
        self.clock.advance(CLOSE_TIMEOUT_S)
        await self.nothing_left()

    async def test_slow_content_is_forwarded(self) -> None:
        """At the least pace, for any duration."""
        self.home.github.put_list("/things", [])
        wire, channel = await self.connected()
        content = b'{"a": "' + b"x" * (5 * PIECE_BYTES) + b'"}'
        head = post(b"Content-Length: %d\r\nConnection: close\r\n" % len(content))
        await wire.send(head)
        await until(lambda: not channel.line_mode)
        while content:
            piece, content = content[:PIECE_BYTES], content[PIECE_BYTES:]
            before = channel.content_wire_bytes
            await wire.send(piece)
            if content:
                await until(lambda: channel.content_wire_bytes >= before + len(piece))
                self.clock.advance(CLIENT_TIMEOUT_S - 1)
        assert (await wire.ended()).startswith(b"HTTP/1.1 201 ")

    # Slow to read.

    def put_large(self) -> bytes:
        """Create incompressible content, and content that is rewritten; return the former."""
        noise = random.Random(1).randbytes(3_000_000).hex().encode()
        self.home.github.put("/large", noise, content_type="text/plain; charset=utf-8")
        items = [f"{self.home.github.api_url}/{number}" for number in range(150_000)]
        self.home.github.put("/rewritten", items)
        return noise

    async def test_unread_response_is_aborted(self) -> None:
        """Stored, rewritten, coded or streamed; the connection to GitHub is released."""
        self.put_large()
        for target, more in (
            (b"/large", b""),
            (b"/large", b"Accept-Encoding: gzip\r\n"),
            (b"/large", b"Connection: close\r\n"),
            (b"/rewritten", b""),
            (b"/_stream/30000000", b""),
            (b"/_stream/30000000", b"Connection: close\r\n"),
        ):
            wire, channel = await self.connected(small=True)
            await wire.send(get(target, more))
            await full(channel)
            self.clock.advance(CLIENT_TIMEOUT_S - 1)
            await self.well()
            assert channel in self.home.site.channels, target
            self.clock.advance(1)
            await self.nothing_left()
            assert len(self.home.github.connections) <= 2

    async def test_small_unread_response_leaves_an_idle_connection(self) -> None:
        """It is closed by the idle timeout."""
        wire, channel = await self.connected()
        await wire.send(get(b"/thing"))
        await until(lambda: channel.idle and bool(self.home.github.exchanges("/thing")))
        await until(lambda: self.home.parts.resource.in_flight == 0)
        self.clock.advance(CLIENT_TIMEOUT_S)
        await until(lambda: not self.home.site.channels)
        await self.nothing_left()

    async def test_slow_reader_gets_a_whole_response(self) -> None:
        """Though it lasts many times the timeout."""
        noise = self.put_large()
        wire, channel = await self.connected(small=True)
        await wire.send(get(b"/large", b"Connection: close\r\n"))
        rounds = 0
        await full(channel)
        while not wire.closed:
            self.clock.advance(CLIENT_TIMEOUT_S / 2)
            rounds += 1
            # so much that some of it has been written after the client has read some
            enough = len(wire.received) + 4 * PIECE_BYTES
            await until(lambda: wire.read() or len(wire.received) >= enough)
        assert rounds > 5
        assert bytes(wire.received).endswith(noise[-100:])
        assert len(wire.received) > len(noise)
        await self.nothing_left()

    @skipUnless(TRACES, "PyPy does not trace allocations")
    async def test_memory_of_slow_readers(self) -> None:
        """Twenty that do not read 3 MB of stored content use less than one more copy of it."""
        self.put_large()
        await self.home.get("/large", token="alice-1", headers={"Accept-Encoding": "gzip"})
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        wires = []
        for number in range(20):
            wire, channel = await self.connected(small=True)
            await wire.send(get(b"/large", b"Accept-Encoding: gzip\r\nX: %d\r\n" % number))
            await full(channel)
            wires.append(wire)
            if not number:
                before = tracemalloc.get_traced_memory()[0]
        assert tracemalloc.get_traced_memory()[0] - before < 20 * 3 * PIECE_BYTES
        await self.well()
        self.clock.advance(CLIENT_TIMEOUT_S)
        await self.nothing_left()

    async def test_unread_streams_release_connections_to_github(self) -> None:
        """When they hold all of them, the next request gets one."""
        self.home = await self.open(github={"max_connections": 2})
        held = []
        for _ in range(2):
            wire, channel = await self.connected(small=True)
            await wire.send(get(b"/_stream/30000000"))
            await full(channel)
            held.append(channel)
        assert self.home.parts.client.open_exchanges == 2
        self.patch(http_client, "STALL_TIMEOUT_S", 0.0)
        await self.well()
        await until(lambda: held[0] not in self.home.site.channels)
        self.clock.advance(CLIENT_TIMEOUT_S)
        await self.nothing_left()

    async def test_unread_streams_release_slots_of_their_credential(self) -> None:
        """Many clients may share a credential, or have none."""
        self.home = await self.open(github={"max_in_flight_per_credential": 2})
        for _ in range(2):
            wire, channel = await self.connected(small=True)
            await wire.send(get(b"/_stream/30000000"))
            await full(channel)
        assert self.home.parts.client.open_exchanges == 2
        self.patch(http_client, "STALL_TIMEOUT_S", 0.0)
        assert (await self.home.get("/thing", token="alice-1")).status == 200
        self.clock.advance(CLIENT_TIMEOUT_S)
        await self.nothing_left()

    # Closed in the middle.

    async def test_disconnect_before_the_request_is_complete(self) -> None:
        """It is never a request."""
        for sent in (b"GET /th", get(b"/thing")[:-2], post(b"Content-Length: 9\r\n") + b"x"):
            wire, channel = await self.connected()
            await wire.send(sent)
            await until(lambda: channel.request_begun)
            wire.socket.close()
            await self.nothing_left()
        assert not self.home.github.exchanges()
        await self.well()

    async def test_disconnect_while_others_wait_for_the_same_flight(self) -> None:
        """The flight continues until the last client has disconnected."""
        barrier = self.home.github.hold("/thing")
        wires = [self.wire() for _ in range(3)]
        for wire in wires:
            await wire.send(get(b"/thing"))
        resource = self.home.parts.resource
        await until(lambda: resource.in_flight == 3)
        await barrier.arrived()
        wires[0].socket.close()
        await until(lambda: resource.in_flight == 2)
        other = start(self.home.get("/thing", token="alice-1"))
        await until(lambda: resource.in_flight == 3)
        barrier.release()
        assert (await other).status == 200
        for wire in wires[1:]:
            await until(lambda: wire.read() or b"\r\n\r\n" in wire.received)
            wire.socket.close()
        assert len(self.home.github.exchanges("/thing")) == 1
        await until(lambda: resource.in_flight == 0)
        wires = [self.wire() for _ in range(2)]
        for wire in wires:
            await wire.send(get(b"/thing"))
        await barrier.arrived()
        await until(lambda: resource.in_flight == 2)
        for wire in wires:
            wire.socket.close()
        await self.nothing_left()
        await until(lambda: not barrier.waiting)
        barrier.open()
        await self.well()

    async def test_disconnect_while_streaming(self) -> None:
        """The rest is not received from GitHub."""
        for target in (b"/_stream/30000000", b"/large", b"/rewritten"):
            self.put_large()
            wire, channel = await self.connected(small=True)
            await wire.send(get(target))
            await full(channel)
            wire.socket.close()
            await self.nothing_left()
            await self.well()

    async def test_half_close_counts_as_a_disconnect(self) -> None:
        """It costs nothing from then on."""
        barrier = self.home.github.hold("/thing")
        for sent in (b"", b"GET /", get(b"/thing")):
            wire, _ = await self.connected()
            await wire.send(sent)
            if sent.endswith(b"\r\n\r\n"):
                await barrier.arrived()
            wire.socket.shutdown(socket.SHUT_WR)
            assert await wire.ended() == b""
            await self.nothing_left()
        barrier.open()
        await self.well()

    # Many requests at once.

    async def test_pipelined_requests_wait_for_the_client_to_read(self) -> None:
        """Then all get responses in order."""
        noise = self.put_large()
        wire, channel = await self.connected(small=True)
        await wire.send(get(b"/large") * 5 + get(b"/thing", b"Connection: close\r\n"))
        await full(channel)
        for _ in range(3):
            await self.well()
        assert len(self.home.github.exchanges("/large")) == 1
        got = await wire.ended()
        assert len(re.findall(rb"HTTP/1\.1 200 OK\r\n", got)) == 6
        assert got.count(noise[-1000:]) == 5
        assert got.endswith(b'{"a":1}')
        await self.nothing_left()

    async def test_pipelined_small_responses_are_bounded(self) -> None:
        """Thousands of requests get no further than the buffers."""
        wire, channel = await self.connected(small=True)
        one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        sent, count = memoryview(one * 60_000), 0

        def blocked() -> bool:
            nonlocal count
            with contextlib.suppress(BlockingIOError):
                count += wire.socket.send(sent[count : count + (1 << 16)])
            return channel._waitingForTransport and not _is_reading(channel)

        await until(blocked)
        await self.well()
        assert len(channel.transport.dataBuffer) < 1 << 20
        await self.cut_off(channel)

    async def cut_off(self, channel: MirrorChannel) -> None:
        """Prove that time ends it, without a word where the client doesn't read."""
        self.clock.advance(CLIENT_TIMEOUT_S)
        self.clock.advance(CLOSE_TIMEOUT_S)
        await until(lambda: channel not in self.home.site.channels)
        await self.nothing_left()

    async def test_pipelined_input_is_bounded(self) -> None:
        """The rest stays in the buffers of the client."""
        wire, channel = await self.connected(small=True)
        await wire.send(get(b"/_stream/30000000"))
        await full(channel)
        junk = b"GET /thing HTTP/1.1\r\nX: " + b"x" * (1 << 16)

        def blocked() -> bool:
            with contextlib.suppress(BlockingIOError):
                wire.socket.send(junk)
            return not _is_reading(channel)

        await until(blocked)
        await self.well()
        assert sum(map(len, channel._dataBuffer)) <= channel._optimisticEagerReadSize + (1 << 17)
        await self.cut_off(channel)

    # Content that is mostly not content.

    async def refused(self, pieces: Callable[[], bytes]) -> tuple[bytes, int]:
        """Send pieces until the mirror responds; return the response and the sent bytes' number."""
        wire, _ = await self.connected()
        await wire.send(post(b"Transfer-Encoding: chunked\r\n"))
        sent = 0
        while not wire.read():
            piece = pieces()
            try:
                await wire.send(piece)
            except (BrokenPipeError, ConnectionResetError):
                break
            sent += len(piece)
        self.clock.advance(CLOSE_TIMEOUT_S)
        return bytes(wire.received), sent

    async def test_chunk_extensions_and_trailers_are_bounded(self) -> None:
        """Beyond the bounds the client gets a 400."""
        trailer = iter([b"0\r\n"])
        for pieces in (
            lambda: b"1;" + b"x" * 5000,
            lambda: b"1;x=%s\r\nx\r\n" % (b"y" * 1000),
            lambda: next(trailer, b"X-Trailer: %s\r\n" % (b"y" * 1000)),
            lambda: b"0" * 5000,
        ):
            got, sent = await self.refused(pieces)
            assert got.startswith(b"HTTP/1.1 400 "), got
            assert sent < 40 << 20
            await self.nothing_left()
            await self.well()

    async def test_number_of_small_chunks_is_bounded(self) -> None:
        """Each costs time, so that beyond some 26,000 they must have some bytes on average."""
        chunks = 0
        handle = MirrorRequest.handleContentChunk

        def count(request: MirrorRequest, data: bytes) -> None:
            nonlocal chunks
            chunks += 1
            handle(request, data)

        self.patch(MirrorRequest, "handleContentChunk", count)
        got, _ = await self.refused(lambda: b"1\r\nx\r\n" * 1000)
        assert got.startswith(b"HTTP/1.1 400 ")
        assert b"framing" in got
        assert 20_000 < chunks < 40_000
        await self.nothing_left()
        await self.well()

    @skipUnless(TRACES, "PyPy does not trace allocations")
    async def test_small_chunks_are_joined(self) -> None:
        """They reach GitHub, and use no more memory than their bytes."""
        home = self.home
        home.github.put_list("/things", [])
        wire, _ = await self.connected()
        content = b'{"a": "' + b"x" * 20_000 + b'"}'
        chunked = b"".join(b"1\r\n%c\r\n" % byte for byte in content) + b"0\r\n\r\n"
        head = post(b"Transfer-Encoding: chunked\r\nConnection: close\r\n")
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        await wire.send(head + chunked)
        got = await wire.ended()
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        assert got.startswith(b"HTTP/1.1 201 ")
        assert home.github.exchanges("/things")[0].body == content
        await self.nothing_left()

    # Many connections.

    async def test_least_recently_used_idle_connection_is_closed(self) -> None:
        """A connection that waits for GitHub is not."""
        self.home.site.most_connections = 5
        barrier = self.home.github.hold("/nowhere")
        waiting, _ = await self.connected()
        await waiting.send(get(b"/nowhere", b"Connection: close\r\n"))
        await barrier.arrived()
        idle = [await self.connected() for _ in range(4)]
        used, _ = idle[0]
        await used.send(get(b"/thing"))
        await until(lambda: used.read() or b'{"a":1}' in used.received)
        for _ in range(3):
            await self.connected()
        for wire, _ in idle[1:]:
            assert await wire.ended() == b""
        assert not used.read()
        assert len(self.home.site.channels) == 5
        barrier.open()
        assert (await waiting.ended()).startswith(b"HTTP/1.1 404 ")
        self.clock.advance(CLIENT_TIMEOUT_S)
        await self.nothing_left()

    async def test_reserved_connections_serve_health_checks(self) -> None:
        """While all others have a request under way."""
        self.home.site.most_connections = 1
        barrier = self.home.github.hold("/thing")
        first, _ = await self.connected()
        await first.send(get(b"/thing", b"Connection: close\r\n"))
        await barrier.arrived()
        for path in (b"/healthz", b"/readyz"):
            probe = self.wire()
            await probe.send(get(path, b"Connection: close\r\n"))
            assert (await probe.ended()).startswith(b"HTTP/1.1 200 ")
        other, later = self.wire(), self.wire()
        await other.send(get(b"/thing"))
        refused = await other.ended()
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 5\r\n" in refused
        barrier.open()
        assert (await first.ended()).startswith(b"HTTP/1.1 200 ")
        await later.send(get(b"/thing", b"Connection: close\r\n"))
        assert (await later.ended()).startswith(b"HTTP/1.1 200 ")
        await self.nothing_left()

    async def test_reserved_connections_are_bounded(self) -> None:
        """The first one without a request is closed."""
        self.home.site.most_connections = 1
        barrier = self.home.github.hold("/thing")
        first, _ = await self.connected()
        await first.send(get(b"/thing", b"Connection: close\r\n"))
        await barrier.arrived()
        silent = [(await self.connected())[0] for _ in range(RESERVED_CONNECTIONS)]
        probe = self.wire()
        assert await silent[0].ended() == b""
        await probe.send(get(b"/healthz", b"Connection: close\r\n"))
        assert (await probe.ended()).startswith(b"HTTP/1.1 200 ")
        assert len(self.home.site.channels) == RESERVED_CONNECTIONS
        barrier.open()
        assert (await first.ended()).startswith(b"HTTP/1.1 200 ")
        self.clock.advance(CLIENT_TIMEOUT_S)
        await self.nothing_left()

    async def test_connection_with_a_queued_response_is_not_idle(self) -> None:
        """It is not closed for another one."""
        site = self.home.site
        waiting, channel = await self.connected()
        idle, other = await self.connected()
        site.outbox.send(channel.transport, b"response", SEVERAL)
        site.most_connections = 1
        site.admit(other)
        assert other.is_reserved
        await until(lambda: waiting.read() or waiting.received == b"response")
        assert not idle.read()
        assert list(site.channels) == [channel, other]

    async def test_memory_of_idle_connections(self) -> None:
        """Two thousand use less than 32 kB each in a real mirror."""
        github = self.home.github
        mirror = await start_mirror(self, {"github": {"api_url": github.api_url}})
        port = int(mirror.url.rpartition(":")[2])
        behaved = await self.send(port)
        assert behaved.status == 200
        before, count = resident_bytes(mirror.pid), 2000
        wires = []
        for _ in range(count // 100):
            wires += [self.wire(port=port) for _ in range(100)]
            assert (await self.send(port)).status == 200
        assert descriptors(mirror.pid) >= count
        assert resident_bytes(mirror.pid) - before < count * 32 * 1024
        for wire in wires:
            wire.socket.close()
        await until(lambda: descriptors(mirror.pid) < 100)
        assert await mirror.stop() == 0
        assert "Traceback" not in mirror.log_text

    async def send(self, port: int) -> Received:
        """Send a request to another mirror than this process's."""
        return await self.home.send("GET", "/thing", token="bob-1", port=port)

    # TLS.

    def secure(self) -> tuple[int, Any]:
        """Listen with TLS, too; return the port, and the authority that its clients trust."""
        folder = Path(mkdtemp())
        self.addCleanup(rmtree, folder)
        authority = Authority.new()
        paths = authority.issue(folder)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate_file(str(paths["certificate"]))
        context.use_privatekey_file(str(paths["key"]))
        options = Context(context)
        port = reactor.listenSSL(0, self.home.site, options, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return port.getHost().port, trust_root(authority.pem)

    async def test_incomplete_tls_handshake_is_closed(self) -> None:
        """It has the timeout of a request."""
        port, _ = self.secure()
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(32)
        for sent in (b"", hello[:3], hello):
            wire = self.wire(port=port)
            await until(lambda: len(self.home.site.channels) == 1)
            for position in range(len(sent)):
                await wire.send(sent[position : position + 1])
            await self.well()
            self.clock.advance(CLIENT_TIMEOUT_S)
            self.clock.advance(CLOSE_TIMEOUT_S)
            await wire.ended()
            await self.nothing_left()

    async def test_refusal_over_tls_is_readable(self) -> None:
        """A client that does not close holds nothing."""
        port, trust = self.secure()
        endpoint = wrapClientTLS(
            optionsForClientTLS("127.0.0.1", trustRoot=trust),
            TCP4ClientEndpoint(reactor, "127.0.0.1", port),
        )
        raw = await connectProtocol(endpoint, Raw())
        assert raw.transport is not None
        raw.transport.write(b"GET  / HTTP/1.1\r\n\r\n")
        assert (await raw.ended).startswith(b"HTTP/1.1 400 ")
        self.clock.advance(CLOSE_TIMEOUT_S)
        await self.nothing_left()


async def full(channel: MirrorChannel) -> None:
    """Wait until more is written than the client reads."""
    await until(lambda: channel._waitingForTransport)


def _is_reading(channel: MirrorChannel) -> bool:
    """Return whether a connection is read from."""
    return channel.transport in reactor.getReaders()


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    """Return how many files and connections a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
