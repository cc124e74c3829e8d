"""Content streamed to a client with backpressure, and converted as it is sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from ghmirror_tw.http.content_codings import UndecodableError
from ghmirror_tw.upstream.upstream_interface import IncomingContent, UpstreamError
from ghmirror_tw.web.content_conversion import STEP_BYTES, Conversion

#: The most steps for one client in a turn of the reactor.
_STEPS: Final = 8

CallLater = Callable[[float, Callable[[], object]], IDelayedCall]


@implementer(IPushProducer)
@define(eq=False)
class ContentProducer:
    """Writes the content of *source* to *request*, through *conversion*; *done* fires at the end.

    Received pieces are buffered without conversion: the source is paused until the client has taken
    the converted content.
    """

    request: Any
    source: IncomingContent
    conversion: Conversion | None
    call_later: CallLater
    done: Deferred[None] = field(init=False)
    _transfer: Deferred[bool] | None = None
    _pieces: deque[bytes] = field(init=False, factory=deque)
    #: The number of bytes of the first piece that are written.
    _position: int = 0
    #: Whether content is left to be written, after the client paused or the turn ended.
    _has_more: bool = False
    #: Whether the source has ended.
    _source_ended: bool = False
    #: Whether the source is paused.
    _source_paused: bool = False
    #: Whether the client has paused.
    _client_paused: bool = False
    _running: bool = False
    _next_turn: IDelayedCall | None = None

    def __attrs_post_init__(self) -> None:
        self.done = Deferred(self._cancel)

    def start(self) -> None:
        """Start the source."""
        self._transfer = self.source.stream_to(self._receive)
        self._transfer.addCallbacks(self._ended, self._broke_off)

    def end(self) -> None:
        """Drop all references, so that the content does not outlive the request."""
        if self._next_turn is not None:
            self._next_turn.cancel()
        self._pieces.clear()
        self.request = self.source = self.conversion = self._transfer = self._next_turn = None  # type: ignore[assignment]

    def _cancel(self, _: object) -> None:
        if self._transfer is not None:
            self._transfer.cancel()

    # Called by the source.

    def _receive(self, piece: bytes) -> None:
        if piece and not self.done.called:
            self._pieces.append(piece)
            self._run()

    def _ended(self, _: object) -> None:
        self._source_ended = True
        self._run()

    def _broke_off(self, failure: Failure) -> None:
        if not self.done.called:
            self.done.errback(failure)

    # Called by the client's connection.

    def pauseProducing(self) -> None:
        """Pause."""
        self._client_paused = True
        self._pause_source()

    def resumeProducing(self) -> None:
        """Resume."""
        self._client_paused = False
        self._run()

    def stopProducing(self) -> None:
        """Stop: the connection is lost, and the request will be cancelled."""
        self._client_paused = True

    # Step by step.

    def _run(self) -> None:
        """Write until the client pauses or the turn ends, then pause the source or resume it."""
        if self._running or self._client_paused or self._next_turn is not None or self.done.called:
            return
        self._running = True
        try:
            self._has_more = self._write()
            if not self._has_more and self._source_ended:
                self._finish()
                return
        except UndecodableError as error:
            self.done.errback(UpstreamError("broken-answer", str(error)))
            return
        finally:
            self._running = False
        self._balance()

    def _balance(self) -> None:
        """Pause the source while received content is left to be written, else resume it."""
        if self._has_more:
            self._pause_source()
            if not self._client_paused:
                self._next_turn = self.call_later(0.0, self._resume_turn)
        elif self._source_paused:
            self._source_paused = False
            self.source.resumeProducing()

    def _resume_turn(self) -> None:
        self._next_turn = None
        self._run()

    def _write(self) -> bool:
        """Write for one turn at most; return whether more content is left."""
        for _ in range(_STEPS):
            step = self._step()
            if step is None:
                return False
            if step:
                self.request.write(step)
            if self._client_paused:
                break
        return True

    def _step(self) -> bytes | None:
        if self.conversion is None:
            return self._cut()
        step = self.conversion.take()
        while step is None:
            piece = self._cut()
            if piece is None:
                return None
            self.conversion.feed(piece)
            step = self.conversion.take()
        return step

    def _cut(self) -> bytes | None:
        """Return the next piece of the received content, or None.

        Pieces are copied one at a time, since the whole may be shared with the store.
        """
        if not self._pieces:
            return None
        first = self._pieces[0]
        piece = first[self._position : self._position + STEP_BYTES]
        self._position += len(piece)
        if self._position >= len(first):
            self._pieces.popleft()
            self._position = 0
        return piece

    def _finish(self) -> None:
        if self.conversion is not None:
            rest = self.conversion.finish()
            if rest:
                self.request.write(rest)
        self.done.callback(None)

    def _pause_source(self) -> None:
        if not (self._source_paused or self._source_ended):
            self._source_paused = True
            self.source.pauseProducing()


async def stream(
    request: Any, source: IncomingContent, conversion: Conversion | None, call_later: CallLater
) -> None:
    """Write all of *source* to *request*, through *conversion*, and return at its end.

    Raises `UpstreamError` if the source breaks off or does not unpack.
    """
    producer = ContentProducer(request, source, conversion, call_later)
    request.registerProducer(producer, True)
    try:
        producer.start()
        await producer.done
    finally:
        producer.end()
        if request.channel is not None and not request.finished and request.producer is not None:
            request.unregisterProducer()
        request.producer = None
