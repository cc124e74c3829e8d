"""Writing to sockets at once, or at the end of a turn of the reactor, always in order."""

from __future__ import annotations

import random
import socket
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, CertificateOptions, optionsForClientTLS
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from ghmirror_tw.runtime.socket_writes import LARGE_BYTES, MAX_QUEUED, SEVERAL, Outbox, send_now
from tests.fakes.recording_producers import Producer
from tests.harness.home import reactor, turn, until
from tests.unit.upstream.test_tls import made_certificate

LARGE = random.Random(1).randbytes(8 * 1024 * 1024)
"""More than any socket accepts at once."""


class End(Protocol):
    """One end of a connection."""

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.made: Deferred[End] = Deferred()
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        self.made.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Gives(Factory):
    """Has one end to give."""

    noisy = False

    def __init__(self, end: End) -> None:
        self.end = end

    def buildProtocol(self, addr: object) -> End:
        return self.end


class Sending(TestCase):
    """Data that is sent at once."""

    async def ends(self, kind: str = "tcp") -> tuple[End, End]:
        """Return two ends of a connection."""
        far, near = End(), End()
        endpoint: Any
        if kind == "unix":
            path = str(Path(tempfile.mkdtemp()) / "socket")
            port = reactor.listenUNIX(path, Gives(far))
            endpoint = UNIXClientEndpoint(reactor, path)
        elif kind == "tls":
            pem, private = made_certificate()
            port = reactor.listenSSL(0, Gives(far), private, interface="127.0.0.1")
            plain = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
            options = optionsForClientTLS("localhost", Certificate.loadPEM(pem.encode()))
            endpoint = wrapClientTLS(options, plain)
        else:
            port = reactor.listenTCP(0, Gives(far), interface="127.0.0.1")
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        self.addCleanup(port.stopListening)
        await connectProtocol(endpoint, near)
        await far.made
        self.addCleanup(self.end, near, far)
        return near, far

    @staticmethod
    async def end(*ends: End) -> None:
        for each in ends:
            if each.lost is None:
                each.transport.abortConnection()
        await until(lambda: all(each.lost for each in ends))

    async def test_send_now_bypasses_the_reactor(self) -> None:
        """The peer has the bytes before the reactor turns, and the socket is not watched for it."""
        for kind in ("tcp", "unix"):
            near, far = await self.ends(kind)
            send_now(near.transport, b"short")
            assert far.transport.socket.recv(100) == b"short"
            assert near.transport not in reactor.getWriters()

    async def test_bytes_arrive_whole_and_in_order(self) -> None:
        """However they are written."""
        for kind in ("tcp", "unix", "tls"):
            near, far = await self.ends(kind)
            send_now(near.transport, b"first")
            near.transport.write(b"second")
            send_now(near.transport, b"third")
            send_now(near.transport, LARGE)
            send_now(near.transport, b"")
            send_now(near.transport, b"last")
            near.transport.loseConnection()
            far.transport.resumeProducing()
            await until(lambda far=far: far.lost)  # type: ignore[misc]
            assert far.received == b"firstsecondthird" + LARGE + b"last", kind

    async def test_unsent_rest_is_buffered(self) -> None:
        """It is sent when the socket is writable, and pauses a producer meanwhile."""
        near, far = await self.ends()
        far.transport.pauseProducing()
        producer = Producer()
        near.transport.registerProducer(producer, True)
        send_now(near.transport, LARGE)
        assert near.transport in reactor.getWriters()
        assert producer.calls == ["pause"]
        far.transport.resumeProducing()
        await until(lambda: len(far.received) == len(LARGE))
        await turn()
        assert producer.calls == ["pause", "resume"]
        assert far.received == LARGE
        near.transport.unregisterProducer()

    async def test_pull_producer_is_resumed(self) -> None:
        """After each write."""
        near, far = await self.ends()
        producer = Producer()
        near.transport.registerProducer(producer, False)
        for times in (1, 2, 3):
            await until(lambda times=times: producer.calls == ["resume"] * times)  # type: ignore[misc]
            send_now(near.transport, b"piece")
        near.transport.unregisterProducer()
        await until(lambda: far.received == b"piece" * 3)

    async def test_connection_lost_while_sending(self) -> None:
        """It is notified later, once, as after a write."""
        for again in (False, True):
            near, far = await self.ends()
            near.transport.pauseProducing()
            far.transport.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            far.transport.abortConnection()
            await until(lambda far=far: far.lost)  # type: ignore[misc]
            send_now(near.transport, b"into the void")
            if again:
                send_now(near.transport, b"and again")
            assert near.lost is None
            await until(lambda near=near: near.lost)  # type: ignore[misc]
            assert not near.transport.connected
            send_now(near.transport, b"no reader")

    async def test_bytes_before_close_arrive(self) -> None:
        """Bytes after it are dropped, as after a write."""
        for close, arrives in (
            ("loseConnection", b"beforeafter"),
            ("loseWriteConnection", b"beforeafter"),
            ("abortConnection", b"before"),
        ):
            near, far = await self.ends()
            send_now(near.transport, b"before")
            getattr(near.transport, close)()
            send_now(near.transport, b"after")
            await until(lambda far=far: far.lost)  # type: ignore[misc]
            assert far.received == arrives, close
            send_now(near.transport, b"much later")

    async def test_bytes_for_a_lost_connection_are_dropped(self) -> None:
        """As after a write."""
        near, far = await self.ends()
        far.transport.loseConnection()
        await until(lambda: bool(near.lost))
        send_now(near.transport, b"no reader")
        assert near.transport not in reactor.getWriters()

    async def test_other_transports_use_their_own_write(self) -> None:
        """So does a socket with TLS."""

        class Other:
            written = b""

            def write(self, data: bytes) -> None:
                self.written += data

        other = Other()
        send_now(other, b"it")
        assert other.written == b"it"
        near, _ = await self.ends()
        near.transport.startTLS(CertificateOptions())
        assert near.transport.TLS
        await until(lambda: near.transport not in reactor.getWriters())
        assert not near.transport.dataBuffer
        written: list[bytes] = []
        near.transport.protocol.write = written.append
        send_now(near.transport, b"sealed")
        assert written == [b"sealed"]

    async def test_short_messages_are_sent_at_the_end_of_the_turn(self) -> None:
        """Together, without the sockets being watched."""
        outbox = Outbox()
        ends = [await self.ends(kind) for kind in ("tcp", "unix", "tcp")]
        for near, far in ends:
            far.transport.pauseProducing()
            outbox.send(near.transport, b"short", SEVERAL)
            with self.assertRaises(BlockingIOError):
                far.transport.socket.recv(100)
            assert outbox.holds(near.transport)
        await turn()
        for near, far in ends:
            assert far.transport.socket.recv(100) == b"short"
            assert near.transport not in reactor.getWriters()
            assert not outbox.holds(near.transport)

    async def test_large_or_single_messages_are_sent_at_once(self) -> None:
        """Or as many as fill a turn."""
        outbox = Outbox()
        near, far = await self.ends()
        far.transport.pauseProducing()
        outbox.send(near.transport, b"x", SEVERAL - 1)
        assert far.transport.socket.recv(100) == b"x"
        outbox.send(near.transport, b"y" * LARGE_BYTES, SEVERAL)
        assert far.transport.socket.recv(100) == b"y" * 100
        others = [await self.ends() for _ in range(MAX_QUEUED)]
        for one, other in others:
            other.transport.pauseProducing()
            outbox.send(one.transport, b"z", SEVERAL)
        for _, other in others:
            assert other.transport.socket.recv(100) == b"z"

    async def test_queued_message_arrives_before_close(self) -> None:
        """As after a write."""
        for close, arrives in (
            ("loseConnection", b"beforeafter"),
            ("loseWriteConnection", b"beforeafter"),
            ("abortConnection", b""),
        ):
            near, far = await self.ends()
            outbox = Outbox()
            outbox.send(near.transport, b"before", SEVERAL)
            getattr(near.transport, close)()
            outbox.send(near.transport, b"after", SEVERAL)
            await until(lambda far=far: far.lost)  # type: ignore[misc]
            assert far.received == arrives, close
            outbox.send(near.transport, b"much later", SEVERAL)
        near, far = await self.ends()
        outbox = Outbox()
        outbox.send(near.transport, b"before", SEVERAL)
        near.transport.connectionLost(Failure(ConnectionDone()))
        await until(lambda: bool(far.lost))
        assert not outbox.holds(near.transport)

    async def test_message_queued_before_tls_is_sent_in_the_clear(self) -> None:
        """As it was written."""
        near, far = await self.ends()
        Outbox().send(far.transport, b"plain", SEVERAL)
        far.transport.startTLS(CertificateOptions())  # which waits for the client to begin
        await until(lambda: near.received == b"plain")


class Narrow(Connection):
    """A socket that accepts a set number of bytes, or fails."""

    def __init__(self, takes: list[int | None]) -> None:
        self.takes = takes
        self.sent = b""
        reactor: Any = Clock()
        reactor.addWriter = reactor.removeWriter = lambda _: None
        super().__init__(socket.socket(), Protocol(), reactor)
        self.socket.close()
        self.connected = 1

    def writeSomeData(self, data: bytes) -> Any:
        most = self.takes.pop(0) if self.takes else len(data)
        if most is None:
            return ConnectionDone()
        self.sent += bytes(data[:most])
        return min(most, len(data))


@settings(deadline=None)
@given(
    takes=st.lists(st.integers(0, 4), max_size=20),
    steps=st.lists(st.one_of(st.just("turn"), st.tuples(st.booleans(), st.binary(max_size=6)))),
)
def test_order_with_any_socket(takes: list[int | None], steps: list[Any]) -> None:
    """With any partial writes of a socket, bytes are sent in order."""
    narrow = Narrow(takes)
    wanted = b""
    for step in steps:
        if step == "turn":
            narrow.doWrite()
        else:
            at_once, data = step
            wanted += data
            send: Callable[[bytes], object] = narrow.write
            if at_once:
                send_now(narrow, data)
            else:
                send(data)
        assert wanted.startswith(narrow.sent)
    while narrow.takes or narrow.dataBuffer or narrow._tempDataBuffer:
        narrow.doWrite()
    assert narrow.sent == wanted


@settings(deadline=None)
@given(
    takes=st.lists(st.integers(0, 4), max_size=20),
    steps=st.lists(
        st.one_of(
            st.just("turn"),
            st.tuples(st.sampled_from(["write", "now", "soon"]), st.binary(max_size=6)),
        )
    ),
)
def test_order_of_queued_messages(takes: list[int | None], steps: list[Any]) -> None:
    """Queued messages are sent in order, and none stays queued."""
    narrow, outbox, wanted = Narrow(takes), Outbox(), b""
    watched: set[Any] = set()
    clock: Any = narrow.reactor
    clock.addWriter, clock.removeWriter = watched.add, watched.discard

    def end_turn() -> None:
        clock.advance(0)
        for each in list(watched):
            each.doWrite()
        assert wanted.startswith(narrow.sent)

    for step in steps:
        if step == "turn":
            end_turn()
            continue
        how, data = step
        wanted += data
        if how == "soon":
            outbox.send(narrow, data, SEVERAL)
        elif how == "now":
            send_now(narrow, data)
        else:
            narrow.write(data)
    while watched or clock.getDelayedCalls():
        end_turn()
    assert narrow.sent == wanted
