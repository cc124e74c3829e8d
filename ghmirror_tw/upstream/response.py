"""What the mirror has for a client, before it is fitted to how that client asked."""

from __future__ import annotations

from attrs import field, frozen

from ghmirror_tw.caching.records import Representation
from ghmirror_tw.http.cache_status import Outcome
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.upstream.upstream_interface import IncomingContent


@frozen
class BufferedContent:
    """Content that is here in full, in the coding that GitHub chose (empty: none)."""

    content: bytes = field(repr=False)
    coding: bytes = b""


@frozen
class Response:
    """An answer for all who asked the same: what differs between them comes later.

    *fields* are end-to-end, without what delimits or codes the content. *body* is what was
    stored, what came, or what is still coming (in *coding*); None: there is none.
    *storable*: it answers a request whose preconditions we judge and whose freshness we vouch
    for. *granted*: the credential had a grant before, so that the date in `If-Modified-Since` may
    be that of a response to it. *forward*, *asked* (GitHub's status), *detail* and *age_s* are sent
    in `Cache-Status` and `Age`. *charged*: GitHub counted it, though it is a 304.
    """

    status: int
    fields: Fields
    outcome: Outcome
    body: Representation | BufferedContent | IncomingContent | None
    coding: bytes = b""
    storable: bool = True
    forward: str | None = None
    asked: int | None = None
    age_s: int | None = None
    detail: str | None = None
    collapsed: bool = False
    granted: bool = False
    charged: bool = False

    @property
    def incoming(self) -> IncomingContent | None:
        """The content that is still coming, and that only one client can have."""
        if self.body is None or isinstance(self.body, (Representation, BufferedContent)):
            return None
        return self.body


class NoUpstreamResponseError(Exception):
    """GitHub could not or would not say; *reason* as in `Cache-Status`, *status* where it gave one.

    *otherwise* is what the client gets if there is no stale answer for it.
    """

    def __init__(self, reason: str, status: int | None, otherwise: Response | MirrorError) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.otherwise = otherwise
