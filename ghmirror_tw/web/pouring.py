"""Content that is here in full, handed over as fast as a client takes it."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
@define(eq=False)
class _Pouring:
    """Writes *content* to *request* in pieces; *done* when the last one is written.

    The pieces are cut when they are written: what a slow client has not taken yet is shared with
    the store, however many there are.
    """

    request: Any
    content: bytes = field(repr=False)
    piece_bytes: int
    done: Deferred[None] = field(factory=Deferred)
    _position: int = 0
    _paused: bool = False

    def resumeProducing(self) -> None:
        """Write until there is nothing left, or the client takes no more."""
        self._paused = False
        while not self._paused and not self.done.called:
            piece = self.content[self._position : self._position + self.piece_bytes]
            self._position += len(piece)
            self.request.write(piece)
            if self._position >= len(self.content):
                self.done.callback(None)

    def pauseProducing(self) -> None:
        """Wait for the client."""
        self._paused = True

    def stopProducing(self) -> None:
        """Write no more: the client is gone. Whoever waits is cancelled through the request."""
        self._paused = True


async def pour(request: Any, content: bytes, piece_bytes: int) -> None:
    """Write *content* to *request*, and return when the last piece is written."""
    pouring = _Pouring(request, content, piece_bytes)
    request.registerProducer(pouring, True)
    try:
        pouring.resumeProducing()
        await pouring.done
    finally:
        if request.channel is not None and request.producer is not None:
            request.unregisterProducer()
