"""A rate limit that GitHub has reported: its kind, scope and end, and responses that repeat it.

A primary limit applies to one resource of a credential. A secondary limit has a scope: requests
that create content, one resource, or the whole credential (GitHub: rate limits).
"""

from __future__ import annotations

import json
from enum import Enum
from math import ceil
from typing import Final

from attrs import field, frozen

from ghmirror_tw.http.fields import Fields

#: The longest limit, in seconds: GitHub's longest window. A probe is sent at its end.
LONGEST_S: Final = 3600.0

#: The scope of a limit for all requests of a credential, and of one for requests that create
#: content. No name of a resource has a hyphen.
EVERYTHING: Final = ""
CONTENT_CREATION: Final = "content-creation"
_DOCUMENTATION: Final = "https://docs.github.com"

#: The links in GitHub's own limited responses. Clients distinguish the two by the end of the URL.
_PRIMARY_URL: Final = f"{_DOCUMENTATION}/rest/overview/rate-limits-for-the-rest-api"
_SECONDARY_URL: Final = (
    f"{_DOCUMENTATION}/free-pro-team@latest/rest/overview/rate-limits-for-the-rest-api"
    "#about-secondary-rate-limits"
)


class LimitKind(Enum):
    """Primary limits are quotas of resources; secondary ones protect GitHub from overload."""

    PRIMARY = "primary"
    SECONDARY = "secondary"

    @property
    def reason(self) -> str:
        """The reason in `Cache-Status` of a stale response."""
        return f"{self.value}-limit"


@frozen
class Limit:
    """A rate limit in force *until* a time in seconds since the epoch.

    *scope*: GitHub's name of the resource, `EVERYTHING` or `CONTENT_CREATION`. *status*, *fields*
    and *content* are those of GitHub's response, which is repeated to clients; without content,
    GitHub's usual message is sent. *hinted*: the response had the time of the end.
    """

    kind: LimitKind
    scope: str
    until: float
    status: int = 403
    fields: tuple[tuple[bytes, bytes], ...] = ()
    content: bytes = field(default=b"", repr=False)
    hinted: bool = True

    def response(self, now: float) -> tuple[int, Fields, bytes]:
        """Return status, fields and content of GitHub's response, up to date for *now*.

        `Retry-After` counts down, to one second at least; it is absent if GitHub did not send it.
        """
        fields = Fields.of(self.fields)
        if fields.get(b"retry-after") is not None:
            left_s = max(ceil(self.until - now), 1)
            fields = fields.with_line(b"retry-after", b"%d" % left_s)
        if self.content:
            return self.status, fields, self.content
        fields = fields.with_line(b"content-type", b"application/json; charset=utf-8")
        return self.status, fields, self._usual_content()

    def _usual_content(self) -> bytes:
        """Return GitHub's usual content for such a limit."""
        primary = self.kind is LimitKind.PRIMARY
        if primary:
            message = "API rate limit exceeded"
        elif self.scope == CONTENT_CREATION:
            message = (
                "You have exceeded a secondary rate limit and have been temporarily blocked from "
                "content creation. Please retry your request again later."
            )
        else:
            message = (
                "You have exceeded a secondary rate limit. Please wait a few minutes before you "
                "try again."
            )
        url = _PRIMARY_URL if primary else _SECONDARY_URL
        value = {"message": message, "documentation_url": url, "status": str(self.status)}
        return json.dumps(value).encode()


def latest_of_each_scope(limits: tuple[Limit, ...], more: tuple[Limit, ...]) -> tuple[Limit, ...]:
    """Return the limits of both lists, keeping for each scope the one that ends last."""
    if not limits or not more:
        return limits or more
    latest: dict[str, Limit] = {}
    for limit in (*limits, *more):
        known = latest.get(limit.scope)
        if known is None or known.until < limit.until:
            latest[limit.scope] = limit
    return tuple(latest.values())
