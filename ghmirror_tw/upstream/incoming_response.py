"""An answer of GitHub's: its status and fields, and its content as it comes."""

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
    """One answer, for treq and for whoever else takes a response of Twisted's client.

    *lines* are its fields in order, names in lower case. To who is delivered the content it is
    the transport: it pauses, resumes and aborts the connection, as long as this is its answer.
    """

    __slots__ = (
        "_end",
        "_headers",
        "_held_back",
        "_over",
        "_paused",
        "_pieces",
        "_reader",
        "_transport",
        "code",
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
        self._transport = transport
        self._headers: Headers | None = None
        self._pieces: list[bytes] = []
        self._reader: Any = None
        self._end: Failure | None = None
        self._over = self._paused = self._held_back = False

    @property
    def headers(self) -> Headers:
        """The fields, for treq."""
        if self._headers is None:
            self._headers = Headers()
            for name, value in self.lines:
                self._headers.addRawHeader(name, value)
        return self._headers

    def setPreviousResponse(self, response: Any) -> None:
        """Take note of the answer that led to this one."""
        self.previousResponse = response

    def deliverBody(self, protocol: Any) -> None:
        """Give the content to *protocol*, now and as it comes."""
        assert self._reader is None
        self._reader = protocol
        protocol.makeConnection(self)
        pieces, self._pieces = self._pieces, []
        try:
            for piece in pieces:
                protocol.dataReceived(piece)
        except Exception:  # noqa: BLE001 - it is the content's fault, as when it comes later
            self._break_off(Failure(ResponseFailed([Failure()], self)))
            return
        if self._over:
            protocol.connectionLost(self._end or _done())
        elif not self._held_back:
            self.resumeProducing()

    def _break_off(self, failure: Failure) -> None:
        self.abortConnection()
        self._over = True
        self._end = failure
        self._reader.connectionLost(failure)

    # What the connection calls.

    def take(self, piece: bytes) -> None:
        """Take a piece of the content."""
        if self._reader is None:
            self._pieces.append(piece)
        elif not self._over:
            self._reader.dataReceived(piece)

    def pause(self) -> None:
        """Read no more until there is somebody who takes it."""
        self._paused = True
        self._transport.pauseProducing()

    def let_go(self) -> None:
        """Have no more to do with the connection."""
        transport, self._transport = self._transport, None
        if self._paused and transport is not None:
            self._paused = False
            transport.resumeProducing()

    def end(self, failure: Failure | None = None) -> None:
        """Take note that no more comes, and why, unless it is complete."""
        if self._over:
            return
        self._over = True
        self._end = failure
        if self._reader is not None:
            self._reader.connectionLost(failure or _done())

    # What who takes the content calls.

    def pauseProducing(self) -> None:
        """Read no more for now."""
        self._held_back = True
        if self._transport is not None:
            self.pause()

    def resumeProducing(self) -> None:
        """Go on reading."""
        self._held_back = False
        if self._transport is not None:
            self._paused = False
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
