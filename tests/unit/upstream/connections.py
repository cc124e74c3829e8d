"""Connections to GitHub in memory, and receivers of their responses."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from ghmirror_tw.upstream.http_connection import HTTPConnection
from tests.fakes.recording_producers import Producer

UNMODIFIED = b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n'
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"


class MemoryTransport(StringTransport):
    """A transport in memory that records calls."""

    aborted = False

    def __init__(self) -> None:
        # As with a real one, something may be on its way when it is closed.
        super().__init__(lenient=True)

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True

    @property
    def paused(self) -> bool:
        """Whether nothing is read."""
        return bool(self.producerState == "paused")


@implementer(IStreamClientEndpoint)
@define(eq=False)
class MemoryEndpoint:
    """An endpoint that connects at once or, if *slow*, when the test decides."""

    slow: bool = False
    connections: list[HTTPConnection] = field(factory=list)
    waiting: list[Deferred[Any]] = field(factory=list)
    cancelled: int = 0

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        if self.slow:
            self.waiting.append(Deferred(self._cancelled))
            return self.waiting[-1]
        connection = protocolFactory.buildProtocol(None)
        connection.makeConnection(MemoryTransport())
        self.connections.append(connection)
        return succeed(connection)

    def _cancelled(self, _: object) -> None:
        self.cancelled += 1

    def wire(self, number: int = -1) -> MemoryTransport:
        """Return the transport of a connection."""
        wire: MemoryTransport = self.connections[number].transport
        return wire

    def receive(self, data: bytes, number: int = -1) -> None:
        """Receive bytes on a connection."""
        self.connections[number].dataReceived(data)

    def lose(self, number: int = -1, reason: Exception | None = None) -> None:
        """Lose a connection."""
        self.connections[number].connectionLost(Failure(reason or ConnectionDone()))


@define(eq=False)
class Receiver:
    """Receives a response or an error."""

    response: Any = None
    error: Any = field(default=None)

    def response_received(self, response: Any) -> None:
        assert self.response is None
        assert self.error is None
        self.response = response

    def request_failed(self, reason: Failure) -> None:
        assert self.response is None
        assert self.error is None
        self.error = reason.value


class Reader(Protocol):
    """Receives content."""

    def __init__(self) -> None:
        self.content = b""
        self.ends: list[Failure] = []

    def dataReceived(self, data: bytes) -> None:
        self.content += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ends.append(reason)


@implementer(IBodyProducer)
class Upload(Producer):
    """Content of a request, sent when the test decides."""

    def __init__(self, length: Any = 4) -> None:
        super().__init__()
        self.length = length
        self.consumer: Any = None
        self.sent: Deferred[None] = Deferred()

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self.consumer = consumer
        return self.sent
