"""One connection to GitHub: a question goes out, an answer comes in, and then the next question.

It does what Twisted's client does with its connections, and fails as that does; it asks less of
the reactor and makes less on the way. The content is taken apart by Twisted's own decoders, which
tell to the byte where it ends. That they do not look at trailers matters to nobody: trailers are
dropped.
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

from ghmirror_tw.http.response_parser import MalformedResponseError, ResponseHead, ResponseParser
from ghmirror_tw.runtime.outbox import send_now
from ghmirror_tw.upstream.incoming_response import IncomingResponse


class ExchangeOwner(Protocol):
    """Who has put a question: one of these is called, once."""

    def answered(self, answer: IncomingResponse) -> None:
        """Take an answer; the connection may be in use for another question by now."""

    def failed(self, reason: Failure) -> None:
        """Take why there is none."""


class HTTPConnection(protocol.Protocol):
    """A connection; *freed* is told when it can take the next question, *lost* when it is gone.

    *send* sends a question that has no content.
    """

    transport: Any
    #: Since when it is idle, in seconds of the reactor's clock; kept by who keeps it.
    idle_since = 0.0
    #: Whether a question can be put, now or when the one under way has its answer.
    is_open = True
    _gone = False
    _asker: ExchangeOwner | None = None
    _persistent = False
    #: Whether any bytes of an answer came.
    _begun = False
    _heads: ResponseParser
    _answer: IncomingResponse | None = None
    #: What takes the content apart; None: there is none under way.
    _content: Any = None
    #: Whether only the end of the connection ends the content.
    _to_the_end = False
    #: A question whose content is being sent, and what tells when it is.
    _request: Request | None = None
    _sending: Deferred[None] | None = None

    def __init__(
        self,
        freed: Callable[[HTTPConnection], object],
        lost: Callable[[HTTPConnection], object],
        send: Callable[[Any, bytes], None] = send_now,
    ) -> None:
        self._freed = freed
        self._lost = lost
        self._send = send
        self._closed: list[Deferred[None]] = []

    def connectionMade(self) -> None:
        """Send short messages at once."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)

    # Asking.

    def ask(self, request: bytes, asker: ExchangeOwner, *, to_head: bool, persistent: bool) -> None:
        """Put a question that has no content; *request* is all of it.

        *persistent*: whether the connection may be kept when there is an answer.
        """
        self._begin(asker, to_head=to_head, persistent=persistent)
        self._send(self.transport, request)

    def send(self, request: Request, asker: ExchangeOwner) -> None:
        """Put a question with content; the connection is closed after it."""
        self._begin(asker, to_head=request.method == b"HEAD", persistent=False)
        self._request = request
        try:
            sending = request.writeTo(self.transport)
        except Exception:  # noqa: BLE001 - whatever a producer raises
            sending = fail()
        self._sending = sending
        sending.addCallbacks(self._sent, self._unsent)

    def _begin(self, asker: ExchangeOwner, *, to_head: bool, persistent: bool) -> None:
        self._asker = asker
        self._persistent = persistent
        self._begun = False
        self._heads = ResponseParser(to_head=to_head)

    def cancel(self) -> None:
        """Close the connection: nobody waits for the answer any more."""
        if self._sending is not None:
            self._sending.cancel()
        elif self._asker is not None:
            self.abortConnection()
            self._fail(self._unreceived(Failure(CancelledError())))

    # What an answer may do with it, as long as it is the one that comes.

    def pauseProducing(self) -> None:
        """Read no more for now."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on reading."""
        self.transport.resumeProducing()

    def loseConnection(self) -> None:
        """Close it, and ask nothing more over it."""
        self.is_open = False
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Close it at once."""
        self.is_open = False
        self.transport.abortConnection()

    def close(self) -> Deferred[None]:
        """Close it when idle; return when it is closed."""
        closed: Deferred[None] = Deferred()
        if self._gone:
            closed.callback(None)
        else:
            self._closed.append(closed)
            self.loseConnection()
        return closed

    # How the content of a question gets away.

    def _sent(self, _: object) -> None:
        self._sending = self._request = None

    def _unsent(self, failure: Failure) -> None:
        self._sending = self._request = None
        # There may be an answer already: then nobody wants the rest of the question.
        if self._asker is not None:
            self.abortConnection()
            self._fail(RequestGenerationFailed([failure]))

    # How the answer comes.

    def dataReceived(self, data: bytes) -> None:
        """Take what comes."""
        if self._content is not None:
            self._take_content(data)
        elif self._asker is None:
            # Nobody has asked for that, and who asks next must not take it for an answer.
            self.loseConnection()
        else:
            self._begun = True
            try:
                found = self._heads.find(data)
            except MalformedResponseError:
                self._give_up(Failure())
                return
            if found is not None:
                self._take(*found)

    def _take(self, head: ResponseHead, rest: bytes) -> None:
        answer = self._answer = IncomingResponse(head, self)
        self._persistent = self._persistent and head.persistent
        if head.length == 0:
            self._finish(rest)
            return
        if head.chunked:
            self._content = _ChunkedTransferDecoder(answer.take, self._finish)
        else:
            self._to_the_end = head.length is None
            self._content = _IdentityTransferDecoder(head.length, answer.take, self._finish)
        if rest:
            self._take_content(rest)
        if self._answer is answer:
            # No content is read before a consumer wants it. A response may come before all content
            # of the request has been sent (RFC 9112, section 9.3); most of those are refusals.
            answer.pause()
            self._deliver()

    def _take_content(self, data: bytes) -> None:
        content = self._content
        try:
            content.dataReceived(data)
        except Exception:  # whatever is wrong with it, or with who takes it
            if self._content is not content:
                raise
            self._give_up(Failure())

    def _deliver(self) -> None:
        answer, asker, self._asker = self._answer, self._asker, None
        assert answer is not None
        assert asker is not None
        asker.answered(answer)

    def _finish(self, rest: bytes) -> None:
        """Take note that the answer is complete; *rest* came behind it."""
        answer, self._answer = self._answer, None
        assert answer is not None
        asker, self._asker = self._asker, None
        self._content = None
        answer.let_go()
        if self._sending is not None:
            # The response is complete, and GitHub does not read the rest of the request's content.
            self._stop_sending()
            self.abortConnection()
        elif self._persistent and not rest and self.is_open:
            self._freed(self)
        else:
            self.loseConnection()
        answer.end()
        if asker is not None:
            asker.answered(answer)

    # How it ends otherwise.

    def _give_up(self, reason: Failure) -> None:
        self.loseConnection()
        self._end(reason)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell who waits."""
        self.is_open = False
        self._gone = True
        self._lost(self)
        self._end(reason)
        closed, self._closed = self._closed, []
        for each in closed:
            each.callback(None)

    def _end(self, reason: Failure) -> None:
        answer, self._answer = self._answer, None
        self._content = None
        if answer is not None:
            answer.let_go()
            failure = PotentialDataLoss() if self._to_the_end else ResponseFailed([reason], answer)
            answer.end(Failure(failure))
        if self._request is not None:
            self._fail(RequestTransmissionFailed([reason]))
            self._stop_sending()
        elif self._asker is None:
            return
        elif answer is not None:
            # It broke off in the bytes that its head came in.
            asker, self._asker = self._asker, None
            asker.answered(answer)
        else:
            self._fail(self._unreceived(reason))

    def _stop_sending(self) -> None:
        request, self._request, self._sending = self._request, None, None
        if request is not None:
            request.stopWriting()

    def _unreceived(self, reason: Failure) -> ResponseFailed:
        return (ResponseFailed if self._begun else ResponseNeverReceived)([reason])

    def _fail(self, why: Exception) -> None:
        asker, self._asker = self._asker, None
        if asker is not None:
            asker.failed(Failure(why))
