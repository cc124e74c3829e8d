"""Stale responses: their condition, and their fields (RFC 9111, section 4.2.4).

The condition is stricter than the RFC's. GitHub must have shown the representation to this very
credential, within the limit. Since then it must not have refused it, and the credential must not
have written.
"""

from __future__ import annotations

from typing import Final

from ghmirror_tw.caching.records import Grant, Known, Representation
from ghmirror_tw.caching.records_from_responses import freshened
from ghmirror_tw.http.fields import Fields

#: A sign for clients that `X-RateLimit-*` may be outdated (go-github: `X-From-Cache`).
_FROM_CACHE: Final = (b"x-from-cache", b"1")


def stale_grant(known: Known, now: float, stale_limit_s: float) -> Grant | None:
    """Return the grant that permits a stale response, or None (see `epochs`)."""
    grant = known.grant
    if grant is None or not known.currently_permits:
        return None
    return None if now - grant.validated_at > stale_limit_s else grant


def stored_response_fields(stored: Representation, grant: Grant) -> Fields:
    """Return the fields of a response that is built from the store alone.

    They are those of the representation and the grant, with the last `X-OAuth-Scopes`,
    `X-GitHub-SSO` and `X-Poll-Interval` of the credential.
    """
    fields = freshened(stored.fields, grant, Fields())
    last = (
        (b"x-oauth-scopes", grant.scopes),
        (b"x-github-sso", grant.sso),
        (b"x-poll-interval", grant.poll_interval),
    )
    present = [(name, value) for name, value in last if value is not None]
    return Fields.of((*fields.lines, *present))


def stale_response_fields(stored: Representation, grant: Grant, quota: Fields) -> Fields:
    """Return the fields of a stale response; *quota* are the last `X-RateLimit-*` fields."""
    return Fields.of((*stored_response_fields(stored, grant).lines, *quota.lines, _FROM_CACHE))
