"""The content of a response from GitHub while it is received: collected up to a limit, or streamed.

It is read with backpressure: no faster than its consumer reads, and than the byte budget grows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse
from zope.interface import implementer

from ghmirror_tw.http.content_codings import GzipDecompressor, UndecodableError
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.runtime.deferreds import do_nothing
from ghmirror_tw.runtime.quantity_formatting import duration
from ghmirror_tw.runtime.restartable_timer import RestartableTimer
from ghmirror_tw.upstream.byte_budget import GrowingReservation
from ghmirror_tw.upstream.connection_error_texts import exceeded_limit
from ghmirror_tw.upstream.upstream_interface import UpstreamError

#: A client that reads nothing for so many idle timeouts holds its connection to GitHub no longer.
_MAX_PAUSE_TIMEOUTS: Final = 5
#: How much is decoded at a time to count the size of content, in bytes.
_DECODED_STEP_BYTES: Final = 64 * 1024


_GZIP: Final = frozenset({b"gzip", b"x-gzip"})


@define(eq=False)
class _BoundedSize:
    """The size of content, decoded where there is a decoder, as long as it is within *limit*."""

    limit: int
    decoder: GzipDecompressor | None = None
    size: int = 0

    @property
    def is_exceeded(self) -> bool:
        return self.size > self.limit

    def add(self, data: bytes) -> None:
        """Count a piece; decode only until the limit is exceeded."""
        if self.decoder is None:
            self.size += len(data)
            return
        try:
            self.decoder.feed(data)
            while not self.is_exceeded and (piece := self.decoder.take(_DECODED_STEP_BYTES)):
                self.size += len(piece)
        except UndecodableError:
            self.decoder = None  # the consumer fails to decode it as well, and reports it


@implementer(IPushProducer)
@define(eq=False, slots=False)
class UpstreamContent(Protocol):
    """The content of one response, which is read only while a consumer wants it.

    *length* in bytes, if GitHub sent it. Callers `collect` it, `stream_to` a sink, or `abort` it;
    after a `collect` that exceeded its limit the other two are still possible. *idle_timeout_s*:
    the longest pause of GitHub between two pieces.
    """

    reactor: IReactorTime
    response: IResponse
    idle_timeout_s: float
    length: int | None
    #: Called once, when the connection is free again.
    on_end: Callable[[], object] = do_nothing
    #: False for content that only the end of the connection delimits: it may have been truncated.
    is_delimited: bool = True
    #: Since when its consumer has paused it, in seconds of the reactor's clock.
    paused_at: float | None = None
    _chunks: list[bytes] = field(factory=list)
    _size: _BoundedSize = field(factory=lambda: _BoundedSize(0))
    #: The size of the chunks as received, and the bytes that are reserved for them.
    _received: int = 0
    _reservation: GrowingReservation | None = None
    _growing: Deferred[None] | None = None
    #: Why the content has ended.
    _end: Failure | None = None
    _is_started: bool = False
    _is_aborted: bool = False
    #: True: the content was received. False: it is not to be collected.
    _result: Deferred[bool] | None = None
    _sink: Callable[[bytes], None] | None = None
    _idle_timer: RestartableTimer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._idle_timer = RestartableTimer(self.reactor, self._time_out)

    def collect(
        self, limit_bytes: int, coding: bytes = b"", reservation: GrowingReservation | None = None
    ) -> Deferred[bytes | None]:
        """Return the content, or None where it is longer than *limit_bytes*.

        With *coding* gzip, its decoded bytes are counted. It is received no faster than
        *reservation* grows; None where that takes too long. Cancelling it aborts the response.
        Fails with `UpstreamError` where the content breaks off.
        """
        if self._is_started or (self.length is not None and self.length > limit_bytes):
            return succeed(None)
        self._size = _BoundedSize(limit_bytes, GzipDecompressor() if coding in _GZIP else None)
        self._reservation = reservation
        self._result = Deferred(lambda _: self.abort())
        collected = self._result.addCallback(
            lambda complete: b"".join(self._chunks) if complete else None
        )
        self._start()
        return collected

    def stream_to(self, sink: Callable[[bytes], None]) -> Deferred[bool]:
        """Pass all pieces to *sink*; return True at the end.

        Pausing and resuming this producer pauses and resumes GitHub. Cancelling aborts the
        response. Fails with `UpstreamError` where the content breaks off.
        """
        finished: Deferred[bool] = Deferred(lambda _: self.abort())
        self._result = finished
        chunks, self._chunks = self._chunks, []
        self._sink, self._size.decoder = sink, None
        self.paused_at = None
        for chunk in chunks:
            sink(chunk)
        if not self._is_paused:
            self._release_reservation()
        if self._end is not None:
            self._finish(self._end)
        elif not self._is_started:
            self._start()
        elif not self._is_paused:  # else the sink has just paused it
            self.resumeProducing()
        return finished

    @property
    def _is_paused(self) -> bool:
        return self.paused_at is not None

    def _release_reservation(self) -> None:
        """Count the collected chunks no longer, as the sink has read them, or is gone."""
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.release()

    def abort(self) -> None:
        """Close the connection at once, and drop the content."""
        self._is_aborted = True
        growing, self._growing = self._growing, None
        if growing is not None:
            growing.addErrback(lambda failure: failure.trap(CancelledError) and None)
            growing.cancel()
        self._drop()
        self._release_reservation()
        self._idle_timer.stop()
        if self._end is not None:
            return
        if not self._is_started:
            self._start()
        # The transport of Twisted's own client is behind one that can't abort.
        transport: Any = getattr(self.transport, "_producer", self.transport)
        if transport is not None and hasattr(transport, "abortConnection"):
            transport.abortConnection()
        elif self.transport is not None:
            self.transport.loseConnection()

    def preempt(self) -> None:
        """Abort the content, so that another request gets the connection of a stalled client."""
        self.paused_at = None
        self.abort()
        self._fail("the client reads too slowly, and other requests wait for the connection")

    def _start(self) -> None:
        self._is_started = True
        self._idle_timer.restart(self.idle_timeout_s)
        self.response.deliverBody(self)

    # Called by Twisted.

    def dataReceived(self, data: bytes) -> None:
        """Collect or pass on a piece."""
        if self._is_aborted:
            return
        self._idle_timer.restart(self.idle_timeout_s)
        if self._sink is not None:
            self._sink(data)
            return
        self._chunks.append(data)
        self._received += len(data)
        self._size.add(data)
        reservation = self._reservation
        if self._size.is_exceeded:
            self.pauseProducing()
            self._succeed(complete=False)
        elif reservation is not None and self._received > reservation.size and not self._growing:
            self._grow(reservation)

    def _grow(self, reservation: GrowingReservation) -> None:
        """Pause until more bytes are reserved."""
        self._growing = Deferred.fromCoroutine(reservation.grow())
        self._growing.addCallbacks(self._grown, self._growth_refused)
        if self._growing is not None:
            self.pauseProducing()

    def _grown(self, _: object) -> None:
        """Continue to read, unless the content has ended meanwhile."""
        self._growing = None
        if self._end is not None:
            self._finish(self._end)
        elif self._is_paused:
            self.resumeProducing()

    def _growth_refused(self, failure: Failure) -> None:
        """Return None, as if the content were longer than the limit."""
        failure.trap(MirrorError)
        self._growing = None
        self._succeed(complete=False)

    def connectionLost(self, reason: Failure = Failure(ConnectionLost())) -> None:  # noqa: B008
        """End the content."""
        self._idle_timer.stop()
        self._end = reason
        self.on_end()
        if self._growing is None and (self._sink is not None or not self._size.is_exceeded):
            self._finish(reason)

    def pauseProducing(self) -> None:
        """Stop reading from GitHub for now, but not for ever."""
        if self.paused_at is None:
            self.paused_at = self.reactor.seconds()
        if self._end is not None or self._is_aborted:
            return
        self._idle_timer.restart(_MAX_PAUSE_TIMEOUTS * self.idle_timeout_s)
        if self.transport is not None:
            IPushProducer(self.transport).pauseProducing()

    def resumeProducing(self) -> None:
        """Continue to read."""
        self.paused_at = None
        if self._sink is not None:
            self._release_reservation()
        if self._end is None and not self._is_aborted and self.transport is not None:
            self._idle_timer.restart(self.idle_timeout_s)
            IPushProducer(self.transport).resumeProducing()

    def stopProducing(self) -> None:
        """Abort, as the consumer is gone."""
        self.abort()

    # Results.

    def _finish(self, end: Failure) -> None:
        if end.check(ResponseDone):
            self._succeed(complete=True)
        elif end.check(PotentialDataLoss):
            self.is_delimited = False
            self._succeed(complete=True)
        else:
            limit = exceeded_limit(end)
            self._fail(limit or end.getErrorMessage(), limit=limit)

    def _succeed(self, *, complete: bool) -> None:
        result, self._result = self._result, None
        if result is not None and not result.called:
            result.callback(complete)
        if complete:
            self._drop()

    def _fail(self, text: str, reason: str = "broken-answer", limit: str = "") -> None:
        self._drop()
        result, self._result = self._result, None
        if result is not None and not result.called:
            result.errback(UpstreamError(reason, text, limit=limit))

    def _drop(self) -> None:
        """Drop the content and its consumer."""
        self._chunks, self._sink, self._size.decoder = [], None, None

    def _time_out(self) -> None:
        result, self._result = self._result, None
        self.abort()
        self._result = result
        limit = f"[github] idle_timeout = {duration(self.idle_timeout_s)}"
        self._fail("no content for too long", "timeout", limit)
