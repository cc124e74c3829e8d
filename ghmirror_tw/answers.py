"""What the mirror has for a client, before it is fitted to how that client asked."""

from __future__ import annotations

from attrs import field, frozen

from ghmirror_tw.github.interfaces import IncomingContent
from ghmirror_tw.policy.cache_status import Outcome
from ghmirror_tw.policy.fields import Fields
from ghmirror_tw.policy.records import Representation


@frozen
class Whole:
    """Content that is here in full, in the coding that GitHub chose (empty: none)."""

    content: bytes = field(repr=False)
    coding: bytes = b""


@frozen
class Answer:
    """An answer for all who asked the same: what differs between them comes later.

    *fields* are end-to-end, without what delimits or codes the content. *body* is what was
    stored, what came, or what is still coming (in *coding*); None: there is none.
    *storable*: it answers a request whose preconditions we judge and whose freshness we vouch
    for. *forward*, *asked* (GitHub's status) and *age_s* are told in `Cache-Status` and `Age`.
    """

    status: int
    fields: Fields
    outcome: Outcome
    body: Representation | Whole | IncomingContent | None
    coding: bytes = b""
    storable: bool = True
    forward: str | None = None
    asked: int | None = None
    age_s: int | None = None
    collapsed: bool = False

    @property
    def incoming(self) -> IncomingContent | None:
        """The content that is still coming, and that only one client can have."""
        if self.body is None or isinstance(self.body, (Representation, Whole)):
            return None
        return self.body
