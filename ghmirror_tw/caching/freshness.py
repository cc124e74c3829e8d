"""Freshness: which stored responses are sent without validation (RFC 9111, section 4.2)."""

from __future__ import annotations

from ghmirror_tw.caching.records import Known
from ghmirror_tw.http.fields import Fields


def is_fresh(known: Known, now: float, fresh_for_s: float, *, validate: bool) -> bool:
    """Return whether the stored response is fresh for the credential.

    It is for *fresh_for_s* after the last validation by this credential, where its grant permits
    that (see `epochs`). *validate*: the request wants a validation (`requires_validation`).
    """
    grant = known.grant
    return (
        grant is not None
        and not validate
        and 0.0 <= now - grant.validated_at < fresh_for_s
        and known.permits
    )


def requires_validation(fields: Fields) -> bool:
    """Return whether a request has `no-cache` (section 5.2.1.4), also by `Pragma` (section 5.4)."""
    return fields.memoised(_requires_validation)


def _requires_validation(fields: Fields) -> bool:
    if b"no-cache" in fields.listed(b"cache-control"):
        return True
    return fields.get(b"cache-control") is None and b"no-cache" in fields.listed(b"pragma")
