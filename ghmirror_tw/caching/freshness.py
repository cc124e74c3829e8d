"""Requests that a stored response satisfies only after validation (RFC 9111, section 5.2.1.4)."""

from __future__ import annotations

from ghmirror_tw.http.fields import Fields


def requires_validation(fields: Fields) -> bool:
    """Tell whether a request has `no-cache`, in `Cache-Control` or else in `Pragma`."""
    return fields.memoised(_requires_validation)


def _requires_validation(fields: Fields) -> bool:
    if b"no-cache" in fields.listed(b"cache-control"):
        return True
    return fields.get(b"cache-control") is None and b"no-cache" in fields.listed(b"pragma")
