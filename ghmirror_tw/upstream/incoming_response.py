"""A response from GitHub: its status and fields, and its content as it is received."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface import implementer

from ghmirror_tw.http.response_parser import ResponseHead


@implementer(IResponse, IPushProducer)
class IncomingResponse:
    """A response, also with the interface that treq and Twisted require.

    *lines* are its fields in order, names in lower case. For the protocol that receives the
    content it is the transport: it pauses, resumes and closes the connection, as long as the
    connection receives this response.
    """

    __slots__ = (
        "_end",
        "_headers",
        "_is_over",
        "_paused_by_reader",
        "_paused_transport",
        "_pieces",
        "_reader",
        "_transport",
        "code",
        "content_bytes",
        "length",
        "lines",
        "previousResponse",
    )
    version = (b"HTTP", 1, 1)
    phrase = b""
    request = None

    def __init__(self, head: ResponseHead, transport: Any) -> None:
        self.code = head.status
        self.lines = head.lines
        self.length: Any = UNKNOWN_LENGTH if head.length is None else head.length
        self.previousResponse: Any = None
        #: How much content was received, in bytes.
        self.content_bytes = 0
        self._transport = transport
        self._headers: Headers | None = None
        #: Content that was received before there was a reader.
        self._pieces: list[bytes] = []
        self._reader: Any = None
        self._end: Failure | None = None
        self._is_over = self._paused_transport = self._paused_by_reader = False

    @property
    def headers(self) -> Headers:
        """The fields, for treq."""
        if self._headers is None:
            self._headers = Headers()
            for name, value in self.lines:
                self._headers.addRawHeader(name, value)
        return self._headers

    def setPreviousResponse(self, response: Any) -> None:
        """Store the response that redirected here; see `IResponse`."""
        self.previousResponse = response

    def deliverBody(self, protocol: Any) -> None:
        """Deliver the content to *protocol*, now and as it is received."""
        assert self._reader is None
        self._reader = protocol
        protocol.makeConnection(self)
        pieces, self._pieces = self._pieces, []
        try:
            for piece in pieces:
                protocol.dataReceived(piece)
        except Exception:  # noqa: BLE001 - a fault of the reader, as with later pieces
            self._break_off(Failure(ResponseFailed([Failure()], self)))
            return
        if self._is_over:
            protocol.connectionLost(self._end or _done())
        elif not self._paused_by_reader:
            self.resumeProducing()

    def _break_off(self, failure: Failure) -> None:
        self.abortConnection()
        self._is_over = True
        self._end = failure
        self._reader.connectionLost(failure)

    # Called by the connection.

    def content_received(self, piece: bytes) -> None:
        """Deliver a piece of the content, or buffer it until there is a reader."""
        self.content_bytes += len(piece)
        if self._reader is None:
            self._pieces.append(piece)
        elif not self._is_over:
            self._reader.dataReceived(piece)

    def pause(self) -> None:
        """Pause the connection until a reader resumes it."""
        self._paused_transport = True
        self._transport.pauseProducing()

    def detach(self) -> None:
        """Drop the connection, which is used for other exchanges from now on."""
        transport, self._transport = self._transport, None
        if self._paused_transport and transport is not None:
            self._paused_transport = False
            transport.resumeProducing()

    def end(self, failure: Failure | None = None) -> None:
        """End the content: it is complete, or broke off with *failure*."""
        if self._is_over:
            return
        self._is_over = True
        self._end = failure
        if self._reader is not None:
            self._reader.connectionLost(failure or _done())

    # Called by the reader.

    def pauseProducing(self) -> None:
        """Stop reading for now."""
        self._paused_by_reader = True
        if self._transport is not None:
            self.pause()

    def resumeProducing(self) -> None:
        """Continue to read."""
        self._paused_by_reader = False
        if self._transport is not None:
            self._paused_transport = False
            self._transport.resumeProducing()

    def stopProducing(self) -> None:
        """Close the connection."""
        self.loseConnection()

    def loseConnection(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.loseConnection()

    def abortConnection(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abortConnection()


def _done() -> Failure:
    return Failure(ResponseDone("Response body fully received"))
