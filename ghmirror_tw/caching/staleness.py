"""When a stale answer may be given, and what it says (RFC 9111, section 4.2.4).

On purpose stricter than the RFC: only to a credential that GitHub has itself shown this very
representation, not too long ago, that GitHub has not refused since, and that has not written since.
"""

from __future__ import annotations

from typing import Final

from ghmirror_tw.caching.records import Grant, Known, Representation
from ghmirror_tw.caching.update import freshened
from ghmirror_tw.http.fields import Fields

#: A sign for clients that `X-RateLimit-*` may be outdated (go-github: `X-From-Cache`).
_FROM_CACHE: Final = (b"x-from-cache", b"1")


def stale_grant(known: Known, now: float, stale_limit_s: float) -> Grant | None:
    """Return the grant with which a stale answer may be given, or None.

    The grant must permit one (see `order`), and *known* must be current: else a refusal may be
    missing.
    """
    grant = known.grant
    if grant is None or not known.permits or not known.current:
        return None
    return None if now - grant.validated_at > stale_limit_s else grant


def may_serve_stale(stored: Representation) -> bool:
    """Tell whether a representation may be given stale: not where it varies with everything."""
    return b"*" not in stored.fields.listed(b"vary")


def stored_response_fields(stored: Representation, grant: Grant) -> Fields:
    """Return the fields of a response from the store alone, without those of the quota.

    They are those of the representation, of the grant, and the last fields of the credential that
    clients rely on.
    """
    fields = freshened(stored.fields, grant, Fields())
    last = (
        (b"x-oauth-scopes", grant.scopes),
        (b"x-github-sso", grant.sso),
        (b"x-poll-interval", grant.poll_interval),
    )
    known = [(name, value) for name, value in last if value is not None]
    return Fields.of((*fields.lines, *known))


def stale_response_fields(stored: Representation, grant: Grant, quota: Fields) -> Fields:
    """Return the fields of a stale response; *quota* is the last known of its credential."""
    return Fields.of((*stored_response_fields(stored, grant).lines, *quota.lines, _FROM_CACHE))
