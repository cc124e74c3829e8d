"""Connections of clients: what Twisted's channel does, with answers in GitHub's shape.

What can't be parsed is refused here, before there is a request (RFC 9112). And here is what keeps
one client from costing the others anything: a client has `PATIENCE_S` for each step, whether it
sends nothing at all or a byte at a time, and whether it reads nothing or a byte at a time.
"""

from __future__ import annotations

from math import ceil, inf
from typing import Any, Final

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.http_headers import Headers
from twisted.web.server import Site

from ghmirror_tw.http import error_responses
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.request import BadRequestError
from ghmirror_tw.http.targets import check_request_line
from ghmirror_tw.runtime.numbers import MAX_DIGITS, whole_number
from ghmirror_tw.runtime.outbox import LARGE_BYTES, Outbox, send_now
from ghmirror_tw.runtime.twisted_headers import lines_of
from ghmirror_tw.upstream.byte_budget import ByteBudget, ByteBudgets, Reservation
from ghmirror_tw.web.client_response import own_answer
from ghmirror_tw.web.header_block_cache import Front, Heard
from ghmirror_tw.web.mirror_request import MirrorRequest
from ghmirror_tw.web.request_content import RequestContent
from ghmirror_tw.web.response_head import head_of

#: After a refusal, what the client still sends is read and dropped for so long, in seconds, so
#: that it gets to read the refusal.
LINGER_S: Final = 5.0
#: How long a client may take for each step, in seconds: to begin a request, to send all of its
#: fields, to send `PIECE_BYTES` of its content or the rest of it, while that is wanted, and to read
#: what fills the buffers of its connection. Twisted's own limit starts anew with every byte, and
#: there is none for reading.
PATIENCE_S: Final = 60.0
#: Less than 1.1 kB/s, either way, is no client that has a use for the rest.
PIECE_BYTES: Final = 64 * 1024
#: Chunked content may take so many times its size on the wire (a chunk of one byte takes six),
#: and `_FRAMING_BYTES` besides: chunk extensions and trailers count against no other limit.
_FRAMING_TIMES: Final = 8
_FRAMING_BYTES: Final = 128 * 1024
#: A head may have so many field lines, folded ones counted. Apache and Envoy accept as many by
#: default, HAProxy 101. Twisted takes 2 microseconds for a field: a head of 16 kB with 4,000 folded
#: lines took 4 ms, and thousands of such heads at once made other clients wait for seconds.
MOST_FIELD_LINES: Final = 100
#: What a field line takes in memory besides its bytes.
FIELD_BYTES: Final = 256
#: A head that takes more bytes is counted until its request is done.
LARGE_HEAD_BYTES: Final = 16 * 1024
#: How many bytes wait in memory for a client that does not read: two pieces at most.
UNREAD_EACH_BYTES: Final = 2 * PIECE_BYTES
#: The connection of a client that has read nothing for so long, in seconds, is closed for room.
STALLED_S: Final = 5.0
#: A client that has taken less of the content that its response holds, in bytes per second, has its
#: connection closed for room, too; after `STALLED_S`, and only while its buffers are full.
LEAST_PACE: Final = 64 * 1024
#: So large a part of the slow connections is closed at a time.
_SLOW_PART: Final = 4
#: That connections had to be closed is said so often at most, in seconds.
_SAID_S: Final = 60.0
#: How a TLS handshake begins (RFC 8446, section 5.1); no method of HTTP does.
_TLS: Final = b"\x16\x03"

#: How many connections are accepted beyond the limit, for `/healthz` and `/readyz` alone: probes of
#: a busy process must not fail.
RESERVED_CONNECTIONS: Final = 16
_log: Final = Logger(namespace="ghmirror.web")


class Channel(HTTPChannel):
    """A client's connection."""

    site: Any
    transport: Any
    factory: Any
    _refused = False
    _is_secure = False
    _peer: Any = None
    _host: Any = None
    _lingering: Any = None
    #: The lines of the head so far, the request line among them.
    _lines = 0
    #: When the client's time is over, in seconds of the reactor's clock; None: it has all it wants.
    _due: float | None = None
    #: What looks then, or earlier, whether it is.
    _timer: Any = None
    #: Whether a request has begun to come.
    _begun = False
    #: Bytes of the content that have come since the client was last given time.
    _came = 0
    #: Bytes of this content on the wire, chunks and all.
    _on_the_wire = 0
    #: A request with complete fields; it begins once the bytes received with them are processed.
    _beginning: MirrorRequest | None = None
    #: Whether reading is paused because no consumer takes the content.
    _holds = False
    #: Whether all further input is dropped.
    _drops = False
    #: A request with a complete response; the rest of its content is read and dropped.
    _discarding: MirrorRequest | None = None
    #: Bytes that came behind the request that is being answered.
    _behind = 0
    #: A request whose answer is written, but waits in the buffer for the client to take it.
    _unread: Request | None = None
    #: The field lines of the last request that had nothing but them.
    _heard: Heard | None = None
    #: Whether it was accepted beyond the limit of connections.
    _reserved = False
    #: The bytes of its head, while that is incomplete or if it is large.
    _head: Reservation | None = None
    #: The bytes that the client has not read, and since when, in seconds of the reactor's clock.
    unread: Reservation | None = None
    unread_since: float = 0.0
    #: The front of the request that is being taken, if that is all of it.
    _front: Front | None = None

    def connectionMade(self) -> None:
        """Count the connection, and make room for it."""
        super().connectionMade()
        self._is_secure = super().isSecure()
        self._peer, self._host = super().getPeer(), super().getHost()
        self.factory.admit(self)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        """Forget the connection, and who was asking."""
        self.factory.channels.pop(self, None)
        if self.unread is not None:
            self.factory.resumed(self)
        self.forget_head()
        self._heard = self._front = None
        if self._lingering is not None and self._lingering.active():
            self._lingering.cancel()
        super().connectionLost(reason)
        # These form cycles, which would keep their memory until the garbage collector runs.
        self.requests, self._requestProducer, self._transferDecoder = [], None, None
        self._unread = self._beginning = self._discarding = None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    # What stays the same for all requests, and takes time to find out.

    def isSecure(self) -> bool:
        """Tell whether it is by TLS."""
        return self._is_secure

    def getPeer(self) -> Any:
        """Return the client's address."""
        return self._peer

    def getHost(self) -> Any:
        """Return the address that the client connected to."""
        return self._host

    def write(self, data: bytes) -> None:
        """Send a piece of an answer; a large one at once, so that it is not copied before that."""
        if len(data) >= LARGE_BYTES:
            send_now(self.transport, data)
        else:
            super().write(data)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Send the head of a streamed response in the same form as all others."""
        for_any_origin = self.factory.for_any_origin
        head = head_of(version, int(code), lines_of(headers), for_any_origin=for_any_origin)
        if head is None:
            super().writeHeaders(version, code, reason, headers)
        else:
            self.transport.write(head)

    def send(self, answer: bytes) -> None:
        """Send an answer that is here in full, with others if there are any to be sent soon."""
        if self.persistent:
            self.factory.outbox.send(self.transport, answer, self.site.resource.in_flight)
        else:
            self.write(answer)  # goes out with the end of the connection

    @property
    def is_reserved(self) -> bool:
        """Whether it is for health checks alone, while there are too many connections."""
        self._reserved = self._reserved and self.factory.is_full
        return self._reserved

    def reserve(self) -> None:
        """Reserve it for health checks while there are too many connections."""
        self._reserved = True

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not self.requests

    @property
    def holds_content(self) -> bool:
        """Whether the response under way holds content that budgets count."""
        return bool(self.requests) and self.requests[0].content_held_since is not None

    def content_pace(self, now: float) -> float:
        """Return how fast the client takes the content that is held, in bytes per second.

        For the first seconds it is infinite.
        """
        request = self.requests[0]
        held_s = now - request.content_held_since
        return request.sentLength / held_s if held_s >= STALLED_S else inf

    @property
    def answering(self) -> bool:
        """Whether a request is being answered, or its response is not yet read by the client."""
        coming = self._coming
        return self._lingering is None and (
            bool(self._handlingRequest)
            or (coming is not None and coming.wanted and self._discarding is None)
            or self.factory.outbox.holds(self.transport)
        )

    @property
    def _coming(self) -> RequestContent | None:
        """The content of the last request, while it is incomplete; else None."""
        if self._handlingRequest or not self.requests:
            return None
        incoming: RequestContent | None = self.requests[-1].incoming
        return incoming

    # How long a client may take. Twisted's own timer is cancelled and made anew for each request;
    # this one stays, and where it finds that there is time left, it waits for the rest.

    def setTimeout(self, period: float | None) -> float | None:
        """Give the client *period* seconds from now, or all the time it wants."""
        before, self.timeOut = self.timeOut, period  # type: ignore[assignment]
        if period is None:
            self._due = None
        else:
            self._due = self.factory.reactor.seconds() + period
            self._look_after(period, self._due)
        return before

    def resetTimeout(self) -> None:
        """Give it the same time once more, unless there is no limit, or it is over."""
        if self._due is not None:
            self.setTimeout(self.timeOut)

    def _look_after(self, seconds: float, due: float) -> None:
        if self._timer is not None:
            if self._timer.getTime() <= due:
                return
            self._timer.cancel()
        self._timer = self.callLater(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._due is None:
            return
        left = self._due - self.factory.reactor.seconds()
        if left > 0:
            self._look_after(left, self._due)
        else:
            self._due = None
            self.timeoutConnection()

    def dataReceived(self, data: bytes) -> None:
        """Take what came; what trickles in is given no more time than what does not come."""
        self._front = None
        if not self._handlingRequest:
            if self._is_between:
                heard = self._heard
                again = None if heard is None else heard.again(data, self.totalHeadersSize)
                if heard is not None and again is not None:
                    self._take_again(again[1], again[2], heard)
                    return
                if data[:2] == _TLS and not self._is_secure:
                    self._refuse_tls()
                    return
                self._front = Front.of(data, self.totalHeadersSize)
            self._give_time(len(data))
        LineReceiver.dataReceived(self, data)
        if self._is_in_head:
            self.factory.heads.setdefault(self)
            self._count_head(self._head_size + len(self._buffer))
        if self._beginning is not None and not self._busyReceiving:
            self._begin()

    # Memory of heads. No timeout bounds it.

    @property
    def _is_in_head(self) -> bool:
        """Whether the head of a request is incomplete."""
        return bool(self.line_mode and self._begun) and not (self._handlingRequest or self._drops)

    @property
    def _head_size(self) -> int:
        """About how much memory the parsed head takes, in bytes."""
        return int(self._receivedHeaderSize) + FIELD_BYTES * int(self._receivedHeaderCount)

    def _count_head(self, size: int) -> None:
        """Count so many bytes of a head, or of the data behind it."""
        if self._head is None:
            self._head = self.factory.budgets.heads.charge(0)
        self._head.resize(size)
        self.factory.bound_heads()

    def forget_head(self) -> None:
        """Release the bytes of a head."""
        head, self._head = self._head, None
        if head is not None:
            head.release()
            self.factory.heads.pop(self, None)

    def _refuse_tls(self) -> None:
        """Refuse a TLS handshake with plain HTTP, which TLS clients recognise and report."""
        self.factory.warn_of_tls(self._peer)
        self.refuse(error_responses.malformed("This port is plain HTTP, not TLS: use an http: URL"))

    @property
    def _is_between(self) -> bool:
        """Whether a request that comes now is the next one, from its first byte on."""
        return bool(self.persistent) and not (self._begun or self.requests or self._buffer)

    def _take_again(self, method: bytes, target: bytes, heard: Heard) -> None:
        """Have a request answered whose field lines were parsed before, as others are."""
        request: Any = self.requestFactory(self)
        self.requests.append(request)
        request.requestHeaders, request.fields = heard.headers, heard.fields
        self._begun = self._handlingRequest = True
        self._behind = 0
        self._savedTimeOut = self.setTimeout(None)
        self.setRawMode()
        request.requestReceived(method, target, b"HTTP/1.1")

    def _give_time(self, size: int) -> None:
        if not self._begun:
            self._begun = True
            self.resetTimeout()
        elif not self.line_mode:
            self._came += size
            if self._came >= PIECE_BYTES:
                self._came = 0
                self.resetTimeout()

    def allHeadersReceived(self) -> None:
        """Restart the timeout for the content, and have the request answered before it is complete.

        Content that was received together with the fields is processed first.
        """
        self._came = self._on_the_wire = 0
        self.resetTimeout()
        size = self._head_size
        self.forget_head()
        if size > LARGE_HEAD_BYTES:
            self._count_head(size)
            heads = self.factory.budgets.heads
            if heads.held > heads.limit:
                self.refuse(heads.refusal())
                return
        super().allHeadersReceived()
        if self.length != 0 and not self._refused:
            self._beginning = self.requests[-1]

    def _begin(self) -> None:
        request, self._beginning = self._beginning, None
        if request is not None and not (request.begun or self._refused):
            request.begin(self._command, self._path, self._version)
            self.adjust_reading()

    # Content is read only while a consumer takes it.

    def _send100Continue(self) -> None:
        """Defer `100 Continue` until the content is wanted (RFC 9110, section 10.1.1)."""
        self.requests[-1].expects = True

    def go_ahead(self) -> None:
        """Send `100 Continue`, if the client waits for it and has not begun to send content."""
        request, coming = self.requests[-1], self._coming
        if request.expects and coming is not None and not (coming.size or request.startedWriting):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def adjust_reading(self) -> None:
        """Read content while it is wanted, else pause reading, without a timeout for the client."""
        coming = self._coming
        holds = coming is not None and coming.is_held and not self._drops
        if holds == self._holds:
            return
        self._holds = holds
        if holds:
            self._due = None
            self._networkProducer.pauseProducing()
            return
        if coming is not None and not coming.complete:
            self._came = 0
            self.setTimeout(self.factory.timeOut)
        if not self._waitingForTransport:
            self._networkProducer.resumeProducing()

    def drop_input(self) -> None:
        """Drop all further input: it is neither content that is wanted nor a request."""
        if self._drops:
            return
        self._drops = self._handlingRequest = True
        self.persistent = False
        dropped: Any = lambda *_: None  # noqa: E731
        self.dataReceived = self.lineReceived = dropped  # type: ignore[method-assign]
        self.setTimeout(None)
        if self.requests and self.requests[-1].incoming is not None:
            self.requests[-1].incoming.break_off()
        self.adjust_reading()

    def pauseProducing(self) -> None:
        """Wait for the client to take what is written, but not for ever."""
        super().pauseProducing()
        self.factory.paused(self)
        if self._handlingRequest or self._coming is not None:
            self.setTimeout(self.factory.timeOut)

    def resumeProducing(self) -> None:
        """Go on: all that was written has been taken."""
        if self.unread is not None:
            self.factory.resumed(self)
        if self._handlingRequest:
            self.setTimeout(None)
        super().resumeProducing()
        if self._holds:
            self._due = None
            self._networkProducer.pauseProducing()
        if self._unread is not None:
            request, self._unread = self._unread, None
            self._go_on(request)

    def requestDone(self, request: Request) -> None:
        """Take the next request, once the client has taken the answer to this one.

        Else a client that sends requests and reads nothing would have all answers wait in memory.
        Content that is still incoming is dropped; a small rest of it is read first.
        """
        coming = self._coming
        if coming is not None:
            if self.persistent:
                coming.discard()
                self._discarding = self.requests[-1]
                self.adjust_reading()
                return
            self.drop_input()
        if self._waitingForTransport and (self.persistent or self._drops):
            self._unread = request
            self.setTimeout(self.factory.timeOut)
        else:
            self._go_on(request)

    def _go_on(self, request: Request) -> None:
        self._begun = False
        self._behind = 0
        if self._head is not None:
            self.forget_head()
        self.factory.used(self)
        if self._drops:
            self.requests.remove(request)
            self._end()
            return
        if not self.persistent:
            # What is written goes out before the connection is closed, if it is taken in time.
            self.setTimeout(self.factory.timeOut)
        super().requestDone(request)

    def timeoutConnection(self) -> None:
        """Close the connection: idle, too slow to send, or too slow to read."""
        if self._handlingRequest:
            self.transport.abortConnection()
        elif self._begun:
            self.refuse(error_responses.too_slow(PATIENCE_S))
        else:
            self.loseConnection()
            self._linger()

    def _linger(self) -> None:
        self._lingering = self.callLater(LINGER_S, self.transport.abortConnection)

    def refuse(self, error: MirrorError) -> None:
        """Answer what can't be taken as a request, and close the connection."""
        if self._refused or self._drops:
            return
        if self._discarding is not None:
            self.transport.abortConnection()
            return
        if self.requests and self.requests[-1].begun:
            self.requests[-1].fail(error)
            return
        self._refused = True
        own = own_answer(
            error.status,
            error.body(),
            error.reason,
            error.retry_after,
            self.factory.reactor.seconds(),
        )
        framing = (b"content-length", b"%d" % len(own.content)), (b"connection", b"close")
        head = head_of(
            b"HTTP/1.1",
            own.status,
            (*own.fields.lines, *framing),
            for_any_origin=self.factory.for_any_origin,
        )
        assert head is not None
        self.transport.write(head + own.content)
        self.factory.refused(error)
        self.drop_input()
        self._end()

    def _end(self) -> None:
        """Close the connection in two steps (RFC 9112, section 9.6).

        Further input is read and dropped first: a reset could destroy the response for the client.
        """
        self.setTimeout(None)
        self._networkProducer.resumeProducing()
        self._linger()
        half_close = getattr(self.transport, "loseWriteConnection", None)
        if half_close is None or ISSLTransport.providedBy(self.transport):
            # TLS says itself that nothing more comes, and waits for the client to say so.
            self.loseConnection()
        else:
            half_close()

    # What Twisted calls where it would answer 400 without content, or nothing.

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(
            error_responses.malformed(
                "The request is malformed: its request line, a field line, its length or its chunks"
                " are not as RFC 9112 has them"
            )
        )

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: ARG002
        """Refuse a line that is too long: the request line, or one of the fields."""
        first = not hasattr(self, "_command")
        self.refuse(
            error_responses.target_too_long(self.MAX_LENGTH) if first else self._too_large()
        )

    def _too_large(self) -> MirrorError:
        return error_responses.fields_too_large(
            self.MAX_LENGTH, self.totalHeadersSize, MOST_FIELD_LINES
        )

    def lineReceived(self, line: bytes) -> Any:
        """Take a line, unless the fields take too much."""
        self._begun = True  # also with an empty line, of which only one may come before a request
        if not hasattr(self, "_command"):
            self._lines = 0
        elif line:
            self._lines += 1
        if (
            self._receivedHeaderSize + len(line) > self.totalHeadersSize
            or self._lines > MOST_FIELD_LINES
        ):
            return self.refuse(self._too_large())
        try:
            if not hasattr(self, "_command"):
                check_request_line(line)
        except BadRequestError as error:
            return self.refuse(error_responses.malformed(error.message))
        return super().lineReceived(line)

    def allContentReceived(self) -> None:
        """Have the request answered; what came behind it waits."""
        if self._drops:
            return
        self._behind = sum(map(len, self._dataBuffer))
        front, self._front = self._front, None
        if front is not None:
            request: Any = self.requests[-1]
            self._heard = Heard.of(front, request.requestHeaders, request.fields)
        super().allContentReceived()
        self.adjust_reading()
        discarding, self._discarding = self._discarding, None
        if discarding is not None:
            self.requestDone(discarding)

    def rawDataReceived(self, data: bytes) -> None:
        """Take content, or keep a little of what comes behind it, and read no further then."""
        if self._drops:
            return
        if self._handlingRequest:
            self._dataBuffer.append(data)
            self._behind += len(data)
            self._count_head(self._behind)
            if self.factory.is_short_of_heads:
                # No client needs to send a request before it has the response to the one before.
                self.forget_head()
                self.transport.abortConnection()
                return
            if self._behind > self._optimisticEagerReadSize:
                self._networkProducer.pauseProducing()
            return
        incoming: RequestContent | None = self.requests[-1].incoming
        most = _FRAMING_TIMES * (0 if incoming is None else incoming.size) + _FRAMING_BYTES
        if self.length is None and self._on_the_wire > most:
            self.refuse(
                error_responses.malformed(
                    "The chunks of the request are mostly framing: send larger ones"
                )
            )
            return
        self._on_the_wire += len(data)
        super().rawDataReceived(data)
        if incoming is not None and not incoming.complete:
            incoming.flush()

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        if header == b"Transfer-Encoding" and data.lower() != b"chunked":
            self.refuse(
                error_responses.not_implemented("Only the transfer coding chunked is understood")
            )
            self.length = None
            return False
        if header == b"Content-Length" and data.isdigit() and whole_number(data) is None:
            data = b"9" * MAX_DIGITS  # as good as any length that is too large
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
    """All connections of clients.

    *for_any_origin*: pages of any origin may read the responses in a browser, as those of GitHub.
    """

    protocol = Channel  # type: ignore[assignment]
    displayTracebacks = False

    def __init__(
        self,
        resource: Any,
        request_factory: Any,
        reactor: Any,
        most_connections: int | None = None,
        *,
        for_any_origin: bool = True,
    ) -> None:
        super().__init__(
            resource, requestFactory=request_factory, reactor=reactor, timeout=PATIENCE_S
        )
        self.most_connections = most_connections
        self.for_any_origin = for_any_origin
        self.outbox = Outbox()
        #: How many bytes connections may hold; the admin listener has budgets of its own.
        self.budgets: ByteBudgets = getattr(resource, "budgets", None) or ByteBudgets.of(reactor, 0)
        for budget in (self.budgets.small, self.budgets.large, self.budgets.forms):
            budget.reclaim = self.make_room
        #: Connections with an incomplete head, and those whose client does not read; the longest
        #: so come first.
        self.heads: dict[Channel, None] = {}
        self._unread: dict[Channel, None] = {}
        #: Those not used for longest come first.
        self.channels: dict[Channel, None] = {}
        self._said_at: float | None = None
        self._shortage_said_at: float | None = None
        self._tls_warned_at: float | None = None

    def admit(self, channel: Channel) -> None:
        """Take one more connection; where there are too many, close the one idle for longest.

        A connection with a request that is being answered is never closed for another. If none is
        idle, a few more connections are accepted for health checks.
        """
        self.channels[channel] = None
        if not self.is_full:
            return
        idle = (each for each in self.channels if each is not channel and not each.answering)
        spare = next((each for each in idle if not each.is_reserved), None)
        if spare is None and self.most_connections is not None:
            channel.reserve()
            if len(self.channels) > self.most_connections + RESERVED_CONNECTIONS:
                spare = next((each for each in self.channels if not each.answering), channel)
        if spare is not None:
            del self.channels[spare]
            spare.transport.abortConnection()
        now = self.reactor.seconds()
        if self._said_at is None or now - self._said_at >= _SAID_S:
            self._said_at = now
            _log.warn(
                "There are more than {count} connections of clients; idle ones are closed",
                count=self.most_connections,
            )

    # Memory that connections hold.

    @property
    def is_short_of_heads(self) -> bool:
        """Whether heads take more memory than they may."""
        heads = self.budgets.heads
        return heads.held > heads.limit

    def bound_heads(self) -> None:
        """Close the connections whose heads have been incomplete for longest, until heads fit."""
        while self.heads and self.is_short_of_heads:
            channel = next(iter(self.heads))
            channel.forget_head()
            self._close(channel, self.budgets.heads, "with incomplete heads")

    def paused(self, channel: Channel) -> None:
        """Count the bytes for a client that does not read; beyond the limit, close connections."""
        unread = self.budgets.unread
        if channel.unread is None:
            channel.unread = unread.charge(UNREAD_EACH_BYTES)
        self._unread.pop(channel, None)
        self._unread[channel] = None
        channel.unread_since = now = self.reactor.seconds()
        while unread.held > unread.limit:
            first = next(iter(self._unread))
            # At twice the limit, the client that has read nothing for longest need not be stalled.
            if now - first.unread_since < STALLED_S and unread.held <= 2 * unread.limit:
                return
            self.resumed(first)
            self._close(first, unread, "that do not read")

    def resumed(self, channel: Channel) -> None:
        """Note that a client has read, or is gone."""
        unread, channel.unread = channel.unread, None
        if unread is not None:
            unread.release()
            del self._unread[channel]

    def make_room(self) -> None:
        """Close connections that hold content while requests wait for room.

        Those whose clients have read nothing for long, and the slowest part of those that read too
        slowly. Else a few clients that read a little now and then could hold a whole budget.
        """
        now = self.reactor.seconds()
        holding = [channel for channel in self._unread if channel.holds_content]
        stalled = [each for each in holding if now - each.unread_since >= STALLED_S]
        paces = {each: each.content_pace(now) for each in holding if each not in stalled}
        slow = sorted((each for each in paces if paces[each] < LEAST_PACE), key=paces.__getitem__)
        for channel in (*stalled, *slow[: ceil(len(slow) / _SLOW_PART)]):
            self.resumed(channel)
            self._close(channel, self.budgets.unread, "that do not read")

    def _close(self, channel: Channel, budget: ByteBudget, which: str) -> None:
        budget.refusals += 1
        channel.transport.abortConnection()
        now = self.reactor.seconds()
        if self._shortage_said_at is None or now - self._shortage_said_at >= _SAID_S:
            self._shortage_said_at = now
            _log.warn(
                "Connections {which} are closed to make room: use={use} held={held} limit={limit}",
                which=which,
                use=budget.use,
                held=budget.held,
                limit=budget.limit,
            )

    def warn_of_tls(self, peer: Any) -> None:
        """Log a TLS handshake on a plain port, once a minute at most."""
        now = self.reactor.seconds()
        if self._tls_warned_at is None or now - self._tls_warned_at >= _SAID_S:
            self._tls_warned_at = now
            _log.warn(
                "TLS handshake on a plain port: the client needs an http: URL, or [server] listen"
                " an ssl: endpoint; client={client}",
                client=getattr(peer, "host", "-"),
            )

    @property
    def is_full(self) -> bool:
        """Whether there are more connections than the limit."""
        return self.most_connections is not None and len(self.channels) > self.most_connections

    def used(self, channel: Channel) -> None:
        """Take note that a connection has just been of use."""
        if channel in self.channels:
            del self.channels[channel]
            self.channels[channel] = None

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
