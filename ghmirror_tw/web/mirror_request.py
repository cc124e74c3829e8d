"""A client's request: it begins when its fields are complete; its content is never parsed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import NO_BODY_CODES

from ghmirror_tw.http import error_responses
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import READ_METHODS
from ghmirror_tw.runtime.twisted_headers import lines_of
from ghmirror_tw.web.request_content import RequestContent
from ghmirror_tw.web.response_head import head_of

#: The largest rest of content that is read and dropped after an early response, in bytes, so that
#: the connection can be used again. With more content left, the connection is closed.
MOST_DROPPED: Final = 64 * 1024


class MirrorRequest(server.Request):
    """A request whose target and content are passed on unchanged."""

    #: The media type of content is GitHub's, or there is none.
    defaultContentType = None
    channel: Any
    #: The content, if there is any; it may be incomplete.
    incoming: RequestContent | None = None
    #: Whether the client waits for `100 Continue`.
    expects = False
    #: Whether the resource has received it.
    begun = False
    #: The error in its content, once that is detected.
    fault: MirrorError | None = None
    #: Since when its response holds content that budgets count, in seconds of the channel's clock.
    content_held_since: float | None = None
    #: Called if the client closes the connection before the end of the response.
    on_lost: Callable[[], object] | None = None

    def gotLength(self, length: int | None) -> None:
        """Refuse content whose announced length is too large, before it is received."""
        limit = self.channel.site.resource.max_request_size
        if length is not None and length > limit:
            self.channel.refuse(error_responses.too_large(limit))
        elif length != 0 or self.requestHeaders.hasHeader(b"content-length"):
            self.incoming = RequestContent(self.channel, length)

    def begin(self, command: bytes, path: bytes, version: bytes) -> None:
        """Pass it to the resource, though its content may be incomplete."""
        self.begun = True
        self.method, self.uri, self.clientproto = command, path, version
        self.site = self.channel.site
        self.site.resource.render(self)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """End its content, and pass it to the resource unless it has begun."""
        if self.incoming is not None:
            self.incoming.end()
        if not self.begun:
            self.begin(command, path, version)

    def fail(self, error: MirrorError) -> None:
        """Respond with *error*, since the content is invalid; or abort a response that has begun.

        The exchange with GitHub is cancelled.
        """
        if self.startedWriting:
            self.channel.transport.abortConnection()
            return
        self.fault = error
        self.channel.drop_input()
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost()

    def connectionLost(self, reason: Failure) -> None:
        """Cancel the response."""
        super().connectionLost(reason)
        if self.incoming is not None:
            self.incoming.break_off()
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost()

    def note_held_content(self) -> None:
        """Note that from now on the response holds content that budgets count."""
        self.content_held_since = self.channel.factory.reactor.seconds()

    def abort(self) -> None:
        """Abort the connection, if there is one."""
        channel = self.channel
        if channel is not None and channel.transport is not None:
            channel.transport.abortConnection()

    def parseCookies(self) -> None:
        """Parse no cookies."""

    def handleContentChunk(self, data: bytes) -> None:
        """Receive content, up to the limit."""
        incoming = self.incoming
        if incoming is None or self.fault is not None:
            return
        incoming.add(data)
        if incoming.discarded:
            return
        limit = self.channel.site.resource.max_request_size
        if incoming.size > limit:
            self.channel.refuse(error_responses.too_large(limit))

    @cached_property
    def fields(self) -> Fields:
        """Its field lines."""
        return Fields(lines_of(self.requestHeaders))

    def send_response(
        self, status: int, fields: Fields, content: bytes, length: int | None = None
    ) -> bool:
        """Send a complete response in one piece; return False where that is not possible.

        *length*: the `Content-Length`, if any. Twisted's own methods, which take several times as
        long, can send all responses.
        """
        bare = self._is_bare(status)
        if self.incoming is not None:
            self._decide_persistence()
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
        # `finish` would do no more than this here.
        self.finished = 1
        self._cleanup()
        return True

    def _is_bare(self, status: int) -> bool:
        """Return whether a response has no content, with any fields (RFC 9110, 6.4.1)."""
        return self.method == b"HEAD" or status in NO_BODY_CODES

    @property
    def upload(self) -> RequestContent | None:
        """The content, if there is any; where a length of 0 is announced, it is empty."""
        incoming = self.incoming
        if incoming is None or not incoming.complete or incoming.size:
            return incoming
        announced = incoming.announced is not None and self.method not in READ_METHODS
        return incoming if announced else None

    def write(self, data: bytes) -> None:
        """Send a piece of the response."""
        if not self.startedWriting:
            self._decide_persistence()
        super().write(data)

    def _decide_persistence(self) -> None:
        """Close the connection after the response if too much content is left to be read."""
        incoming = self.incoming
        if incoming is None or incoming.complete or self._disconnected:
            return
        left = None if self.fault is not None else incoming.remaining
        if left is None or left > MOST_DROPPED or (self.expects and not incoming.wanted):
            self.channel.persistent = False
            self.responseHeaders.setRawHeaders(b"connection", [b"close"])
