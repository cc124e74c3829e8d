"""The response of the mirror to all requests of a flight, before it is adapted to each client.

Its content is in one of three stages: `IncomingContent` is still being received, `CodedContent` was
received in full and is not stored, and a `Representation` is stored.
"""

from __future__ import annotations

from attrs import field

from ghmirror_tw.caching.records import Representation
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.outcomes import Outcome
from ghmirror_tw.runtime.frozen_values import frozen_value
from ghmirror_tw.upstream.upstream_interface import IncomingContent


@frozen_value
class CodedContent:
    """Content in memory, in its content coding (RFC 9110, section 8.4; empty: none)."""

    content: bytes = field(repr=False)
    coding: bytes = b""


@frozen_value
class Response:
    """The response to all requests of a flight.

    *fields* are end-to-end, without those that delimit or code the content. *body* is a stored
    representation, received content, or incoming content (in *coding*); None: no content.
    *storable*: the request is storable, so the mirror evaluates the client's preconditions.
    *granted*: the credential had a grant before, so the date in `If-Modified-Since` may be that of
    an earlier response to it. `Cache-Status` (RFC 9211) has *detail*, the reason to *forward* the
    request, and the *upstream_status* of GitHub's response; *age_s* is sent as `Age`. *charged*:
    GitHub counted the request against the quota, though it sent 304. *upstream_seconds*: the time
    from sending the request to GitHub's fields. *request_id*: GitHub's ID of the request where its
    response is not sent.
    """

    status: int
    fields: Fields
    outcome: Outcome
    body: Representation | CodedContent | IncomingContent | None
    coding: bytes = b""
    storable: bool = True
    forward: str | None = None
    upstream_status: int | None = None
    age_s: int | None = None
    detail: str | None = None
    collapsed: bool = False
    granted: bool = False
    charged: bool = False
    upstream_seconds: float | None = None
    request_id: bytes | None = None

    @property
    def incoming(self) -> IncomingContent | None:
        """The content that is still being received, which only one client can have."""
        if self.body is None or isinstance(self.body, (Representation, CodedContent)):
            return None
        return self.body


class NoUpstreamResponseError(Exception):
    """GitHub sent no usable response: *reason* as in `Cache-Status`, *status* if it sent one.

    *fallback* is the response for clients that may have no stale one: GitHub's own, or the
    mirror's error.
    """

    def __init__(self, reason: str, status: int | None, fallback: Response | MirrorError) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.fallback = fallback
