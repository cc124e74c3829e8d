"""The two ends of a dialogue, on real sockets: clients, and a GitHub that follows a script."""

from __future__ import annotations

import gzip
import http.client
import json
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final

from attrs import define, field
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

Lines = list[tuple[str, str]]

_NO_CONTENT: Final = frozenset({204, 304})
_END: Final = b"\r\n\r\n"


class MalformedError(Exception):
    """The received bytes are no HTTP message."""


def combined(lines: Lines, name: str) -> str | None:
    """Return the values of a field as one (RFC 9110, section 5.3), or None."""
    values = [value for key, value in lines if key.lower() == name.lower()]
    return ", ".join(values) if values else None


def joined(lines: Iterable[tuple[str, str]]) -> bytes:
    """Return field lines as they are sent."""
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in lines)


def chunked(content: bytes) -> bytes:
    """Return content in one chunk, and the last one."""
    return (b"%x\r\n%b\r\n" % (len(content), content) if content else b"") + b"0\r\n\r\n"


@define
class ReceivedMessage:
    """A message as received; *content* without its transfer coding."""

    start: str
    lines: Lines
    content: bytes

    @property
    def plain(self) -> bytes:
        """The content without its content coding."""
        if (combined(self.lines, "content-encoding") or "").lower() == "gzip":
            try:
                return gzip.decompress(self.content)
            except (OSError, EOFError, zlib.error) as error:
                raise MalformedError(f"the content is not gzip: {error}") from error
        return self.content

    def shown(self) -> str:
        """Return it for people."""
        try:
            content = self.plain
        except MalformedError:
            content = self.content
        text = content.decode("utf-8", "backslashreplace")
        if len(text) > 2000:
            text = f"{text[:2000]}... ({len(content)} bytes)"
        fields = [f"{name}: {value}" for name, value in self.lines]
        return "\n".join([self.start, *fields, *(["", text] if text else [])])


@define
class Taking:
    """Parses messages from the received bytes of a connection."""

    buffer: bytearray = field(factory=bytearray)

    def take(self, *, method: str = "", closed: bool = False) -> ReceivedMessage | None:
        """Return the next message when it is whole, or None.

        *method*: of the request that it responds to, empty where it is a request.
        """
        end = self.buffer.find(_END)
        if end < 0:
            return None
        start, *rest = bytes(self.buffer[:end]).decode("utf-8", "surrogateescape").split("\r\n")
        lines = [_field(line) for line in rest]
        at = end + len(_END)
        taken = self._content(start, lines, at, method, closed=closed)
        if taken is None:
            return None
        content, size = taken
        del self.buffer[: at + size]
        return ReceivedMessage(start, lines, content)

    def _content(
        self, start: str, lines: Lines, at: int, method: str, *, closed: bool
    ) -> tuple[bytes, int] | None:
        there = len(self.buffer) - at
        if method:
            status = _status(start)
            if method == "HEAD" or status in _NO_CONTENT or 100 <= status < 200:
                return b"", 0
        if "chunked" in (combined(lines, "transfer-encoding") or "").lower():
            return _dechunked(self.buffer, at)
        length = combined(lines, "content-length")
        if length is not None:
            size = int(length)
            return (bytes(self.buffer[at : at + size]), size) if there >= size else None
        if not method:
            return b"", 0
        return (bytes(self.buffer[at:]), there) if closed else None


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise MalformedError(f"no field line: {line!r}")
    return name, value.strip(" \t")


def _status(start: str) -> int:
    parts = start.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/") or not parts[1].isdigit():
        raise MalformedError(f"no status line: {start!r}")
    return int(parts[1])


def _dechunked(buffer: bytearray, at: int) -> tuple[bytes, int] | None:
    if not buffer.endswith(b"\r\n"):
        return None
    pieces, here = [], at
    while True:
        end = buffer.find(b"\r\n", here)
        if end < 0:
            return None
        size = int(bytes(buffer[here:end]).split(b";")[0], 16)
        here = end + 2
        if not size:
            break
        if len(buffer) < here + size + 2:
            return None
        pieces.append(bytes(buffer[here : here + size]))
        here += size + 2
    while True:  # trailers
        end = buffer.find(b"\r\n", here)
        if end < 0:
            return None
        if end == here:
            return b"".join(pieces), here + 2 - at
        here = end + 2


class ClientConnection(Protocol):
    """One request of a client, and its response."""

    def __init__(self, method: str, sent: bytes) -> None:
        self.method = method
        self.sent = sent
        self.taking = Taking()
        self.response: ReceivedMessage | None = None
        self.ended = False

    def connectionMade(self) -> None:
        self._transport.write(self.sent)

    @property
    def _transport(self) -> Any:
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        self.taking.buffer += data
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True
        self._look()

    def _look(self) -> None:
        while self.response is None:
            try:
                message = self.taking.take(method=self.method, closed=self.ended)
            except (MalformedError, ValueError):
                return
            if message is None:
                return
            if not message.start.split(" ")[1].startswith("1"):
                self.response = message
                self._transport.loseConnection()

    @property
    def responded(self) -> bool:
        """Whether there is a response, or the connection has ended without one."""
        return self.response is not None or self.ended

    @property
    def port(self) -> int:
        """Its port at the client."""
        port: int = self._transport.getHost().port
        return port

    @property
    def remains(self) -> str:
        """The received bytes of an incomplete response, as text."""
        return bytes(self.taking.buffer).decode("utf-8", "backslashreplace")[:2000]

    def send(self, content: bytes) -> None:
        """Send more of the request's content."""
        self._transport.write(content)

    def abort(self) -> None:
        """Disconnect."""
        self._transport.abortConnection()


@define(eq=False)
class Exchange:
    """A request that reached GitHub; *line*: of the step that received it."""

    connection: GitHubConnection
    method: str
    target: str
    message: ReceivedMessage
    line: int = 0
    responded: bool = False
    #: The number of bytes that are missing of the declared content of its response.
    missing: int = 0

    @property
    def is_disconnected(self) -> bool:
        """Whether the mirror has closed the connection."""
        return self.connection.ended

    def field(self, name: str) -> str | None:
        return combined(self.message.lines, name)


class GitHubConnection(Protocol):
    """A connection of the mirror's."""

    factory: Script

    def __init__(self) -> None:
        self.taking = Taking()
        self.ended = False

    @property
    def wire(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        self.factory.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.taking.buffer += data
        while (message := self.taking.take()) is not None:
            method, target, _ = message.start.split(" ", 2)
            self.factory.arrive(Exchange(self, method, target, message))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True
        self.factory.connections.remove(self)


@define(eq=False)
class Script(Factory):
    """GitHub: the requests that no step has received yet, and those without response."""

    arrived: list[Exchange] = field(factory=list)
    received: list[Exchange] = field(factory=list)
    connections: list[GitHubConnection] = field(factory=list)
    #: What is responded without the file; returns whether it was.
    by_itself: Callable[[Exchange], bool] = lambda _: False

    noisy = False

    def buildProtocol(self, addr: object) -> Any:
        connection = GitHubConnection()
        connection.factory = self
        return connection

    def arrive(self, exchange: Exchange) -> None:
        """Queue a request."""
        if not self.by_itself(exchange):
            self.arrived.append(exchange)

    def send(
        self, exchange: Exchange, status: int, reason: str | None, lines: Lines, content: bytes
    ) -> None:
        """Send a response, framed by its fields, or by its length."""
        exchange.responded = True
        bare = status in _NO_CONTENT or status < 200
        sent = b"" if bare or exchange.method == "HEAD" else content
        length = combined(lines, "content-length")
        if combined(lines, "transfer-encoding") is not None:
            sent = chunked(sent) if not bare and exchange.method != "HEAD" else sent
        elif length is None and not bare:
            lines = [*lines, ("Content-Length", str(len(content)))]
        elif length is not None and not bare and exchange.method != "HEAD":
            exchange.missing = max(int(length) - len(sent), 0)
        phrase = http.client.responses.get(status, "") if reason is None else reason
        head = f"HTTP/1.1 {status} {phrase}\r\n".encode()
        wire = exchange.connection.wire
        wire.write(head + joined(lines) + b"\r\n" + sent)
        if (combined(lines, "connection") or "").lower() == "close":
            wire.loseConnection()

    def send_more(self, exchange: Exchange, content: bytes) -> None:
        """Send more of the content of a response."""
        exchange.missing = max(exchange.missing - len(content), 0)
        exchange.connection.wire.write(content)

    def abort_all(self) -> None:
        """Close all connections."""
        for connection in list(self.connections):
            connection.wire.abortConnection()


def page_of(status: str) -> bytes:
    """Return the status page's list of components (Statuspage: status API)."""
    return json.dumps({"components": [{"name": "API Requests", "status": status}]}).encode()
