"""The condition and the fields of stale responses."""

from __future__ import annotations

from attrs import evolve

from ghmirror_tw.caching.records import Grant, Known, Representation
from ghmirror_tw.caching.representation_from_response import representation_of
from ghmirror_tw.caching.staleness import (
    stale_grant,
    stale_response_fields,
    stored_response_fields,
)
from ghmirror_tw.http.fields import Fields

NOW = 1000.0
GRANT = Grant("d", b'"t"', None, b"<l>", requested_at=900.0, validated_at=901.0, epoch=b"1")
KNOWN = Known(grant=GRANT, epoch=b"1")


def stored(vary: bytes = b"Accept") -> Representation:
    described = Fields(((b"content-type", b"text/plain"), (b"vary", vary)))
    return representation_of(described, b"content", None, 1000)[0]


def test_a_grant_permits_stale_responses_within_the_limit() -> None:
    """Up to `stale_limit` after GitHub last confirmed it."""
    assert stale_grant(KNOWN, NOW, 99.0) == GRANT
    assert stale_grant(KNOWN, NOW, 98.9) is None


def test_missing_refused_and_outdated_grants_permit_none() -> None:
    """No grant, one out of a snapshot, a refusal since, or one that might have been missed."""
    assert stale_grant(Known(), NOW, 99.0) is None
    assert stale_grant(evolve(KNOWN, grant=evolve(GRANT, epoch=None)), NOW, 99.0) is None
    assert stale_grant(evolve(KNOWN, refused_at=900.0), NOW, 99.0) is None
    assert stale_grant(evolve(KNOWN, refused_at=899.9), NOW, 99.0) == GRANT
    assert stale_grant(evolve(KNOWN, current=False), NOW, 99.0) is None


def test_another_epoch_ends_the_permission() -> None:
    """After a write, a 401, or a loss in the store."""
    assert stale_grant(evolve(KNOWN, epoch=b"2"), NOW, 99.0) is None
    assert stale_grant(evolve(KNOWN, epoch=None), NOW, 99.0) is None


def test_the_fields_of_a_stale_response() -> None:
    """And what is stored with it, and what was last known of the quota."""
    quota = Fields(((b"x-ratelimit-remaining", b"7"),))
    shown = stale_response_fields(stored(), GRANT, quota)
    assert shown.get(b"x-from-cache") == b"1"
    assert shown.get(b"etag") == b'"t"'
    assert shown.get(b"link") == b"<l>"
    assert shown.get(b"content-type") == b"text/plain"
    assert shown.get(b"x-ratelimit-remaining") == b"7"


def test_without_a_request_to_github_the_grants_last_fields_are_sent() -> None:
    """Those that it has."""
    bare, full = GRANT, evolve(GRANT, scopes=b"repo", sso=b"partial-results", poll_interval=b"60")
    for grant, expected in (
        (bare, [None] * 3),
        (full, [b"repo", b"partial-results", b"60"]),
    ):
        shown = stored_response_fields(stored(), grant)
        names = (b"x-oauth-scopes", b"x-github-sso", b"x-poll-interval")
        assert [shown.get(name) for name in names] == expected
        assert shown.get(b"x-from-cache") is None
