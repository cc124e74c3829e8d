"""Sending of a response to a client: in one piece, or streamed with backpressure."""

from __future__ import annotations

from typing import Final

from attrs import define
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from ghmirror_tw.github.path_labels import path_pattern
from ghmirror_tw.http.targets import path_of
from ghmirror_tw.upstream.byte_budget import FREE_BYTES, ByteBudgets
from ghmirror_tw.upstream.in_memory_content import InMemoryContent
from ghmirror_tw.upstream.upstream_interface import UpstreamError
from ghmirror_tw.web.client_response import ClientResponse
from ghmirror_tw.web.content_streaming import stream
from ghmirror_tw.web.exchange_channel import PIECE_BYTES
from ghmirror_tw.web.mirror_request import MirrorRequest

_log: Final = Logger(namespace="ghmirror.web")


class BrokenResponseError(Exception):
    """The content of a response broke off after its first byte."""


@define(eq=False)
class ResponseSender:
    """Sends responses, and counts in *budgets* the content that they hold."""

    reactor: IReactorTime
    budgets: ByteBudgets

    def send_whole(self, request: MirrorRequest, response: ClientResponse, *, last: bool) -> bool:
        """Send *response* in one piece; return False where it has to be streamed.

        *last*: the connection is closed after it.
        """
        if last:
            request.responseHeaders.setRawHeaders(b"connection", [b"close"])
            request.channel.persistent = False
        held = response.held
        if len(held) > FREE_BYTES:
            self._count_held(request, response, held)
        whole = response.incoming is None and len(response.content) <= PIECE_BYTES
        return whole and request.send_response(
            response.status, response.fields, response.content, response.length
        )

    async def stream(self, request: MirrorRequest, response: ClientResponse) -> None:
        """Send *response* piece by piece, after `send_whole` has returned False.

        Raises `UpstreamError` if it breaks off before its first byte, else `BrokenResponseError`.
        """
        request.setResponseCode(response.status)
        for name, value in response.fields:
            request.responseHeaders.addRawHeader(name, value)
        if response.length is not None:
            request.responseHeaders.setRawHeaders(b"content-length", [b"%d" % response.length])
        if response.incoming is not None and request.method == b"HEAD":
            if await response.incoming.collect(0) is None:
                response.incoming.abort()
        elif response.incoming is not None:
            await self._relay(request, response)
        else:
            content = InMemoryContent(response.content)
            await stream(request, content, None, self.reactor.callLater)
        request.finish()

    def _count_held(self, request: MirrorRequest, response: ClientResponse, held: bytes) -> None:
        request.note_held_content()
        budgets = self.budgets
        budget = budgets.forms if response.rewritten else budgets.of_size(len(held))
        budget.track(response, held)

    async def _relay(self, request: MirrorRequest, response: ClientResponse) -> None:
        """Stream content as fast as the client reads it.

        After the first byte, closing the connection is the only way to report that the content is
        incomplete (RFC 9112, section 8).
        """
        content, conversion = response.incoming, response.conversion
        assert content is not None
        working = 0
        if conversion is not None:
            working = conversion.size_bytes
            request.note_held_content()
        try:
            with self.budgets.forms.charge(working):
                await stream(request, content, conversion, self.reactor.callLater)
        except UpstreamError as error:
            _log.warn(
                "Response broke off: method={method} path={path} reason={why}",
                method=request.method.decode("latin-1"),
                path=path_pattern(path_of(request.uri)),
                why=error.why,
            )
            if not request.startedWriting:
                raise
            raise BrokenResponseError from error
        finally:
            content.abort()
