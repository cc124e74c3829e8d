"""Responses by which GitHub refuses a credential or a cache key."""

from __future__ import annotations

from typing import Final

#: Statuses that refuse a key, unless they tell of a rate limit.
_REFUSING: Final = frozenset({403, 404, 410, 451})


def refused_scope(status: int) -> str | None:
    """Return what a response refuses: ``credential`` (401), ``key`` (403, 404), or None.

    The response tells of no rate limit (see `limits.meaning_of`). What is gone (410) or must not be
    shown (451) is refused like a target that is not found.
    """
    if status == 401:  # noqa: PLR2004
        return "credential"
    return "key" if status in _REFUSING else None
