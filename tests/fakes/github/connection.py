"""HTTP/1.1 connections of clients (RFC 9112)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, cast

from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Factory as ProtocolFactory
from twisted.internet.protocol import Protocol as TwistedProtocol
from zope.interface import implementer

from tests.fakes.github.messages import Request

if TYPE_CHECKING:
    from typing import Any

    from twisted.internet.interfaces import IAddress, ITCPTransport
    from twisted.python.failure import Failure

    from tests.fakes.github.server import GitHub

BLOCK = bytes(range(256)) * 256
"""The content of ``/_stream/N`` repeats this block up to N bytes."""


_MAX_HEAD_BYTES = 1 << 20


_MAX_BUFFERED_BYTES = 1 << 20


_KEPT_BODY_BYTES = 1 << 20


class ConnectionFactory(ProtocolFactory):
    noisy = False

    def __init__(self, github: GitHub) -> None:
        self.github = github

    def buildProtocol(self, addr: IAddress | None) -> Connection:
        return Connection(self.github, str(getattr(addr, "host", "")))


class _MalformedError(Exception):
    """The client does not speak HTTP/1.1."""


@implementer(IPullProducer)
class Connection(TwistedProtocol):
    """HTTP/1.1 (RFC 9112) with one client; pipelined requests wait in the buffer."""

    def __init__(self, github: GitHub, address: str) -> None:
        self.github = github
        self.address = address
        self._wire = cast("ITCPTransport", None)
        self._buffer = b""
        self._request: Request | None = None
        self._busy = self._advancing = self._paused = self._lost = False
        self._chunked = self._in_chunk = False
        self._left = 0
        self._stream_left = 0

    def connectionMade(self) -> None:
        self._wire = cast("ITCPTransport", self.transport)
        self._wire.setTcpNoDelay(True)
        self.github.connections.add(self)
        self.github.connections_made += 1

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._lost = True
        if self._request is not None and self._busy:
            self.github.end(self._request)
        self._request = None
        github = self.github
        github.connections.discard(self)
        if not github.connections:
            emptied, github.emptied = github.emptied, []
            for done in emptied:
                done.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._busy:
            self._advance()
        if self._busy and not self._paused and len(self._buffer) > _MAX_BUFFERED_BYTES:
            self._paused = True
            cast("Any", self._wire).pauseProducing()

    def write(self, content: bytes) -> None:
        if not self._lost:
            self._wire.write(content)

    def lose(self) -> None:
        if not self._lost:
            self._wire.loseConnection()

    def abort(self) -> None:
        if not self._lost:
            self._wire.abortConnection()

    def finished(self, request: Request) -> None:
        """Read the next request, or close."""
        if self._lost or request is not self._request:
            return
        self.github.end(request)
        self._request = None
        if request.close:
            self._wire.loseConnection()
            return
        self._busy = False
        if self._paused:
            self._paused = False
            cast("Any", self._wire).resumeProducing()
        if not self._advancing:
            self._advance()

    def stream(self, request: Request, size_bytes: int) -> None:
        """Send so many bytes, as fast as they are read."""
        if self._lost:
            return
        self._stream_left = size_bytes
        cast("Any", self._wire).registerProducer(self, False)

    def resumeProducing(self) -> None:
        block = BLOCK[: self._stream_left] if self._stream_left < len(BLOCK) else BLOCK
        self._stream_left -= len(block)
        if block:
            self._wire.write(block)
        if not self._stream_left:
            cast("Any", self._wire).unregisterProducer()
            if self._request is not None:
                self.finished(self._request)

    def stopProducing(self) -> None:
        self._stream_left = 0

    def _advance(self) -> None:
        self._advancing = True
        try:
            while not self._busy and not self._lost:
                if self._request is None and not self._read_head():
                    return
                request = self._request
                if request is None or not self._read_body(request):
                    return
                self._busy = True
                self.github.begin(request)
        except _MalformedError as e:
            self._busy = True
            text = str(e).encode()
            self.write(
                b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(text), text)
            )
            self.lose()
        finally:
            self._advancing = False

    def _read_head(self) -> bool:
        buffer = self._buffer
        if buffer[:1] in {b"\r", b"\n"}:
            buffer = self._buffer = buffer.lstrip(b"\r\n")
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(buffer) > _MAX_HEAD_BYTES:
                raise _MalformedError("header section too large")
            return False
        lines = buffer[:end].split(b"\r\n")
        self._buffer = buffer[end + 4 :]
        start = lines[0].split(b" ")
        if len(start) != 3 or not start[2].startswith(b"HTTP/1.") or not start[1].startswith(b"/"):
            raise _MalformedError("malformed request line")
        method, target, version = start
        pairs = []
        named: dict[bytes, bytes] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip():
                raise _MalformedError("malformed field line")
            value = value.strip(b" \t")
            pairs.append((name, value))
            key = name.lower()
            named[key] = named[key] + b", " + value if key in named else value
        connection = named.get(b"connection", b"").lower()
        close = b"close" in connection or (
            version == b"HTTP/1.0" and b"keep-alive" not in connection
        )
        path, _, query = target.decode("latin-1").partition("?")
        request = Request(self, method, target, path, query, pairs, named, close)
        if path == "/_sink" and method not in {b"GET", b"HEAD"}:
            request.digest = hashlib.sha256()
        self._request = request
        self._chunked = b"chunked" in named.get(b"transfer-encoding", b"").lower()
        self._in_chunk = False
        self._left = 0
        length = named.get(b"content-length")
        if length is not None:
            if self._chunked or not length.isdigit():
                raise _MalformedError("malformed Content-Length")
            self._left = int(length)
        if named.get(b"expect", b"").lower() == b"100-continue" and not self._buffer:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _read_body(self, request: Request) -> bool:
        if not self._chunked:
            if self._left:
                self._take(request)
            return not self._left
        while True:
            if self._left:
                self._take(request)
                if self._left:
                    return False
            if self._in_chunk:
                if len(self._buffer) < 2:
                    return False
                if self._buffer[:2] != b"\r\n":
                    raise _MalformedError("malformed chunk")
                self._buffer = self._buffer[2:]
                self._in_chunk = False
            line, found, rest = self._buffer.partition(b"\r\n")
            if not found:
                if len(self._buffer) > 4096:
                    raise _MalformedError("malformed chunk size")
                return False
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError:
                raise _MalformedError("malformed chunk size") from None
            if size:
                self._buffer, self._left, self._in_chunk = rest, size, True
                continue
            if rest.startswith(b"\r\n"):
                self._buffer = rest[2:]
                return True
            _, found, rest = rest.partition(b"\r\n\r\n")
            if not found:
                return False
            self._buffer = rest
            return True

    def _take(self, request: Request) -> None:
        piece = self._buffer[: self._left]
        self._buffer = self._buffer[self._left :]
        self._left -= len(piece)
        request.body_bytes += len(piece)
        if request.digest is not None:
            request.digest.update(piece)
        room = _KEPT_BODY_BYTES - len(request.body)
        if room > 0:
            request.body += piece[:room]
