"""Responses by which GitHub refuses a credential or a cache key."""

from __future__ import annotations

from typing import Final

#: Statuses that refuse a cache key to a credential, unless they report a rate limit.
_REFUSING: Final = frozenset({403, 404, 410, 451})


def refused_scope(status: int) -> str | None:
    """Return the scope of a refusal: ``credential`` (401), ``key`` (403, 404, 410, 451), or None.

    The response must not report a rate limit (see `limited_responses`).
    """
    if status == 401:  # noqa: PLR2004
        return "credential"
    return "key" if status in _REFUSING else None
