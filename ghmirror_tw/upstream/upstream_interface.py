"""How the mirror asks GitHub, so that it need not know by what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.web.iweb import IBodyProducer
from zope.interface import Interface

from ghmirror_tw.github.rate_limits import Limit
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from ghmirror_tw.upstream.byte_budget import Room


class UpstreamError(Exception):
    """GitHub gave no whole answer: *reason* is timeout, connect-error or broken-answer.

    *status*: that of the response, where its head was received. *limit*: the limit of the mirror
    that was exceeded (text, or an option and its value); empty: ``[github] timeout``, or none.
    """

    def __init__(self, reason: str, why: str, status: int | None = None, limit: str = "") -> None:
        super().__init__(why)
        self.reason = reason
        self.why = why
        self.status = status
        self.limit = limit

    @property
    def is_ours(self) -> bool:
        """Whether a limit of the mirror was exceeded, which is no failure of GitHub."""
        return self.reason == "broken-answer" and bool(self.limit)

    def __str__(self) -> str:
        return self.why


class IncomingContent(Protocol):
    """Content on its way from GitHub; see `content.Content`."""

    @property
    def length(self) -> int | None:
        """Bytes to come, where known beforehand."""

    @property
    def certain(self) -> bool:
        """Whether its end was certain."""

    def collect(
        self, limit_bytes: int, coding: bytes = b"", room: Room | None = None
    ) -> Deferred[bytes | None]:
        """Return it all, or None where it is longer, unpacked if *coding* is gzip.

        Not more is received at a time than there is *room* for; None where there is none in time.
        """

    def pass_on(self, sink: Callable[[bytes], None]) -> Deferred[bool]:
        """Give it to *sink*, piece by piece."""

    def abort(self) -> None:
        """Close the connection at once."""

    def pauseProducing(self) -> None:
        """Stop reading for now."""

    def resumeProducing(self) -> None:
        """Go on reading."""

    def stopProducing(self) -> None:
        """Abort."""


@frozen
class UpstreamResponse:
    """GitHub's answer, its content still to come.

    *fields* are end-to-end, with `Content-Encoding`, without what delimits the message. *limit*:
    the rate limit that it reports, once its content was examined. *refuses*: it refuses the request
    for good, though it may report an empty quota as well. *charged*: a 304 that was counted.
    """

    status: int
    fields: Fields
    content: IncomingContent
    limit: Limit | None = None
    refuses: bool = False
    charged: bool = False

    @property
    def limited(self) -> bool:
        """Whether the request was rate limited, and not refused for good."""
        return self.limit is not None and not self.refuses


class IUpstream(Interface):
    """Somebody who puts questions to GitHub."""

    def ask(
        request: Request,
        content: IBodyProducer | None,
        timeout_s: float,
        ended: Callable[[], object] = ...,
        is_wanted: Callable[[], bool] = ...,
    ) -> Deferred[UpstreamResponse]:
        """Return the answer once its fields have come, within *timeout_s* seconds.

        Whoever gets a reply must collect, pass on or abort its content. Cancelling closes the
        connection. Fails with `UpstreamError`. *ended* is called when the connection is free again,
        or there will be none. *is_wanted* tells whether another request waits for it to end: then
        it is aborted if its client is stalled.
        """

    def make_room() -> None:
        """Note that a request waits: look for exchanges that are wanted and stalled."""
