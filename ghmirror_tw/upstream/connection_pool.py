"""A pool of persistent connections to one origin."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web._newclient import Request
from twisted.web.client import ResponseNeverReceived

from ghmirror_tw.http.request import SAFE_METHODS
from ghmirror_tw.runtime.socket_writes import Outbox
from ghmirror_tw.upstream.http_connection import HTTPConnection, ResponseReceiver
from ghmirror_tw.upstream.incoming_response import IncomingResponse

#: How long a connection may be idle, in seconds.
MAX_IDLE_S: Final = 50.0

#: A method is a token (RFC 9110, section 5.6.2), and a target is visible ASCII.
_REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [\x21-\x7e]+ HTTP/1\.1\r\n")
#: Methods whose requests have a length even without content (RFC 9110, section 8.6).
_WITH_LENGTH: Final = frozenset({b"PUT", b"POST"})
_CLOSE: Final = b"Connection: close\r\n"
_CLOSE_EMPTY: Final = b"Connection: close\r\nContent-Length: 0\r\n"
#: Names in a field block are in lower case. `Host` and the fields that delimit a request are
#: written here, or not at all.
_HOST: Final = b"\nhost:"
_LENGTH: Final = b"\ncontent-length:"
_CODING: Final = b"\ntransfer-encoding:"


@define(eq=False)
class ConnectionPool:
    """Sends requests over connections of *endpoint*, with up to *max_idle* idle ones.

    The connection that was used last is used next, so that superfluous ones reach `MAX_IDLE_S`.
    *authority*: the value of `Host`.
    """

    reactor: Any
    endpoint: IStreamClientEndpoint
    authority: bytes
    max_idle: int
    #: How many requests wait for the head of their response.
    under_way: int = field(default=0, init=False)
    _outbox: Outbox = field(factory=Outbox, init=False)
    #: The one that has been idle for longest is the first.
    _idle: list[HTTPConnection] = field(factory=list, init=False)
    _expiry: IDelayedCall | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)
    _factory: IProtocolFactory = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._factory = _HTTPConnectionFactory(self._add_idle, self._remove, self._write)

    def send(
        self, method: bytes, target: bytes, block: bytes, receiver: ResponseReceiver
    ) -> PooledRequest:
        """Send a request without content; *block*: its fields, `serialised`, without `Host`.

        Raises ValueError for bytes that would make another request of it (request smuggling).
        """
        line = b"%b %b HTTP/1.1\r\n" % (method, target)
        if _REQUEST_LINE.fullmatch(line) is None:
            raise ValueError("no request line")
        # Sent again, if need be, and over a connection that GitHub may just be closing.
        is_safe = method in SAFE_METHODS
        own = b"" if is_safe else _CLOSE_EMPTY if method in _WITH_LENGTH else _CLOSE
        whole = b"%b%bHost: %b\r\n%b\r\n" % (line, own, self.authority, block)
        if _HOST in whole or _LENGTH in whole or _CODING in whole:
            raise ValueError("fields that are made here")
        return PooledRequest(self, whole, receiver, method == b"HEAD", is_safe)

    def send_upload(self, request: Request, receiver: ResponseReceiver) -> PooledRequest:
        """Send a request with content, over a connection of its own."""
        return PooledRequest(self, request, receiver, request.method == b"HEAD", is_safe=False)

    def close(self) -> Deferred[None]:
        """Close the idle connections, and from now on each one after its exchange."""
        self._closed = True
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        idle, self._idle = self._idle, []
        return gatherResults([each.close() for each in idle]).addCallback(lambda _: None)

    # Connections.

    def acquire_idle(self) -> HTTPConnection | None:
        """Return an idle connection, or None."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return None

    def connect(self) -> Deferred[Any]:
        """Return a new connection."""
        return self.endpoint.connect(self._factory)

    def _add_idle(self, connection: HTTPConnection) -> None:
        if self._closed:
            connection.close()
            return
        if len(self._idle) >= self.max_idle:
            self._idle.pop(0).close()
        connection.idle_since = self.reactor.seconds()
        self._idle.append(connection)
        if self._expiry is None:
            self._expiry = self.reactor.callLater(MAX_IDLE_S, self._expire)

    def _write(self, transport: Any, request: bytes) -> None:
        """Send a request at once, or with others at the end of the reactor's turn."""
        self._outbox.send(transport, request, self.under_way)

    def _remove(self, connection: HTTPConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def _expire(self) -> None:
        """Close connections that have been idle for too long."""
        self._expiry = None
        now = self.reactor.seconds()
        while self._idle and now - self._idle[0].idle_since >= MAX_IDLE_S:
            self._idle.pop(0).close()
        if self._idle:
            rest_s = self._idle[0].idle_since + MAX_IDLE_S - now
            self._expiry = self.reactor.callLater(rest_s, self._expire)


class _HTTPConnectionFactory(Factory):
    """Makes connections, without a log message for each."""

    noisy = False

    def __init__(
        self,
        on_idle: Callable[[HTTPConnection], object],
        on_lost: Callable[[HTTPConnection], object],
        write: Callable[[Any, bytes], None],
    ) -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._write = write

    def buildProtocol(self, addr: object) -> HTTPConnection:  # noqa: ARG002
        """Return a new connection."""
        return HTTPConnection(self._on_idle, self._on_lost, self._write)


@define(eq=False)
class PooledRequest:
    """A request over a connection of the pool, which is sent again at most once.

    GitHub may close an idle connection at any time. A safe request that was sent over such a one is
    sent again over a new connection, if no byte of a response was received (RFC 9110, section
    9.2.2).
    """

    pool: ConnectionPool
    request: bytes | Request
    receiver: ResponseReceiver
    is_head: bool
    is_safe: bool
    _is_reused: bool = False
    _connection: HTTPConnection | None = None
    _connecting: Deferred[Any] | None = None
    _is_cancelled: bool = False

    def __attrs_post_init__(self) -> None:
        self.pool.under_way += 1
        connection = self.pool.acquire_idle() if self.is_safe else None
        if connection is None:
            self._connect()
        else:
            self._is_reused = True
            self._send(connection)

    def cancel(self) -> None:
        """Close the connection; the receiver gets a failure at once, unless it has a result."""
        self._is_cancelled = True
        if self._connecting is not None:
            self._connecting.cancel()
        elif self._connection is not None:
            self._connection.cancel()

    def _connect(self) -> None:
        self._connecting = self.pool.connect()
        self._connecting.addCallbacks(self._connected, self._connect_failed)

    def _connected(self, connection: HTTPConnection) -> None:
        self._connecting = None
        self._send(connection)

    def _connect_failed(self, reason: Failure) -> None:
        self._connecting = None
        self.pool.under_way -= 1
        self.receiver.request_failed(reason)

    def _send(self, connection: HTTPConnection) -> None:
        self._connection = connection
        if isinstance(self.request, bytes):
            connection.send(self.request, self, is_head=self.is_head, persistent=self.is_safe)
        else:
            connection.send_upload(self.request, self)

    # Called by the connection.

    def response_received(self, response: IncomingResponse) -> None:
        """Pass the response on."""
        self._connection = None
        self.pool.under_way -= 1
        self.receiver.response_received(response)

    def request_failed(self, reason: Failure) -> None:
        """Send the request again, or pass the failure on."""
        self._connection = None
        if self._is_reused and not self._is_cancelled and reason.check(ResponseNeverReceived):
            self._is_reused = False
            self._connect()
        else:
            self.pool.under_way -= 1
            self.receiver.request_failed(reason)
