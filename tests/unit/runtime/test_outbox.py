"""Sending at once: on real sockets, and only where nothing comes out of order by it."""

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

from ghmirror_tw.runtime.outbox import LARGE_BYTES, MAX_QUEUED, SEVERAL, Outbox, send_now
from tests.fakes.producers import Producer
from tests.harness.home import reactor, turn, until
from tests.unit.upstream.test_tls import made_certificate

LARGE = random.Random(1).randbytes(8 * 1024 * 1024)
"""More than any socket takes at once."""


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
    """What is sent at once."""

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

    async def test_at_once(self) -> None:
        """The other end has it before the reactor turns, and the socket is not watched for it."""
        for kind in ("tcp", "unix"):
            near, far = await self.ends(kind)
            send_now(near.transport, b"short")
            assert far.transport.socket.recv(100) == b"short"
            assert near.transport not in reactor.getWriters()

    async def test_whole_and_in_order(self) -> None:
        """However it is written, all of it comes as it was written."""
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

    async def test_a_part(self) -> None:
        """What the system does not take is sent when it does, and pauses a producer meanwhile."""
        near, far = await self.ends()
        far.transport.pauseProducing()
        producer = Producer()
        near.transport.registerProducer(producer, True)
        send_now(near.transport, LARGE)
        assert near.transport in reactor.getWriters()
        assert producer.told == ["pause"]
        far.transport.resumeProducing()
        await until(lambda: len(far.received) == len(LARGE))
        await turn()
        assert producer.told == ["pause", "resume"]
        assert far.received == LARGE
        near.transport.unregisterProducer()

    async def test_a_producer_that_is_pulled(self) -> None:
        """One that writes when it is asked to is asked again."""
        near, far = await self.ends()
        producer = Producer()
        near.transport.registerProducer(producer, False)
        for times in (1, 2, 3):
            await until(lambda times=times: producer.told == ["resume"] * times)  # type: ignore[misc]
            send_now(near.transport, b"piece")
        near.transport.unregisterProducer()
        await until(lambda: far.received == b"piece" * 3)

    async def test_lost_while_sending(self) -> None:
        """That a connection is lost is told later, once, as after a write."""
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
            send_now(near.transport, b"nobody is there")

    async def test_closing(self) -> None:
        """What is sent before it is closed arrives; afterwards, as much as after a write."""
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

    async def test_lost(self) -> None:
        """What is sent over a connection that is gone goes nowhere, as after a write."""
        near, far = await self.ends()
        far.transport.loseConnection()
        await until(lambda: bool(near.lost))
        send_now(near.transport, b"nobody is there")
        assert near.transport not in reactor.getWriters()

    async def test_what_is_no_socket(self) -> None:
        """Another transport's own write does it, and a socket's on which TLS was begun."""

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

    async def test_at_the_end_of_the_turn(self) -> None:
        """Short messages go out together then, and the sockets are not watched for that."""
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

    async def test_not_at_the_end_of_the_turn(self) -> None:
        """What is large, or hardly one of several, is sent at once, and so is what fills a turn."""
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

    async def test_closing_before_the_end_of_the_turn(self) -> None:
        """What is to be sent arrives before a connection is closed, as after a write."""
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

    async def test_tls_begun_before_the_end_of_the_turn(self) -> None:
        """What was sent before TLS was begun is not sealed."""
        near, far = await self.ends()
        Outbox().send(far.transport, b"plain", SEVERAL)
        far.transport.startTLS(CertificateOptions())  # which waits for the client to begin
        await until(lambda: near.received == b"plain")


class Narrow(Connection):
    """A socket that takes as much as it is told to, or fails."""

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
def test_order(takes: list[int | None], steps: list[Any]) -> None:
    """Whatever a socket takes, and when: what it was given is sent, in order."""
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
def test_order_at_the_end_of_a_turn(takes: list[int | None], steps: list[Any]) -> None:
    """What waits for it is sent in order, too, and nothing waits for ever."""
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
