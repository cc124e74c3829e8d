"""A client's request: its content is spooled, bounded, and never parsed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from tempfile import SpooledTemporaryFile
from typing import Any, Final

from attrs import frozen
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.client import FileBodyProducer
from twisted.web.http import NO_BODY_CODES
from twisted.web.iweb import IBodyProducer

from ghmirror_tw.headers import lines_of
from ghmirror_tw.policy import errors
from ghmirror_tw.policy.errors import MirrorError
from ghmirror_tw.policy.fields import Fields
from ghmirror_tw.web.writing import head_of

#: Content up to this stays in memory, in bytes; a file for each would use up the descriptors.
_IN_MEMORY: Final = 100_000
#: When a client may come again that has sent what there was no room for, in seconds.
_NO_ROOM_S: Final = 10


@frozen
class Spooled:
    """The content of a request, in memory if it is small, else in a file without a name."""

    file: Any
    size: int

    def head(self, size: int) -> bytes:
        """Return its first *size* bytes."""
        self.file.seek(0)
        content: bytes = self.file.read(size)
        return content

    def producer(self) -> IBodyProducer:
        """Return what sends it, from the beginning."""
        self.file.seek(0)
        return FileBodyProducer(self.file)


class MirrorRequest(server.Request):
    """A request whose target and content are taken as they are."""

    #: GitHub says what its content is; nobody else does.
    defaultContentType = None
    channel: Any
    content: Any = None
    size = 0
    refused = False
    #: What is to be done if the client goes away before it has its answer.
    on_lost: Callable[[], object] | None = None

    def gotLength(self, length: int | None) -> None:
        """Refuse content that is announced to be too large, before it is sent."""
        if length is not None and length > self.channel.site.resource.max_request_size:
            self._refuse(errors.too_large(self.channel.site.resource.max_request_size))
        self.content = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed with the request

    def _refuse(self, error: MirrorError) -> None:
        if not self.refused:
            self.refused = True
            self.requestHeaders.removeHeader(b"expect")
            self.channel.refuse(error)

    def connectionLost(self, reason: Failure) -> None:
        """Tell who answers that nobody waits for it any more."""
        super().connectionLost(reason)
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost()

    def parseCookies(self) -> None:
        """Leave cookies alone."""

    def handleContentChunk(self, data: bytes) -> None:
        """Spool content, up to the limit."""
        self.size += len(data)
        if self.size > self.channel.site.resource.max_request_size:
            self._refuse(errors.too_large(self.channel.site.resource.max_request_size))
        if self.refused:
            return
        try:
            self.content.write(data)
        except OSError:
            self._refuse(errors.overloaded("of room in its temporary directory", _NO_ROOM_S))

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Answer, now that all of it is here."""
        if self.refused:
            return
        if self.content is not None:
            self.content.seek(0)
        self.method, self.uri, self.clientproto = command, path, version
        self.site = self.channel.site
        self.site.resource.render(self)

    @cached_property
    def fields(self) -> Fields:
        """Its field lines."""
        return Fields(lines_of(self.requestHeaders))

    def answer(
        self, status: int, fields: Fields, content: bytes, length: int | None = None
    ) -> bool:
        """Send an answer that is here in full, in one go; tell whether that was possible.

        *length*: what `Content-Length` is to say, if anything. Else Twisted's own ways, which take
        several times as long, send all there is to send.
        """
        bare = self._is_bare(status)
        if self._disconnected or self.finished or (length is None and not bare):
            return False
        lines = [*fields.lines, *lines_of(self.responseHeaders)]
        if length is not None:
            lines.append((b"content-length", b"%d" % length))
        head = head_of(self.clientproto, status, lines)
        if head is None:
            return False
        self.code, self.startedWriting = status, 1
        if not bare:
            self.sentLength = len(content)
            head += content
        self.channel.send(head)
        # All that `finish` would have to do besides has been done, or is nothing here.
        self.finished = 1
        self._cleanup()
        return True

    def _is_bare(self, status: int) -> bool:
        """Tell whether an answer has no content, whatever is said of it (RFC 9110, 6.4.1)."""
        return self.method == b"HEAD" or status in NO_BODY_CODES

    @property
    def spooled(self) -> Spooled | None:
        """The content, if there is any; none is content too where its length is announced."""
        announced = self.method not in {b"GET", b"HEAD"} and self.requestHeaders.hasHeader(
            b"content-length"
        )
        return Spooled(self.content, self.size) if self.size or announced else None
