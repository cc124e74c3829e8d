"""The content of a request on its way to GitHub: passed on as it comes, as fast as it is taken."""

from __future__ import annotations

from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer


class Receiver(Protocol):
    """A client's connection, as far as content is concerned."""

    def go_ahead(self) -> None:
        """Let the client send, if it waits to be told so."""

    def adjust_reading(self) -> None:
        """Read from the client exactly as long as content is wanted."""


@implementer(IBodyProducer)
@define(eq=False)
class RequestContent:
    """The content of one request: what has come of it, and then the rest as it comes.

    Nothing more of it is read than there is a consumer for; what comes with the fields is held.
    *announced*: its length in bytes, None where it comes in chunks.
    """

    _receiver: Receiver | None
    announced: int | None
    #: Bytes that have come.
    size: int = field(default=0, init=False)
    #: Whether all of it has come.
    complete: bool = field(default=False, init=False)
    #: Whether it was ever asked for: who may send it has been decided then.
    wanted: bool = field(default=False, init=False)
    #: Whether it is read and dropped.
    discarded: bool = field(default=False, init=False)
    _pieces: list[bytes] = field(factory=list, init=False)
    _consumer: Any = field(default=None, init=False)
    _paused: bool = field(default=False, init=False)
    _sent: Deferred[None] | None = field(default=None, init=False)
    #: Waits for all of it, or for more than `_limit`.
    _gathered: Deferred[None] | None = field(default=None, init=False)
    _limit: int = field(default=0, init=False)

    @property
    def left(self) -> int | None:
        """How many bytes are still to come; None: no one knows."""
        if self.complete:
            return 0
        return None if self.announced is None else self.announced - self.size

    @property
    def is_held(self) -> bool:
        """Whether the client has to wait before it sends more."""
        if self.complete or self.discarded or self._gathered is not None:
            return False
        return self._consumer is None or self._paused

    # What the client's connection calls.

    def add(self, data: bytes) -> None:
        """Take what came; it is passed on with `flush`."""
        self.size += len(data)
        if not self.discarded:
            self._pieces.append(data)

    def flush(self) -> None:
        """Pass on what came, in one piece: chunks may have been of a byte each."""
        if self._consumer is not None:
            pieces, self._pieces = self._pieces, []
            if pieces:
                self._consumer.write(b"".join(pieces))
        elif len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        if self._gathered is not None and self.size > self._limit:
            self._gather()
        self._adjust()

    def end(self) -> None:
        """Take note that all of it has come."""
        self.complete = True
        self.flush()
        self._gather()
        sent, self._sent = self._sent, None
        self._consumer = self._receiver = None
        if sent is not None:
            sent.callback(None)

    def discard(self) -> None:
        """Drop it, and what is still to come."""
        self.discarded = True
        self._pieces = []
        self._consumer = self._sent = None

    def break_off(self) -> None:
        """Drop it: nothing more comes. The request is cancelled by another way."""
        self.discard()
        self._receiver = None

    # What takes it.

    async def whole(self, limit_bytes: int) -> bytes | None:
        """Return all of it, or None where it has more than *limit_bytes*; it can still be sent."""
        if self.announced is not None and self.announced > limit_bytes:
            return None
        if not self.complete and self.size <= limit_bytes:
            self._limit, self._gathered = limit_bytes, Deferred()
            gathered = self._gathered
            self._want()
            await gathered
        return b"".join(self._pieces) if self.complete and self.size <= limit_bytes else None

    def producer(self) -> IBodyProducer:
        """Return what sends it, once."""
        return self

    def _want(self) -> None:
        if self._receiver is not None:
            if not self.wanted:
                self._receiver.go_ahead()
            self._receiver.adjust_reading()
        self.wanted = True

    def _gather(self) -> None:
        gathered, self._gathered = self._gathered, None
        if gathered is not None and not gathered.called:
            gathered.callback(None)

    def _adjust(self) -> None:
        if self._receiver is not None:
            self._receiver.adjust_reading()

    # IBodyProducer.

    @property
    def length(self) -> Any:
        """How many bytes there are, where that is known."""
        if self.announced is not None:
            return self.announced
        return self.size if self.complete else UNKNOWN_LENGTH

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Send all of it to *consumer*."""
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            consumer.write(piece)
        if self.complete:
            return succeed(None)
        self._consumer, self._sent = consumer, Deferred(lambda _: self.stopProducing())
        sent = self._sent
        self._want()
        return sent

    def pauseProducing(self) -> None:
        """Have the client wait."""
        self._paused = True
        self._adjust()

    def resumeProducing(self) -> None:
        """Have the client send."""
        self._paused = False
        self._adjust()

    def stopProducing(self) -> None:
        """Send no more: no one takes it."""
        self._consumer = self._sent = None
        self._pieces = []
        self._adjust()
