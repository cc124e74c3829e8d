"""A client's connection: one exchange after the other, with backpressure in both directions.

Content of a request is read only while a consumer takes it. The next request waits until the client
has taken the response to this one. A client has `CLIENT_TIMEOUT_S` for each step, whether it sends
or reads nothing or a byte at a time.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, ISSLTransport
from twisted.web.http import Request

from ghmirror_tw.http import error_responses
from ghmirror_tw.http.chunk_framing_limit import is_mostly_framing
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.upstream.byte_budget import Reservation
from ghmirror_tw.web.own_responses import serialised_error
from ghmirror_tw.web.request_content import RequestContent
from ghmirror_tw.web.request_head_limits import HeadLimitingChannel

#: After the last response, input is read and dropped for so long, in seconds, so that the client
#: can read that response.
CLOSE_TIMEOUT_S: Final = 5.0
#: How long a client may take for each step, in seconds: to begin a request, to send all of its
#: fields, to send `PIECE_BYTES` of its content or the rest of it while that is read, and to read
#: the buffers of its connection. Twisted's own timeout restarts with every byte, and has no limit
#: for reading.
CLIENT_TIMEOUT_S: Final = 60.0
#: A client that sends or reads less than this within the timeout, 1.1 kB/s, is too slow.
PIECE_BYTES: Final = 64 * 1024


class ExchangeChannel(HeadLimitingChannel):
    """Reads content, delivers responses, and closes the connection."""

    #: Whether reading is paused because no consumer takes the content.
    reading_paused = False
    #: Bytes of this content on the wire, with its framing.
    content_wire_bytes = 0
    #: Bytes of the content that were received since the timeout was restarted.
    _bytes_since_reset = 0
    #: Bytes received behind the request under way.
    _pipelined_bytes = 0
    #: A request with a complete response; the rest of its content is read and dropped.
    _discarding: Any = None
    #: A request whose response is written, but not yet taken by the client.
    _undelivered: Request | None = None
    #: The bytes that the client has not read, and since when, in seconds of the reactor's clock.
    unread: Reservation | None = None
    unread_since: float = 0.0
    #: Whether a request was refused on this connection.
    _refused = False
    #: Aborts the connection after `CLOSE_TIMEOUT_S`.
    _abort_call: IDelayedCall | None = None

    @property
    def incoming_content(self) -> RequestContent | None:
        """The content of the last request, while it is incomplete; else None."""
        if self._handlingRequest or not self.requests:
            return None
        incoming: RequestContent | None = self.requests[-1].incoming
        return incoming

    # Content of requests.

    def _send100Continue(self) -> None:
        """Defer `100 Continue` until the content is read (RFC 9110, section 10.1.1)."""
        self.requests[-1].expects = True

    def send_continue(self) -> None:
        """Send `100 Continue` if the client waits for it and has not begun to send content."""
        request, content = self.requests[-1], self.incoming_content
        if request.expects and content is not None and not (content.size or request.startedWriting):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def adjust_reading(self) -> None:
        """Read content while a consumer takes it; else pause reading, without a timeout."""
        content = self.incoming_content
        pause = content is not None and content.is_held and not self._drops_input
        if pause == self.reading_paused:
            return
        self.reading_paused = pause
        if pause:
            self.setTimeout(None)
            self._networkProducer.pauseProducing()
            return
        if content is not None and not content.complete:
            self._bytes_since_reset = 0
            self.setTimeout(self.factory.timeOut)
        if not self._waitingForTransport:
            self._networkProducer.resumeProducing()

    def restart_timeout(self, size: int) -> None:
        """Restart the timeout at the first byte of a request, and for each piece of its content."""
        if not self.request_begun:
            self.request_begun = True
            self.resetTimeout()
        elif not self.line_mode:
            self._bytes_since_reset += size
            if self._bytes_since_reset >= PIECE_BYTES:
                self._bytes_since_reset = 0
                self.resetTimeout()

    def rawDataReceived(self, data: bytes) -> None:
        """Receive content, or a little of the next requests, which wait in memory."""
        if self._drops_input:
            return
        if self._handlingRequest:
            self._buffer_pipelined(data)
            return
        content: RequestContent | None = self.requests[-1].incoming
        size = 0 if content is None else content.size
        if self.length is None and is_mostly_framing(self.content_wire_bytes, size):
            self.refuse(
                error_responses.malformed(
                    "The chunks of the request are mostly framing: send larger ones"
                )
            )
            return
        self.content_wire_bytes += len(data)
        super().rawDataReceived(data)
        if content is not None and not content.complete:
            content.flush()

    def _buffer_pipelined(self, data: bytes) -> None:
        self._dataBuffer.append(data)
        self._pipelined_bytes += len(data)
        self.count_head(self._pipelined_bytes)
        if self.factory.is_short_of_heads:
            # A client can wait for a response before it sends the next request.
            self.release_head()
            self.transport.abortConnection()
            return
        if self._pipelined_bytes > self._optimisticEagerReadSize:
            self._networkProducer.pauseProducing()

    def allContentReceived(self) -> None:
        """Pass the complete request on; data behind it waits."""
        if self._drops_input:
            return
        self._pipelined_bytes = sum(map(len, self._dataBuffer))
        super().allContentReceived()
        self.adjust_reading()
        discarding, self._discarding = self._discarding, None
        if discarding is not None:
            self.requestDone(discarding)

    # Delivery of responses.

    def pauseProducing(self) -> None:
        """Wait for the client to read what is written, within the timeout."""
        super().pauseProducing()
        self.factory.note_paused(self)
        if self._handlingRequest or self.incoming_content is not None:
            self.setTimeout(self.factory.timeOut)

    def resumeProducing(self) -> None:
        """Resume, as the client has taken all that was written."""
        if self.unread is not None:
            self.factory.note_resumed(self)
        if self._handlingRequest:
            self.setTimeout(None)
        super().resumeProducing()
        if self.reading_paused:
            self.setTimeout(None)
            self._networkProducer.pauseProducing()
        if self._undelivered is not None:
            request, self._undelivered = self._undelivered, None
            self._end_exchange(request)

    def requestDone(self, request: Request) -> None:
        """Begin the next request once the client has taken the response to this one.

        Else a client that sends requests and reads nothing would fill the memory with responses.
        Content that is still incoming is dropped; a small rest of it is read first.
        """
        content = self.incoming_content
        if content is not None:
            if self.persistent:
                content.discard()
                self._discarding = self.requests[-1]
                self.adjust_reading()
                return
            self.drop_input()
        if self._waitingForTransport and (self.persistent or self._drops_input):
            self._undelivered = request
            self.setTimeout(self.factory.timeOut)
        else:
            self._end_exchange(request)

    def _end_exchange(self, request: Request) -> None:
        self.request_begun = False
        self._pipelined_bytes = 0
        if self._head_reservation is not None:
            self.release_head()
        self.factory.note_used(self)
        if self._drops_input:
            self.requests.remove(request)
            self._close_in_stages()
            return
        if not self.persistent:
            # The client has to take what is written before the connection is closed.
            self.setTimeout(self.factory.timeOut)
        super().requestDone(request)

    # End of the connection.

    def drop_input(self) -> None:
        """Drop all further input: it is neither content that is read nor a request."""
        if self._drops_input:
            return
        self._drops_input = self._handlingRequest = True
        self.persistent = False
        dropped: Any = lambda *_: None  # noqa: E731
        self.dataReceived = self.lineReceived = dropped  # type: ignore[method-assign]
        self.setTimeout(None)
        if self.requests and self.requests[-1].incoming is not None:
            self.requests[-1].incoming.break_off()
        self.adjust_reading()

    def timeoutConnection(self) -> None:
        """Close the connection: idle, too slow to send, or too slow to read."""
        if self._handlingRequest:
            self.transport.abortConnection()
        elif self.request_begun:
            self.refuse(error_responses.too_slow(CLIENT_TIMEOUT_S))
        else:
            self.loseConnection()
            self._abort_later()

    def refuse(self, error: MirrorError) -> None:
        """Respond with *error* and close the connection; abort a response that has begun."""
        if self._refused or self._drops_input:
            return
        if self._discarding is not None:
            self.transport.abortConnection()
            return
        if self.requests and self.requests[-1].begun:
            self.requests[-1].fail(error)
            return
        self._refused = True
        factory = self.factory
        now = factory.reactor.seconds()
        self.transport.write(serialised_error(error, now, for_any_origin=factory.for_any_origin))
        factory.note_refused(error)
        self.drop_input()
        self._close_in_stages()

    def _abort_later(self) -> None:
        self._abort_call = self.callLater(CLOSE_TIMEOUT_S, self.transport.abortConnection)

    def _close_in_stages(self) -> None:
        """Half-close the connection, then drop input until the client closes (RFC 9112, 9.6).

        A reset at once could destroy the response before the client has read it.
        """
        self.setTimeout(None)
        self._networkProducer.resumeProducing()
        self._abort_later()
        half_close = getattr(self.transport, "loseWriteConnection", None)
        if half_close is None or ISSLTransport.providedBy(self.transport):
            # TLS sends close_notify and waits for that of the client.
            self.loseConnection()
        else:
            half_close()
