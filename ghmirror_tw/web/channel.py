"""Connections of clients: what Twisted's channel does, with answers in GitHub's shape.

What can't be parsed is refused here, before there is a request (RFC 9112).
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.server import Site

from ghmirror_tw.policy import errors
from ghmirror_tw.policy.errors import MirrorError

#: After a refusal, what the client still sends is read and dropped for so long, in seconds, so
#: that it gets to read the refusal.
LINGER_S: Final = 5.0
_REASONS: Final = {
    400: b"Bad Request",
    413: b"Content Too Large",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
}


class Channel(HTTPChannel):
    """A client's connection."""

    site: Any
    transport: Any
    factory: Any
    _refused = False
    _lingering: Any = None

    def connectionMade(self) -> None:
        """Count the connection."""
        self.factory.channels.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        """Forget the connection."""
        self.factory.channels.discard(self)
        if self._lingering is not None and self._lingering.active():
            self._lingering.cancel()
        super().connectionLost(reason)

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not self.requests

    def refuse(self, error: MirrorError) -> None:
        """Answer what can't be taken as a request, and close the connection."""
        if self._refused:
            return
        self._refused = True
        body = error.body()
        lines = [
            b"HTTP/1.1 %d %s" % (error.status, _REASONS.get(error.status, b"Refused")),
            b"Content-Type: application/json; charset=utf-8",
            b"Content-Length: %d" % len(body),
            b"Cache-Status: ghmirror; detail=%s" % error.reason.encode("ascii"),
            b"Connection: close",
            b"",
            body,
        ]
        self.transport.write(b"\r\n".join(lines))
        self.factory.refused(error)
        # What is still to come is read, or the client may lose the answer with the connection.
        self.dataReceived = self.lineReceived = lambda *_: None  # type: ignore[method-assign]
        self.setTimeout(None)
        self._lingering = self.callLater(LINGER_S, self.transport.abortConnection)
        half_close = getattr(self.transport, "loseWriteConnection", None)
        if half_close is not None:
            half_close()
        else:
            self.loseConnection()

    # What Twisted calls where it would answer 400 without content, or nothing.

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(errors.malformed("The request is malformed"))

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: ARG002
        """Refuse a line that is too long: the request line, or one of the fields."""
        first = not hasattr(self, "_command")
        self.refuse(errors.target_too_long() if first else errors.fields_too_large())

    def lineReceived(self, line: bytes) -> Any:
        """Take a line, unless the fields take too much."""
        if self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            return self.refuse(errors.fields_too_large())
        return super().lineReceived(line)

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        if header == b"Transfer-Encoding" and data.lower() != b"chunked":
            self.refuse(errors.not_implemented("Only the transfer coding chunked is understood"))
            self.length = None
            return False
        chosen: bool = super()._maybeChooseTransferDecoder(header, data)
        return chosen

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Tell whether the connection may serve another request (RFC 9112, section 9.3)."""
        options = b",".join(request.requestHeaders.getRawHeaders(b"connection", [])).lower()
        persistent = version == b"HTTP/1.1" and b"close" not in [
            option.strip() for option in options.split(b",")
        ]
        if not persistent:
            request.responseHeaders.setRawHeaders(b"connection", [b"close"])
        return persistent


class MirrorSite(Site):
    """All connections of clients."""

    protocol = Channel  # type: ignore[assignment]
    displayTracebacks = False

    def __init__(self, resource: Any, request_factory: Any, reactor: Any) -> None:
        super().__init__(resource, requestFactory=request_factory, reactor=reactor)
        self.channels: set[Channel] = set()

    def startFactory(self) -> None:
        """Open no log: requests are logged by the resource."""

    def stopFactory(self) -> None:
        """Close no log."""

    def log(self, request: Any) -> None:
        """Log nothing: requests are logged by the resource."""

    def refused(self, error: MirrorError) -> None:
        """Tell the resource that a connection was refused before it was a request."""
        self.resource.refused(error)

    @property
    def receiving(self) -> int:
        """How many requests have begun to come, answered or not."""
        return sum(not channel.idle for channel in self.channels)

    def drop_idle(self) -> None:
        """Close the connections on which nothing is under way; the others close afterwards."""
        for channel in list(self.channels):
            channel.persistent = False
            if channel.idle:
                channel.loseConnection()
