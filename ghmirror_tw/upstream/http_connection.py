"""An HTTP/1.1 connection to GitHub: one exchange after the other.

It does what the client connections of Twisted do, and fails with the same exceptions. It needs
fewer calls of the reactor and fewer objects for an exchange. Twisted's own decoders delimit the
content, exactly to the byte. They ignore trailers, and so does the mirror.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import protocol
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import Request
from twisted.web.client import (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import (
    PotentialDataLoss,
    _ChunkedTransferDecoder,
    _IdentityTransferDecoder,
)

from ghmirror_tw.http.chunk_framing_limit import is_mostly_framing
from ghmirror_tw.http.response_parser import (
    MalformedResponseError,
    OverLimitError,
    ResponseHead,
    ResponseParser,
)
from ghmirror_tw.runtime.event import Event
from ghmirror_tw.runtime.socket_writes import send_now
from ghmirror_tw.upstream.incoming_response import IncomingResponse


class ResponseReceiver(Protocol):
    """The receiver of the result of a request: one of its methods is called, once."""

    def response_received(self, response: IncomingResponse) -> None:
        """Receive a response; its connection may be in use for another exchange by now."""

    def request_failed(self, reason: Failure) -> None:
        """Receive the reason why there is no response."""


class HTTPConnection(protocol.Protocol):
    """A connection for one exchange at a time.

    *on_idle* is called when it can be used for the next exchange, *on_lost* when it is closed.
    *write* sends the bytes of a request without content.
    """

    transport: Any
    #: Since when it is idle, in seconds of the reactor's clock; set by the pool.
    idle_since = 0.0
    #: Whether a request can be sent, now or after the exchange under way.
    is_open = True
    _receiver: ResponseReceiver | None = None
    _persistent = False
    #: Whether any byte of a response was received.
    _response_begun = False
    _parser: ResponseParser
    _response: IncomingResponse | None = None
    #: The decoder of the content that is being received, or None.
    _decoder: Any = None
    #: How many bytes of chunked content were received, with its framing.
    _wire_bytes = 0
    #: Whether only the end of the connection delimits the content.
    _close_delimited = False
    #: A request with content that is being sent; the Deferred fires at the end of its content.
    _upload: Request | None = None
    _upload_sent: Deferred[None] | None = None

    def __init__(
        self,
        on_idle: Callable[[HTTPConnection], object],
        on_lost: Callable[[HTTPConnection], object],
        write: Callable[[Any, bytes], None] = send_now,
    ) -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._write = write
        self._closed = Event()

    def connectionMade(self) -> None:
        """Send short messages without delay."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)

    # The request.

    def send(
        self, request: bytes, receiver: ResponseReceiver, *, is_head: bool, persistent: bool
    ) -> None:
        """Send a request without content; *request* is all of it.

        *persistent*: whether the connection may be used again after the response.
        """
        self._begin(receiver, is_head=is_head, persistent=persistent)
        self._write(self.transport, request)

    def send_upload(self, request: Request, receiver: ResponseReceiver) -> None:
        """Send a request with content; the connection is closed after it."""
        self._begin(receiver, is_head=request.method == b"HEAD", persistent=False)
        self._upload = request
        try:
            sent = request.writeTo(self.transport)
        except Exception:  # noqa: BLE001 - any exception of a producer
            sent = fail()
        self._upload_sent = sent
        sent.addCallbacks(self._upload_done, self._upload_failed)

    def _begin(self, receiver: ResponseReceiver, *, is_head: bool, persistent: bool) -> None:
        self._receiver = receiver
        self._persistent = persistent
        self._response_begun = False
        self._parser = ResponseParser(to_head=is_head)

    def _upload_done(self, _: object) -> None:
        self._upload_sent = self._upload = None

    def _upload_failed(self, failure: Failure) -> None:
        self._upload_sent = self._upload = None
        # After a response, the rest of the content is not needed.
        if self._receiver is not None:
            self.abortConnection()
            self._fail(RequestGenerationFailed([failure]))

    def cancel(self) -> None:
        """Close the connection, since the response is not needed any more."""
        if self._upload_sent is not None:
            self._upload_sent.cancel()
        elif self._receiver is not None:
            self.abortConnection()
            self._fail(self._response_error(Failure(CancelledError())))

    # The transport of the response, as long as it is being received.

    def pauseProducing(self) -> None:
        """Stop reading for now."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Continue to read."""
        self.transport.resumeProducing()

    def loseConnection(self) -> None:
        """Close the connection after pending writes."""
        self.is_open = False
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Close the connection at once."""
        self.is_open = False
        self.transport.abortConnection()

    def close(self) -> Deferred[None]:
        """Close the idle connection; the Deferred fires when it is closed."""
        if not self._closed.is_set:
            self.loseConnection()
        return self._closed.wait()

    # The response.

    def dataReceived(self, data: bytes) -> None:
        """Parse the head of a response, or decode its content."""
        if self._decoder is not None:
            self._decode(data)
        elif self._receiver is None:
            # Unsolicited bytes must not become the response to the next request.
            self.loseConnection()
        else:
            self._response_begun = True
            try:
                found = self._parser.find(data)
            except MalformedResponseError:
                self._break_off(Failure())
                return
            if found is not None:
                self._head_received(*found)

    def _head_received(self, head: ResponseHead, rest: bytes) -> None:
        response = self._response = IncomingResponse(head, self)
        self._persistent = self._persistent and head.persistent
        if head.length == 0:
            self._response_complete(rest)
            return
        if head.chunked:
            self._wire_bytes = 0
            self._decoder = _ChunkedTransferDecoder(
                response.content_received, self._response_complete
            )
        else:
            self._close_delimited = head.length is None
            self._decoder = _IdentityTransferDecoder(
                head.length, response.content_received, self._response_complete
            )
        if rest:
            self._decode(rest)
        if self._response is response:
            # No content is read before a consumer wants it. A response may come before all content
            # of the request has been sent (RFC 9112, section 9.3); most of those are refusals.
            response.pause()
            self._deliver(response)

    def _decode(self, data: bytes) -> None:
        decoder = self._decoder
        try:
            if decoder.__class__ is _ChunkedTransferDecoder:
                self._check_framing(len(data))
            decoder.dataReceived(data)
        except Exception:  # malformed content, or a fault of its consumer
            if self._decoder is not decoder:
                raise
            self._break_off(Failure())

    def _check_framing(self, size: int) -> None:
        assert self._response is not None
        if is_mostly_framing(self._wire_bytes, self._response.content_bytes):
            raise OverLimitError("chunks may not be mostly framing")
        self._wire_bytes += size

    def _deliver(self, response: IncomingResponse) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.response_received(response)

    def _response_complete(self, rest: bytes) -> None:
        """End the exchange; *rest* was received after the response."""
        response, self._response = self._response, None
        assert response is not None
        receiver, self._receiver = self._receiver, None
        self._decoder = None
        response.detach()
        if self._upload_sent is not None:
            # The response is complete, and GitHub does not read the rest of the request's content.
            self._stop_upload()
            self.abortConnection()
        elif self._persistent and not rest and self.is_open:
            self._on_idle(self)
        else:
            self.loseConnection()
        response.end()
        if receiver is not None:
            receiver.response_received(response)

    # Failures.

    def _break_off(self, reason: Failure) -> None:
        self.loseConnection()
        self._end_exchange(reason)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the exchange, and notify the pool."""
        self.is_open = False
        self._on_lost(self)
        self._end_exchange(reason)
        self._closed.set()

    def _end_exchange(self, reason: Failure) -> None:
        response, self._response = self._response, None
        self._decoder = None
        if response is not None:
            response.detach()
            error = (
                PotentialDataLoss() if self._close_delimited else ResponseFailed([reason], response)
            )
            response.end(Failure(error))
        if self._upload is not None:
            self._fail(RequestTransmissionFailed([reason]))
            self._stop_upload()
        elif response is not None:
            # The content broke off. The response is delivered now, unless it was before.
            self._deliver(response)
        else:
            self._fail(self._response_error(reason))

    def _stop_upload(self) -> None:
        upload, self._upload, self._upload_sent = self._upload, None, None
        if upload is not None:
            upload.stopWriting()

    def _response_error(self, reason: Failure) -> ResponseFailed:
        return (ResponseFailed if self._response_begun else ResponseNeverReceived)([reason])

    def _fail(self, error: Exception) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.request_failed(Failure(error))
