"""The content of a request, streamed to GitHub with backpressure on the client."""

from __future__ import annotations

from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer


class Receiver(Protocol):
    """The connection of a client, which content of a request is received from."""

    def send_continue(self) -> None:
        """Send `100 Continue` if the client waits for it."""

    def adjust_reading(self) -> None:
        """Read from the client while a consumer takes the content, else pause reading."""


@implementer(IBodyProducer)
@define(eq=False)
class RequestContent:
    """The content of one request, which may still be incoming.

    What is received with the fields is buffered. The rest is read only while a consumer takes it.
    *announced*: the length in bytes; None for content in chunks.
    """

    _receiver: Receiver | None
    announced: int | None
    #: The number of bytes that were received.
    size: int = field(default=0, init=False)
    #: Whether all of it was received.
    complete: bool = field(default=False, init=False)
    #: Whether a consumer ever started to read it; the request is admitted by then.
    wanted: bool = field(default=False, init=False)
    #: Whether the rest is read and dropped.
    discarded: bool = field(default=False, init=False)
    pieces: list[bytes] = field(factory=list, init=False)
    _consumer: Any = field(default=None, init=False)
    _paused: bool = field(default=False, init=False)
    _sent: Deferred[None] | None = field(default=None, init=False)
    #: Fires when all of it was received, or more than `_limit` bytes.
    _gathered: Deferred[None] | None = field(default=None, init=False)
    _limit: int = field(default=0, init=False)

    @property
    def remaining(self) -> int | None:
        """How many bytes are not received yet; None: unknown."""
        if self.complete:
            return 0
        return None if self.announced is None else self.announced - self.size

    @property
    def is_streamed(self) -> bool:
        """Whether its request is sent while it is incoming, and not after it was received."""
        return self.wanted and self._gathered is None

    @property
    def is_held(self) -> bool:
        """Whether reading from the client is paused."""
        if self.complete or self.discarded or self._gathered is not None:
            return False
        return self._consumer is None or self._paused

    # Called by the client's connection.

    def add(self, data: bytes) -> None:
        """Add received bytes; `flush` passes them on."""
        self.size += len(data)
        if not self.discarded:
            self.pieces.append(data)

    def flush(self) -> None:
        """Forward the received bytes in one piece, for any chunks."""
        if self._consumer is not None:
            pieces, self.pieces = self.pieces, []
            if pieces:
                self._consumer.write(b"".join(pieces))
        elif len(self.pieces) > 1:
            self.pieces = [b"".join(self.pieces)]
        if self._gathered is not None and self.size > self._limit:
            self._gather()
        self._adjust()

    def end(self) -> None:
        """Note that all of it was received."""
        self.complete = True
        self.flush()
        self._gather()
        sent, self._sent = self._sent, None
        self._consumer = self._receiver = None
        if sent is not None:
            sent.callback(None)

    def discard(self) -> None:
        """Drop all of it, also what will be received."""
        self.discarded = True
        self.pieces = []
        self._consumer = self._sent = None

    def break_off(self) -> None:
        """Drop it, as the connection is lost; the caller cancels the request."""
        self.discard()
        self._receiver = None

    # Called by the consumer of the content.

    async def whole(self, limit_bytes: int) -> bytes | None:
        """Return all of it, or None if it is over *limit_bytes*; it can be sent after that."""
        if self.announced is not None and self.announced > limit_bytes:
            return None
        if not self.complete and self.size <= limit_bytes:
            self._limit, self._gathered = limit_bytes, Deferred()
            gathered = self._gathered
            self._start_reading()
            await gathered
        return b"".join(self.pieces) if self.complete and self.size <= limit_bytes else None

    def producer(self) -> IBodyProducer:
        """Return the producer that sends it, once."""
        return self

    def _start_reading(self) -> None:
        if self._receiver is not None:
            if not self.wanted:
                self._receiver.send_continue()
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
        """The length in bytes, or `UNKNOWN_LENGTH`."""
        if self.announced is not None:
            return self.announced
        return self.size if self.complete else UNKNOWN_LENGTH

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Send all of it to *consumer*."""
        pieces, self.pieces = self.pieces, []
        for piece in pieces:
            consumer.write(piece)
        if self.complete:
            return succeed(None)
        self._consumer, self._sent = consumer, Deferred(lambda _: self.stopProducing())
        sent = self._sent
        self._start_reading()
        return sent

    def pauseProducing(self) -> None:
        """Pause reading from the client."""
        self._paused = True
        self._adjust()

    def resumeProducing(self) -> None:
        """Resume reading from the client."""
        self._paused = False
        self._adjust()

    def stopProducing(self) -> None:
        """Send no more, as the consumer has ended."""
        self._consumer = self._sent = None
        self.pieces = []
        self._adjust()
