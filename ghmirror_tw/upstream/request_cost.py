"""What a request costs at GitHub: points of the secondary limit, and requests of the quota.

GitHub: rate limits for the REST API, "Calculating points for the secondary rate limit".
"""

from __future__ import annotations

from typing import Final

from ghmirror_tw.github.graphql import is_graphql
from ghmirror_tw.github.rate_limit_resources import is_quota_request
from ghmirror_tw.http.request import READ_METHODS, Request

#: The points of a read, and of a write.
READ_POINTS: Final = 1
WRITE_POINTS: Final = 5
_UNSAFE: Final = frozenset({b"POST", b"PUT", b"PATCH", b"DELETE"})


def points_of(request: Request, *, mutates: bool) -> int:
    """Return the points of a request; *mutates*: whether its GraphQL content has a mutation."""
    writes = mutates if is_graphql(request) else request.method in _UNSAFE
    return WRITE_POINTS if writes else READ_POINTS


def spends(request: Request) -> bool:
    """Return whether a read is counted against the quota with any response.

    A conditional request may be free: a 304 costs nothing, if the request has a credential. A
    request for the rate limits costs nothing.
    """
    if request.method not in READ_METHODS or is_quota_request(request):
        return False
    fields = request.fields
    return request.authorization is None or (
        fields.get(b"if-none-match") is None and fields.get(b"if-modified-since") is None
    )
