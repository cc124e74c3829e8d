"""The content of an answer on its way from GitHub: collected up to a limit, or passed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse
from zope.interface import implementer

from ghmirror_tw.http.content_codings import GzipDecompressor, UndecodableError
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.runtime.quantities import duration
from ghmirror_tw.upstream.byte_budget import Room
from ghmirror_tw.upstream.upstream_interface import UpstreamError

#: A client that takes nothing for so many times as long as GitHub may pause holds a connection
#: to GitHub no longer.
_STALLED: Final = 5
#: How much is unpacked at a time to count the size of content, in bytes.
_STEP_BYTES: Final = 64 * 1024


@implementer(IPushProducer)
@define(eq=False, slots=False)
class CollectedContent(Protocol):
    """The content of one answer; it is read only while somebody wants it.

    *length* in bytes, where GitHub said it beforehand. Either `collect` it, or `pass_on`, or
    `abort`; after a `collect` that met its limit the other two still hold. `idle_timeout_s` is
    how long it may pause between two pieces while it is wanted.
    """

    reactor: IReactorTime
    response: IResponse
    idle_timeout_s: float
    length: int | None
    #: Called once, when the connection is free again.
    ended: Callable[[], object] = bool
    #: Whether its end was certain: neither cut off nor ended by closing the connection alone.
    certain: bool = True
    _chunks: list[bytes] = field(factory=list)
    #: The number of bytes that were collected; after unpacking, where `_unpacking` is set.
    _size: int = 0
    _limit: int = 0
    #: The number of bytes that were collected, before unpacking, and what they need.
    _received: int = 0
    _room: Room | None = None
    #: What waits for more room.
    _growing: Deferred[None] | None = None
    _unpacking: GzipDecompressor | None = None
    _done: Failure | None = None
    _asked_for: bool = False
    _stopped: bool = False
    _waiting: Deferred[bool] | None = None
    _sink: Callable[[bytes], None] | None = None
    _idle: IDelayedCall | None = None
    #: Since when nobody takes what comes, in seconds of the reactor's clock.
    paused_at: float | None = None

    def collect(
        self, limit_bytes: int, coding: bytes = b"", room: Room | None = None
    ) -> Deferred[bytes | None]:
        """Return the content, or None where it is longer than *limit_bytes*.

        With *coding* gzip, its unpacked bytes are counted. It is received no faster than there is
        *room* for it; None where there is none in time. Cancelling it aborts the response. Fails
        with `UpstreamError` where the content breaks off.
        """
        if self._asked_for or (self.length is not None and self.length > limit_bytes):
            waiting: Deferred[bytes | None] = Deferred()
            waiting.callback(None)
            return waiting
        self._limit, self._room = limit_bytes, room
        self._unpacking = GzipDecompressor() if coding in {b"gzip", b"x-gzip"} else None
        self._waiting = Deferred(lambda _: self.abort())
        collected = self._waiting.addCallback(
            lambda complete: b"".join(self._chunks) if complete else None
        )
        self._start()
        return collected

    def pass_on(self, sink: Callable[[bytes], None]) -> Deferred[bool]:
        """Give all pieces to *sink*; return True at the end.

        Pausing and resuming this producer pauses and resumes GitHub. Cancelling aborts the
        answer. Fails with `UpstreamError` where the content breaks off.
        """
        finished: Deferred[bool] = Deferred(lambda _: self.abort())
        self._waiting = finished
        chunks, self._chunks = self._chunks, []
        self._sink, self._unpacking = sink, None
        self.paused_at = None
        for chunk in chunks:
            sink(chunk)
        if not self._is_paused:
            self._release_room()
        if self._done is not None:
            self._finish()
        elif not self._asked_for:
            self._start()
        elif not self._is_paused:  # else the consumer has just paused it
            self.resumeProducing()
        return finished

    @property
    def _is_paused(self) -> bool:
        return self.paused_at is not None

    def _release_room(self) -> None:
        """Count the collected chunks no longer, as the sink has resumed, or is gone."""
        room, self._room = self._room, None
        if room is not None:
            room.release()

    def abort(self) -> None:
        """Close the connection at once; nobody wants the rest."""
        self._stopped = True
        growing, self._growing = self._growing, None
        if growing is not None:
            growing.addErrback(lambda failure: failure.trap(CancelledError) and None)
            growing.cancel()
        self._let_go()
        self._release_room()
        self._stop_idle()
        if self._done is not None:
            return
        if not self._asked_for:
            self._start()
        # Twisted's own client has the transport behind one that can't abort.
        transport: Any = getattr(self.transport, "_producer", self.transport)
        if transport is not None and hasattr(transport, "abortConnection"):
            transport.abortConnection()
        elif self.transport is not None:
            self.transport.loseConnection()

    def _start(self) -> None:
        self._asked_for = True
        self._restart_idle()
        self.response.deliverBody(self)

    # What Twisted calls.

    def dataReceived(self, data: bytes) -> None:
        """Take a piece."""
        if self._stopped:
            return
        self._restart_idle()
        if self._sink is not None:
            self._sink(data)
            return
        self._chunks.append(data)
        self._received += len(data)
        self._count(data)
        if self._size > self._limit:
            self.pauseProducing()
            self._answer(complete=False)
        elif self._room is not None and self._received > self._room.size and not self._growing:
            self._make_room(self._room)

    def _make_room(self, room: Room) -> None:
        """Read no further until there is room for more."""
        self._growing = Deferred.fromCoroutine(room.grow())
        self._growing.addCallbacks(self._made_room, self._found_no_room)
        if self._growing is not None:
            self.pauseProducing()

    def _made_room(self, _: object) -> None:
        """Read on, unless it has ended meanwhile."""
        self._growing = None
        if self._done is not None:
            self._finish()
        elif self._is_paused:
            self.resumeProducing()

    def _found_no_room(self, failure: Failure) -> None:
        """Have it passed on, as if it were longer than the limit."""
        failure.trap(MirrorError)
        self._growing = None
        self._answer(complete=False)

    def _count(self, data: bytes) -> None:
        """Count collected bytes; unpack only until the limit is exceeded."""
        if self._unpacking is None:
            self._size += len(data)
            return
        try:
            self._unpacking.feed(data)
            while self._size <= self._limit and (piece := self._unpacking.take(_STEP_BYTES)):
                self._size += len(piece)
        except UndecodableError:
            self._unpacking = None  # the consumer fails on it as well, and reports it

    def connectionLost(self, reason: Failure = Failure(ConnectionLost())) -> None:  # noqa: B008
        """Take note of how it ended."""
        self._stop_idle()
        self._done = reason
        self.ended()
        if self._growing is None and (self._sink is not None or self._size <= self._limit):
            self._finish()

    def pauseProducing(self) -> None:
        """Stop reading from GitHub for now; who asked for that may not take for ever either."""
        if self.paused_at is None:
            self.paused_at = self.reactor.seconds()
        if self._done is not None or self._stopped:
            return
        self._restart_idle(_STALLED * self.idle_timeout_s)
        if self.transport is not None:
            IPushProducer(self.transport).pauseProducing()

    def resumeProducing(self) -> None:
        """Go on reading."""
        self.paused_at = None
        if self._sink is not None:
            self._release_room()
        if self._done is None and not self._stopped and self.transport is not None:
            self._restart_idle()
            IPushProducer(self.transport).resumeProducing()

    def give_way(self) -> None:
        """Abort, so that another question gets the connection; for who waits here it broke off."""
        self.paused_at = None
        self.abort()
        self._fail("the client took too long to read, and others wait for the connection")

    def stopProducing(self) -> None:
        """Abort: the consumer is gone."""
        self.abort()

    # How it ends.

    def _finish(self) -> None:
        assert self._done is not None
        if self._done.check(ResponseDone):
            self._answer(complete=True)
        elif self._done.check(PotentialDataLoss):
            self.certain = False
            self._answer(complete=True)
        else:
            self._fail(self._done.getErrorMessage())

    def _answer(self, *, complete: bool) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(complete)
        if complete:
            self._let_go()

    def _let_go(self) -> None:
        """Drop the content and its consumer."""
        self._chunks, self._sink, self._unpacking = [], None, None

    def _fail(self, why: str) -> None:
        self._let_go()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.errback(UpstreamError("broken-answer", why))

    # Between two pieces.

    def _restart_idle(self, timeout_s: float | None = None) -> None:
        timeout_s = self.idle_timeout_s if timeout_s is None else timeout_s
        if self._idle is not None and self._idle.active():
            self._idle.reset(timeout_s)
        else:
            self._idle = self.reactor.callLater(timeout_s, self._idled)

    def _stop_idle(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None and idle.active():
            idle.cancel()

    def _idled(self) -> None:
        self._idle = None
        waiting, self._waiting = self._waiting, None
        self.abort()
        if waiting is not None and not waiting.called:
            limit = f"[github] idle_timeout = {duration(self.idle_timeout_s)}"
            waiting.errback(UpstreamError("timeout", "no content for too long", limit=limit))


@define(eq=False)
class HeldContent:
    """Content that is here in full, to be taken once more."""

    content: bytes = field(repr=False)
    certain: bool = True

    @property
    def length(self) -> int | None:
        """Its length in bytes."""
        return len(self.content)

    def collect(
        self,
        limit_bytes: int,
        coding: bytes = b"",  # noqa: ARG002 - it is here anyway
        room: Room | None = None,  # noqa: ARG002 - as well
    ) -> Deferred[bytes | None]:
        """Return it, or None where it is longer."""
        return succeed(self.content if len(self.content) <= limit_bytes else None)

    def pass_on(self, sink: Callable[[bytes], None]) -> Deferred[bool]:
        """Give it to *sink*."""
        sink(self.content)
        return succeed(True)

    def abort(self) -> None:
        """Nothing is coming any more."""

    def pauseProducing(self) -> None:
        """Nothing is coming any more."""

    def resumeProducing(self) -> None:
        """Nothing is coming any more."""

    def stopProducing(self) -> None:
        """Nothing is coming any more."""


@define(eq=False)
class NoContent(HeldContent):
    """No content: an answer that has none is complete with its fields."""

    content: bytes = b""

    def pass_on(self, sink: Callable[[bytes], None]) -> Deferred[bool]:  # noqa: ARG002
        """Give nothing."""
        return succeed(True)


NOTHING: Final = NoContent()
