"""Responses by which GitHub refuses a credential or a cache key."""

from __future__ import annotations

from enum import Enum
from typing import Final

from ghmirror_tw.http.request import READ_METHODS, Request

_UNAUTHORIZED: Final = 401
#: Statuses that refuse a cache key to a credential, unless they report a rate limit.
_REFUSING: Final = frozenset({_UNAUTHORIZED, 403, 404, 410, 451})


class RefusedScope(Enum):
    """What GitHub refuses to a credential: one cache key, or everything."""

    KEY = "key"
    EVERYTHING = "everything"


def refused_scope(request: Request, status: int) -> RefusedScope | None:
    """Return what a response refuses: everything, the key of the request, or None.

    A 401 refuses everything to a credential. Without a credential it refuses the key: GitHub
    requires a credential for that URL by now. A write that is refused shows nothing of its URL. The
    response must not report a rate limit (see `limit_interpretation`).
    """
    if status == _UNAUTHORIZED and request.authorization is not None:
        return RefusedScope.EVERYTHING
    refuses = status in _REFUSING and request.method in READ_METHODS
    return RefusedScope.KEY if refuses else None
