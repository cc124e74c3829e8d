"""The interface to GitHub: a request is sent, and a response is returned or an error raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.web.iweb import IBodyProducer
from zope.interface import Interface

from ghmirror_tw.github.reported_limit import Limit
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from ghmirror_tw.runtime.frozen_values import frozen_value
from ghmirror_tw.upstream.byte_budget import GrowingReservation


class UpstreamError(Exception):
    """No complete response was received: *reason* is timeout, connect-error or broken-answer.

    *why*: the text for logs. *status*: that of the response, where its head was received. *limit*:
    the limit of the mirror that was exceeded (text, or an option and its value); empty:
    ``[github] timeout``, or none.
    """

    def __init__(self, reason: str, why: str, status: int | None = None, limit: str = "") -> None:
        super().__init__(why)
        self.reason = reason
        self.why = why
        self.status = status
        self.limit = limit

    @property
    def is_local_limit(self) -> bool:
        """Whether a limit of the mirror was exceeded, which is no failure of GitHub."""
        return self.reason == "broken-answer" and bool(self.limit)

    def __str__(self) -> str:
        return self.why


class IncomingContent(Protocol):
    """The content of a response while it is received; see `upstream_content.UpstreamContent`."""

    @property
    def length(self) -> int | None:
        """The length in bytes, if GitHub sent it."""

    @property
    def is_delimited(self) -> bool:
        """False for content that only the end of the connection delimits (after its end)."""

    def collect(
        self, limit_bytes: int, coding: bytes = b"", reservation: GrowingReservation | None = None
    ) -> Deferred[bytes | None]:
        """Return all content, or None where it is longer than *limit_bytes*.

        With *coding* gzip, its decoded bytes are counted. It is received no faster than
        *reservation* grows; None where that takes too long.
        """

    def stream_to(self, sink: Callable[[bytes], None]) -> Deferred[bool]:
        """Pass it to *sink*, piece by piece."""

    def abort(self) -> None:
        """Close the connection at once."""

    def pauseProducing(self) -> None:
        """Stop reading for now."""

    def resumeProducing(self) -> None:
        """Continue to read."""

    def stopProducing(self) -> None:
        """Abort."""


@frozen_value
class UpstreamResponse:
    """A response from GitHub, with its content yet to be received.

    *fields* are end-to-end, with `Content-Encoding`, without fields that delimit the message.
    *limit*: the rate limit that it reports, once its content was examined. *refuses*: it refuses
    the request for good, though it may report an empty quota as well. *charged*: a 304 that was
    counted. *seconds*: the time from sending the request to the fields.
    """

    status: int
    fields: Fields
    content: IncomingContent
    limit: Limit | None = None
    refuses: bool = False
    charged: bool = False
    seconds: float | None = None

    @property
    def limited(self) -> bool:
        """Whether the request was rate limited, and not refused for good."""
        return self.limit is not None and not self.refuses


class IUpstream(Interface):
    """A client for GitHub."""

    def send(
        request: Request,
        content: IBodyProducer | None,
        timeout_s: float,
        on_end: Callable[[], object] = ...,
        is_contended: Callable[[], bool] = ...,
    ) -> Deferred[UpstreamResponse]:
        """Return the response once its fields were received, within *timeout_s* seconds.

        The caller must collect, stream or abort its content. Cancelling closes the connection.
        Fails with `UpstreamError`. *on_end* is called when the connection is free again or closed.
        *is_contended* returns whether another request waits for the end of this exchange: then it
        is aborted if its client is stalled.
        """

    def reclaim_stalled() -> None:
        """Look for contended exchanges with stalled clients, and abort them, as a request waits."""
