"""A client's request: answered when its fields are complete; its content is never parsed."""

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
from ghmirror_tw.runtime.twisted_headers import lines_of
from ghmirror_tw.web.request_content import RequestContent
from ghmirror_tw.web.response_head import head_of

#: How much content is read and dropped after an early response, in bytes, so that the connection
#: can be used again. With more content left, the connection is closed.
MOST_DROPPED: Final = 64 * 1024


class MirrorRequest(server.Request):
    """A request whose target and content are taken as they are."""

    #: GitHub says what its content is; nobody else does.
    defaultContentType = None
    channel: Any
    #: The content, if there is any; it may be incomplete.
    incoming: RequestContent | None = None
    #: Whether the client waits for `100 Continue`.
    expects = False
    #: Whether it is being answered.
    begun = False
    #: What was wrong with its content, once that is known.
    fault: MirrorError | None = None
    #: Since when its response holds content that budgets count, in seconds of the channel's clock.
    content_held_since: float | None = None
    #: What is to be done if the client goes away before it has its answer.
    on_lost: Callable[[], object] | None = None

    def gotLength(self, length: int | None) -> None:
        """Refuse content that is announced to be too large, before it is sent."""
        limit = self.channel.site.resource.max_request_size
        if length is not None and length > limit:
            self.channel.refuse(error_responses.too_large(limit))
        elif length != 0 or self.requestHeaders.hasHeader(b"content-length"):
            self.incoming = RequestContent(self.channel, length)

    def begin(self, command: bytes, path: bytes, version: bytes) -> None:
        """Have it answered, though its content may be incomplete."""
        self.begun = True
        self.method, self.uri, self.clientproto = command, path, version
        self.site = self.channel.site
        self.site.resource.render(self)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Note that it is complete, and have it answered unless it has begun."""
        if self.incoming is not None:
            self.incoming.end()
        if not self.begun:
            self.begin(command, path, version)

    def fail(self, error: MirrorError) -> None:
        """Respond with *error*, since the content is invalid; or abort a response that has begun.

        The exchange with GitHub is cancelled, too.
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
        """Tell who answers that nobody waits for it any more."""
        super().connectionLost(reason)
        if self.incoming is not None:
            self.incoming.break_off()
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost()

    def note_held_content(self) -> None:
        """Note that from now on the response holds content that budgets count."""
        self.content_held_since = self.channel.factory.reactor.seconds()

    def parseCookies(self) -> None:
        """Leave cookies alone."""

    def handleContentChunk(self, data: bytes) -> None:
        """Take content, up to the limit."""
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
        """Send an answer that is here in full, in one go; tell whether that was possible.

        *length*: what `Content-Length` is to say, if anything. Else Twisted's own ways, which take
        several times as long, send all there is to send.
        """
        bare = self._is_bare(status)
        self._settle()
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
    def upload(self) -> RequestContent | None:
        """The content, if there is any; none is content too where its length is announced."""
        incoming = self.incoming
        if incoming is None or not incoming.complete or incoming.size:
            return incoming
        announced = incoming.announced is not None and self.method not in {b"GET", b"HEAD"}
        return incoming if announced else None

    def write(self, data: bytes) -> None:
        """Send a piece of the answer."""
        if not self.startedWriting:
            self._settle()
        super().write(data)

    def _settle(self) -> None:
        """Decide before the response whether the connection ends, since content is incomplete."""
        incoming = self.incoming
        if incoming is None or incoming.complete or self._disconnected:
            return
        left = None if self.fault is not None else incoming.left
        if left is None or left > MOST_DROPPED or (self.expects and not incoming.wanted):
            self.channel.persistent = False
            self.responseHeaders.setRawHeaders(b"connection", [b"close"])
