"""Asking one origin over connections that are kept: Twisted's agent and pool at less cost."""

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
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from ghmirror_tw.http.fields import Fields, serialised
from ghmirror_tw.runtime.outbox import Outbox
from ghmirror_tw.runtime.twisted_headers import lines_of
from ghmirror_tw.upstream.http_connection import ExchangeOwner, HTTPConnection
from ghmirror_tw.upstream.incoming_response import IncomingResponse

#: Methods that may be sent again, or over a connection that GitHub may just be closing.
REPEATED: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
#: How long an idle connection is kept, in seconds.
KEPT_S: Final = 50.0

#: A method is a token (RFC 9110, section 5.6.2), and a target is visible ASCII.
_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [\x21-\x7e]+ HTTP/1\.1\r\n")
#: Methods whose questions have a length even without content (RFC 9110, section 8.6).
_WITH_LENGTH: Final = frozenset({b"PUT", b"POST"})
_LAST: Final = b"Connection: close\r\n"
_LAST_EMPTY: Final = b"Connection: close\r\nContent-Length: 0\r\n"
#: Names in *block* are in lower case; a field that delimits a question is made here, or not at all.
_HOST: Final = b"\nhost:"
_LENGTH: Final = b"\ncontent-length:"
_CODING: Final = b"\ntransfer-encoding:"


@implementer(IAgent)
@define(eq=False)
class ConnectionPool:
    """Puts questions to where *endpoint* leads, and keeps up to *most_idle* idle connections.

    Which of them is used next is the one that was used last, so that those there is no use for
    grow old. *authority*: what the field `Host` says.
    """

    reactor: Any
    endpoint: IStreamClientEndpoint
    authority: bytes
    most_idle: int
    #: How many questions are under way: without an answer, or the beginning of one.
    under_way: int = field(default=0, init=False)
    _outbox: Outbox = field(factory=Outbox, init=False)
    _idle: list[HTTPConnection] = field(factory=list, init=False)
    _sweeping: IDelayedCall | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)
    _factory: IProtocolFactory = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._factory = _Connections(self._keep, self._forget, self._send)

    # Asking.

    def ask(
        self, method: bytes, target: bytes, block: bytes, asker: ExchangeOwner
    ) -> PendingExchange:
        """Put a question without content; *block*: its fields, `serialised`, without `Host`.

        Raises ValueError where that would be another question.
        """
        line = b"%b %b HTTP/1.1\r\n" % (method, target)
        if _LINE.fullmatch(line) is None:
            raise ValueError("no request line")
        repeated = method in REPEATED
        own = b"" if repeated else _LAST_EMPTY if method in _WITH_LENGTH else _LAST
        whole = b"%b%bHost: %b\r\n%b\r\n" % (line, own, self.authority, block)
        if _HOST in whole or _LENGTH in whole or _CODING in whole:
            raise ValueError("fields that are made here")
        exchange = PendingExchange(self, whole, asker, method == b"HEAD", repeated)
        exchange.begin()
        return exchange

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Put a question, *uri* being its target and byte for byte; see `IAgent`."""
        waiting = _Waiting()
        headers = Headers() if headers is None else headers.copy()
        if bodyProducer is None:
            headers.removeHeader(b"host")
            block = serialised(Fields(lines_of(headers)))
            waiting.exchange = self.ask(method, uri, block, waiting)
        else:
            headers.setRawHeaders(b"host", [self.authority])
            request = Request(method, uri, headers, bodyProducer)
            waiting.exchange = PendingExchange(
                self, request, waiting, method == b"HEAD", repeated=False
            )
            waiting.exchange.begin()
        return waiting.response

    def close(self) -> Deferred[None]:
        """Close the connections that are idle, and keep none from now on."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        idle, self._idle = self._idle, []
        return gatherResults([each.close() for each in idle]).addCallback(lambda _: None)

    # Connections.

    def take(self) -> HTTPConnection | None:
        """Return an idle connection, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return None

    def connect(self) -> Deferred[Any]:
        """Return a new connection."""
        return self.endpoint.connect(self._factory)

    def _keep(self, connection: HTTPConnection) -> None:
        if self._closed:
            connection.close()
            return
        if len(self._idle) >= self.most_idle:
            self._idle.pop(0).close()
        connection.idle_since = self.reactor.seconds()
        self._idle.append(connection)
        if self._sweeping is None:
            self._sweeping = self.reactor.callLater(KEPT_S, self._sweep)

    def _send(self, transport: Any, question: bytes) -> None:
        """Send a question, with others if there are any to be sent soon."""
        self._outbox.send(transport, question, self.under_way)

    def _forget(self, connection: HTTPConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def _sweep(self) -> None:
        """Close those that were idle for too long: the first ones, as the last is used first."""
        self._sweeping = None
        now = self.reactor.seconds()
        while self._idle and now - self._idle[0].idle_since >= KEPT_S:
            self._idle.pop(0).close()
        if self._idle:
            rest_s = self._idle[0].idle_since + KEPT_S - now
            self._sweeping = self.reactor.callLater(rest_s, self._sweep)


class _Connections(Factory):
    """Makes connections, without a line in the log for each."""

    noisy = False

    def __init__(
        self,
        freed: Callable[[HTTPConnection], object],
        lost: Callable[[HTTPConnection], object],
        send: Callable[[Any, bytes], None],
    ) -> None:
        self._freed = freed
        self._lost = lost
        self._send = send

    def buildProtocol(self, addr: object) -> HTTPConnection:  # noqa: ARG002
        """Return one."""
        return HTTPConnection(self._freed, self._lost, self._send)


@define(eq=False)
class PendingExchange:
    """One question and what becomes of it, over one connection or, *repeated*, over two.

    GitHub closes idle connections when it likes. A question that met such a one is put again over
    a new one, if no byte of an answer came and asking twice does no harm (RFC 9110, section
    9.2.2): once, since new connections aren't idle.
    """

    agent: ConnectionPool
    question: bytes | Request
    asker: ExchangeOwner
    to_head: bool
    repeated: bool
    _used: bool = False
    _connection: HTTPConnection | None = None
    _connecting: Deferred[Any] | None = None
    _cancelled: bool = False

    def begin(self) -> None:
        """Put the question."""
        self.agent.under_way += 1
        connection = self.agent.take() if self.repeated else None
        if connection is None:
            self._connect()
        else:
            self._used = True
            self._ask(connection)

    def cancel(self) -> None:
        """Give up: *asker* is told at once that it failed, if it has not been told anything."""
        self._cancelled = True
        if self._connecting is not None:
            self._connecting.cancel()
        elif self._connection is not None:
            self._connection.cancel()

    def _connect(self) -> None:
        self._connecting = self.agent.connect()
        self._connecting.addCallbacks(self._connected, self._unconnected)

    def _connected(self, connection: HTTPConnection) -> None:
        self._connecting = None
        self._ask(connection)

    def _unconnected(self, reason: Failure) -> None:
        self._connecting = None
        self.agent.under_way -= 1
        self.asker.failed(reason)

    def _ask(self, connection: HTTPConnection) -> None:
        self._connection = connection
        if isinstance(self.question, bytes):
            connection.ask(self.question, self, to_head=self.to_head, persistent=self.repeated)
        else:
            connection.send(self.question, self)

    # What the connection calls.

    def answered(self, answer: IncomingResponse) -> None:
        """Pass an answer on."""
        self._connection = None
        self.agent.under_way -= 1
        self.asker.answered(answer)

    def failed(self, reason: Failure) -> None:
        """Ask again, or pass on why there is no answer."""
        self._connection = None
        if self._used and not self._cancelled and reason.check(ResponseNeverReceived):
            self._used = False
            self._connect()
        else:
            self.agent.under_way -= 1
            self.asker.failed(reason)


@define(eq=False)
class _Waiting:
    """Waits for an answer with a Deferred, as treq does."""

    exchange: PendingExchange | None = None
    response: Deferred[IResponse] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.response = Deferred(self._cancel)

    def _cancel(self, _: object) -> None:
        if self.exchange is not None:
            self.exchange.cancel()

    def answered(self, answer: IncomingResponse) -> None:
        """Give the answer."""
        self.exchange = None
        self.response.callback(answer)

    def failed(self, reason: Failure) -> None:
        """Tell why there is none."""
        self.exchange = None
        self.response.errback(reason)
