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

#: Steps for one client before the others have their turn.
_STEPS: Final = 8

CallLater = Callable[[float, Callable[[], object]], IDelayedCall]


@implementer(IPushProducer)
@define(eq=False)
class _Pouring:
    """Writes what comes from *source* to *request*, through *conversion*; *done* at the end.

    Received pieces are buffered without conversion: the source is paused until the client has taken
    the converted content.
    """

    request: Any
    source: IncomingContent
    conversion: Conversion | None
    call_later: CallLater
    done: Deferred[None] = field(init=False)
    _passing: Deferred[bool] | None = None
    _pieces: deque[bytes] = field(init=False, factory=deque)
    #: How many bytes of the first piece are written.
    _position: int = 0
    #: Whether content is left to be written, after the client paused or the turn ended.
    _more: bool = False
    #: Whether the source has ended.
    _whole: bool = False
    #: Whether the source is paused.
    _held: bool = False
    #: Whether the client has paused.
    _paused: bool = False
    _running: bool = False
    _later: IDelayedCall | None = None

    def __attrs_post_init__(self) -> None:
        self.done = Deferred(self._cancel)

    def start(self) -> None:
        """Have the source send."""
        self._passing = self.source.stream_to(self._take)
        self._passing.addCallbacks(self._ended, self._broke_off)

    def end(self) -> None:
        """Drop all references, so that the content does not outlive the request."""
        if self._later is not None:
            self._later.cancel()
        self._pieces.clear()
        self.request = self.source = self.conversion = self._passing = self._later = None  # type: ignore[assignment]

    def _cancel(self, _: object) -> None:
        if self._passing is not None:
            self._passing.cancel()

    # Called by the source.

    def _take(self, piece: bytes) -> None:
        if piece and not self.done.called:
            self._pieces.append(piece)
            self._run()

    def _ended(self, _: object) -> None:
        self._whole = True
        self._run()

    def _broke_off(self, failure: Failure) -> None:
        if not self.done.called:
            self.done.errback(failure)

    # Called by the client's connection.

    def pauseProducing(self) -> None:
        """Write no more for now."""
        self._paused = True
        self._hold()

    def resumeProducing(self) -> None:
        """Go on writing."""
        self._paused = False
        self._run()

    def stopProducing(self) -> None:
        """Write no more: the client is gone, and the request will be cancelled."""
        self._paused = True

    # Step by step.

    def _run(self) -> None:
        """Write until the client pauses or the turn ends, then pause the source or resume it."""
        if self._running or self._paused or self._later is not None or self.done.called:
            return
        self._running = True
        try:
            self._more = self._write()
            if not self._more and self._whole:
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
        if self._more:
            self._hold()
            if not self._paused:
                self._later = self.call_later(0.0, self._again)
        elif self._held:
            self._held = False
            self.source.resumeProducing()

    def _again(self) -> None:
        self._later = None
        self._run()

    def _write(self) -> bool:
        """Write for one turn at most; tell whether there is more."""
        for _ in range(_STEPS):
            step = self._step()
            if step is None:
                return False
            if step:
                self.request.write(step)
            if self._paused:
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

    def _hold(self) -> None:
        if not (self._held or self._whole):
            self._held = True
            self.source.pauseProducing()


async def pour(
    request: Any, source: IncomingContent, conversion: Conversion | None, call_later: CallLater
) -> None:
    """Write all of *source* to *request*, through *conversion*, and return at its end.

    Fails with `UpstreamError` where the source breaks off, or does not unpack.
    """
    pouring = _Pouring(request, source, conversion, call_later)
    request.registerProducer(pouring, True)
    try:
        pouring.start()
        await pouring.done
    finally:
        pouring.end()
        if request.channel is not None and not request.finished and request.producer is not None:
            request.unregisterProducer()
        request.producer = None
