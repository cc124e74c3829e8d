"""A server whose every byte a test writes, for responses that the stand-in never sends."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

reactor: Any = global_reactor


class Connection(Protocol):
    """One connection from the mirror: the received bytes, and whether it is open."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.size = 0
        self.lost: Failure | None = None

    @property
    def head(self) -> bytes:
        """The request line and the fields, once they are all here."""
        head, end, _ = self.received.partition(b"\r\n\r\n")
        return head + end if end else b""

    @property
    def content(self) -> bytes:
        """The content after the fields, of the first 100 kB."""
        return self.received.partition(b"\r\n\r\n")[2]

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        self.size += len(data)
        if len(self.received) < 100_000:
            self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Server(Factory):
    """Accepts connections; *response* is sent at once after the fields of each request."""

    noisy = False

    def __init__(self, response: bytes = b"") -> None:
        self.response = response
        self.connections: list[Connection] = []
        self.url = ""

    def buildProtocol(self, addr: object) -> Connection:
        connection = _Responding(self) if self.response else Connection()
        self.connections.append(connection)
        return connection

    def listen(self, case: TestCase) -> None:
        """Listen until the test ends."""
        port = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{port.getHost().port}"
        case.addCleanup(self._close, port)

    async def _close(self, port: Any) -> None:
        for connection in self.connections:
            if connection.lost is None:
                connection.transport.abortConnection()
        await port.stopListening()


class _Responding(Connection):
    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self.head:
            self.received = b""
            self.send(self._server.response)


def raw_response(*fields: bytes, content: bytes = b"", status: int = 200) -> bytes:
    """Return a response with Content-Length."""
    lines = [b"HTTP/1.1 %d X" % status, b"Content-Length: %d" % len(content), *fields, b"", content]
    return b"\r\n".join(lines)
