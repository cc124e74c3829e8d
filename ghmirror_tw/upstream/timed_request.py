"""A request to GitHub and its timeout, until there is a response or an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived

from ghmirror_tw.http import error_responses
from ghmirror_tw.http.entity_tags import without_invalid_etag
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.runtime.read_before_timeout import ReadBeforeTimeout
from ghmirror_tw.upstream.connection_error_texts import exceeded_limit, tls_error_text
from ghmirror_tw.upstream.in_memory_content import EMPTY_CONTENT
from ghmirror_tw.upstream.upstream_interface import (
    IncomingContent,
    UpstreamError,
    UpstreamResponse,
)

#: A client that sends less than this in `STALL_TIMEOUT_S` counts as stalled, in bytes.
_MIN_PROGRESS_BYTES: Final = 80 * 1024
#: `Retry-After` for a client whose upload is aborted for another request, in seconds.
_RETRY_AFTER_S: Final = 10


class Cancellable(Protocol):
    """A request under way."""

    def cancel(self) -> None:
        """Close its connection."""


class ExchangeOwner(Protocol):
    """The client that sends timed requests."""

    reactor: Any
    max_connections: int
    #: The requests whose content is being sent.
    sending: set[TimedRequest]
    #: How many requests wait for a response, or receive its content.
    open_exchanges: int

    def receive(
        self, response: Any, on_end: Callable[[], object], is_contended: Callable[[], bool]
    ) -> IncomingContent:
        """Return the content of a response."""


@define(eq=False)
class TimedRequest:
    """A request under way; *response* fires once the fields of the response were received.

    It fails with `UpstreamError`, or with `MirrorError` if it was preempted. Cancelling it closes
    the connection. The timeout runs only while the mirror waits for GitHub, not for the client.
    """

    client: ExchangeOwner
    on_end: Callable[[], object]
    is_contended: Callable[[], bool]
    timeout_s: float
    response: Deferred[UpstreamResponse] = field(init=False)
    #: Since when the client has sent hardly any content (reactor's clock); None: it sends.
    stalled_at: float | None = None
    #: How many bytes of content the client has sent since then.
    _progress: int = 0
    #: What cancels it, once it is being sent; set by the client.
    under_way: Cancellable | None = None
    _timer: ReadBeforeTimeout | None = None
    _is_timed_out: bool = False
    _is_cancelled: bool = False
    _is_preempted: bool = False
    #: Whether there is a response or an error.
    _is_over: bool = False
    #: When it began (reactor's clock).
    _began: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.response = Deferred(self._cancelled)
        reactor = self.client.reactor
        self._began = reactor.seconds()
        self._timer = ReadBeforeTimeout(reactor.callLater, self.timeout_s, self._time_out)

    def preempt(self) -> None:
        """Abort the upload of a stalled client, so that another request gets the connection."""
        self._is_preempted = True
        self._cancel()

    # Called by the content of the request while it is sent.

    def note_waiting_for_github(self) -> None:
        """Restart the timeout."""
        self.stalled_at = None
        if self._is_over:
            return
        if self._timer is not None:
            self._timer.reset(self.timeout_s)
        else:
            self._timer = ReadBeforeTimeout(
                self.client.reactor.callLater, self.timeout_s, self._time_out
            )

    def note_waiting_for_client(self, size: int = 0) -> None:
        """Stop the timeout; the client has just sent *size* bytes."""
        self._stop_timer()
        if self._is_over:
            return
        self._progress += size
        if self.stalled_at is None or self._progress >= _MIN_PROGRESS_BYTES:
            self._progress = 0
            self.stalled_at = self.client.reactor.seconds()
        self.client.sending.add(self)

    # How it ends.

    def _end(self) -> None:
        self._is_over = True
        self.stalled_at = None
        self.client.sending.discard(self)
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _time_out(self) -> None:
        self._timer = None
        self._is_timed_out = True
        self._cancel()

    def _cancelled(self, _: object) -> None:
        self._is_cancelled = True
        self._cancel()

    def _cancel(self) -> None:
        if self.under_way is not None:
            self.under_way.cancel()

    def response_received(self, response: Any) -> None:
        """Return the response; the exchange ends with its content."""
        self._end()
        # Clients that read only the first line of `Link` would miss pages.
        fields = without_invalid_etag(Fields.of(tuple(response.lines)).in_one_line(b"link"))
        seconds = self.client.reactor.seconds() - self._began
        if response.length == 0:
            # The connection is free already.
            self.client.open_exchanges -= 1
            self.response.callback(
                UpstreamResponse(response.code, fields, EMPTY_CONTENT, seconds=seconds)
            )
            self.on_end()
        else:
            content = self.client.receive(response, self.on_end, self.is_contended)
            self.response.callback(
                UpstreamResponse(response.code, fields, content, seconds=seconds)
            )

    def request_failed(self, reason: Failure) -> None:
        """End the exchange with an error."""
        self._end()
        self.client.open_exchanges -= 1
        self.on_end()
        if self._is_timed_out:
            text = f"no response within {self.timeout_s:.3g} s"
            self.response.errback(UpstreamError("timeout", text))
        elif self._is_preempted:
            limit = f"[github] max_connections = {self.client.max_connections}"
            self.response.errback(error_responses.overloaded(limit, _RETRY_AFTER_S))
        elif not self._is_cancelled:
            # A cancelled Deferred fails by itself.
            self.response.errback(_upstream_error(reason))


def _upstream_error(failure: Failure) -> UpstreamError:
    assert failure.value is not None
    tls_error = tls_error_text(failure.value)
    if tls_error is not None:
        kind = "connect-error" if "certificate" in tls_error else "broken-answer"
        return UpstreamError(kind, tls_error)
    if failure.check(ConnectError, DNSLookupError):
        return UpstreamError("connect-error", failure.getErrorMessage())
    limit = exceeded_limit(failure)
    if limit:
        return UpstreamError("broken-answer", limit, limit=limit)
    if failure.check(ResponseNeverReceived):
        return UpstreamError("broken-answer", "the connection was lost before a response")
    return UpstreamError("broken-answer", repr(failure.value))
