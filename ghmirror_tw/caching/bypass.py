"""Requests that bypass the cache (RFC 9211, section 2.2)."""

from __future__ import annotations

from typing import Final

from ghmirror_tw.caching.key import is_key_field
from ghmirror_tw.github.rate_limit_resources import is_quota_request
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import READ_METHODS, Request
from ghmirror_tw.http.targets import has_secret_in_query

#: Request fields whose presence alone makes a request bypass the cache.
_BYPASS_FIELDS: Final = (
    b"range",
    b"x-github-otp",
    b"if-match",
    b"if-unmodified-since",
    b"if-range",
)


def bypass_reason(request: Request, *, has_content: bool = False) -> str | None:
    """Return why a request bypasses the cache: ``method`` or ``bypass``; None: it does not."""
    if request.method not in READ_METHODS:
        return "method"
    if (
        has_content
        or request.fields.memoised(has_bypass_fields)
        or is_quota_request(request)
        or has_secret_in_query(request.target)
    ):
        return "bypass"
    return None


def has_bypass_fields(fields: Fields) -> bool:
    """Return whether a request with these fields bypasses the cache, for every target."""
    return (
        any(fields.get(name) is not None for name in _BYPASS_FIELDS)
        or b"no-store" in fields.listed(b"cache-control")
        or _repeats_key_fields(fields)
    )


def _repeats_key_fields(fields: Fields) -> bool:
    """Return whether a field of the cache key, or `Authorization`, occurs more than once."""
    names = [name for name, _ in fields.lines if name == b"authorization" or is_key_field(name)]
    return len(names) > len(set(names))
