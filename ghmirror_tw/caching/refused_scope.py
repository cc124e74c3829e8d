"""Responses by which GitHub refuses a credential or a cache key."""

from __future__ import annotations

from enum import Enum
from typing import Final

#: Statuses that refuse a cache key to a credential, unless they report a rate limit.
_REFUSING: Final = frozenset({403, 404, 410, 451})


class RefusedScope(Enum):
    """What GitHub refuses to a credential: one cache key, or everything."""

    KEY = "key"
    EVERYTHING = "everything"


def refused_scope(status: int) -> RefusedScope | None:
    """Return what a response refuses: everything (401), the key (`_REFUSING`), or None.

    The response must not report a rate limit (see `limited_responses`).
    """
    if status == 401:  # noqa: PLR2004
        return RefusedScope.EVERYTHING
    return RefusedScope.KEY if status in _REFUSING else None
