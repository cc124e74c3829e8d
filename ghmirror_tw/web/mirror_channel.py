"""A client's connection, at its outermost layer: whole requests, and those whose head is cached."""

from __future__ import annotations

from math import inf
from typing import Any, Final

from twisted.internet.error import ConnectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from ghmirror_tw.http import error_responses
from ghmirror_tw.runtime.socket_writes import LARGE_BYTES, send_now
from ghmirror_tw.runtime.twisted_headers import lines_of
from ghmirror_tw.web.exchange_channel import ExchangeChannel
from ghmirror_tw.web.mirror_request import MirrorRequest
from ghmirror_tw.web.request_head_cache import CachedHeaderBlock, LoneRequest
from ghmirror_tw.web.response_head import head_of

#: A client is stalled that has read nothing for so long, in seconds.
STALLED_S: Final = 5.0
#: The first bytes of a TLS handshake (RFC 8446, section 5.1); no method of HTTP begins so.
_TLS: Final = b"\x16\x03"


class MirrorChannel(ExchangeChannel):
    """A client's connection: what its site knows of it, and the cache of its header block."""

    site: Any
    _is_secure = False
    _peer: Any = None
    _host: Any = None
    #: A request with complete fields; it begins once the bytes received with them are processed.
    _pending: MirrorRequest | None = None
    #: Whether a head was parsed: the client speaks HTTP.
    _has_had_head = False
    #: Whether it was accepted beyond the limit of connections.
    _reserved = False
    #: The header block of the last request, if that can be used again.
    cached_block: CachedHeaderBlock | None = None
    #: The request that is being parsed, if it arrived alone.
    _lone_request: LoneRequest | None = None

    def connectionMade(self) -> None:
        """Register the connection with its site."""
        super().connectionMade()
        # Of the next request, also if the timeout is stopped at the end of this one.
        self._savedTimeOut = self.factory.timeOut
        self._is_secure = super().isSecure()
        self._peer, self._host = super().getPeer(), super().getHost()
        self.factory.admit(self)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        """Forget the connection and its request."""
        self.factory.channels.pop(self, None)
        if self.unread is not None:
            self.factory.note_resumed(self)
        self.release_head()
        self.cached_block = self._lone_request = None
        if self._abort_call is not None and self._abort_call.active():
            self._abort_call.cancel()
        super().connectionLost(reason)
        # These form cycles, which would keep their memory until the garbage collector runs.
        self.requests, self._requestProducer, self._transferDecoder = [], None, None
        self._undelivered = self._pending = self._discarding = None
        self.setTimeout(None)

    # Properties that never change, cached since Twisted looks them up anew for each request.

    def isSecure(self) -> bool:
        """Return whether the connection uses TLS."""
        return self._is_secure

    def getPeer(self) -> Any:
        """Return the client's address."""
        return self._peer

    def getHost(self) -> Any:
        """Return the address that the client connected to."""
        return self._host

    # Properties that its site needs.

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
    def answering(self) -> bool:
        """Whether a request is under way, or its response is not yet read by the client."""
        content = self.incoming_content
        return self._abort_call is None and (
            bool(self._handlingRequest)
            or (content is not None and content.is_streamed and self._discarding is None)
            or self.factory.outbox.holds(self.transport)
        )

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

    # Output.

    def write(self, data: bytes) -> None:
        """Send a piece of a response; a large one at once, so that it is not copied first."""
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

    def send(self, response: bytes) -> None:
        """Send a complete response, together with others if several are under way."""
        if self.persistent:
            self.factory.outbox.send(self.transport, response, self.site.resource.in_flight)
        else:
            self.write(response)  # sent when the connection is closed

    # Input.

    def dataReceived(self, data: bytes) -> None:
        """Parse input, or look up its header block in the cache."""
        self._lone_request = None
        if not self._handlingRequest:
            if self._is_between_requests and self._begin_lone_request(data):
                return
            self.restart_timeout(len(data))
        # Twisted's channel would restart the timeout with every byte.
        LineReceiver.dataReceived(self, data)
        if self.is_in_head:
            self.count_incomplete_head()
        if self._pending is not None and not self._busyReceiving:
            self._begin_pending()

    @property
    def _is_between_requests(self) -> bool:
        """Whether the next byte is the first one of a request."""
        return bool(self.persistent) and not (self.request_begun or self.requests or self._buffer)

    def _begin_lone_request(self, data: bytes) -> bool:
        """Begin a request by the cached block, or refuse TLS; False: a parser is needed."""
        block = self.cached_block
        match = None if block is None else block.match(data, self.totalHeadersSize)
        if block is not None and match is not None:
            self._begin_cached(match[1], match[2], block)
            return True
        if data[:2] == _TLS and not (self._is_secure or self._has_had_head):
            # TLS clients recognise a response in plain HTTP, and report it.
            self.factory.warn_of_tls(self._peer)
            message = "This port is plain HTTP, not TLS: use an http: URL"
            self.refuse(error_responses.malformed(message))
            return True
        self._lone_request = LoneRequest.parse(data, self.totalHeadersSize)
        return False

    def _begin_cached(self, method: bytes, target: bytes, block: CachedHeaderBlock) -> None:
        """Begin a request whose field lines were parsed before."""
        request: Any = self.requestFactory(self)
        self.requests.append(request)
        request.requestHeaders, request.fields = block.headers, block.fields
        self.request_begun = self._handlingRequest = True
        self._pipelined_bytes = 0
        self.setTimeout(None)
        self.setRawMode()
        request.requestReceived(method, target, b"HTTP/1.1")

    def allHeadersReceived(self) -> None:
        """Restart the timeout for the content, and note that the request can begin.

        Content that was received together with the fields is processed first.
        """
        self._has_had_head = True
        self._bytes_since_reset = self.content_wire_bytes = 0
        self.resetTimeout()
        if not self.finish_head():
            self.refuse(self.factory.budgets.heads.refusal())
            return
        super().allHeadersReceived()
        if self.length != 0 and not self._refused:
            self._pending = self.requests[-1]

    def _begin_pending(self) -> None:
        request, self._pending = self._pending, None
        if request is not None and not (request.begun or self._refused):
            request.begin(self._command, self._path, self._version)
            self.adjust_reading()

    def allContentReceived(self) -> None:
        """Cache the header block of a request that arrived alone, and pass the request on."""
        lone, self._lone_request = self._lone_request, None
        if lone is not None and not self._drops_input:
            request: Any = self.requests[-1]
            self.cached_block = CachedHeaderBlock.of(lone, request.requestHeaders, request.fields)
        super().allContentReceived()
