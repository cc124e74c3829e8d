"""Variants beyond the cache key."""

from __future__ import annotations

import pytest

from ghmirror_tw.caching.forwarded_fields import canonical_request_fields
from ghmirror_tw.caching.records import Grant, Known
from ghmirror_tw.caching.representation_from_response import representation_of
from ghmirror_tw.caching.vary import (
    fields_beyond_key,
    may_be_reused,
    variant_id,
    without_other_variant,
)
from ghmirror_tw.http.fields import Fields


def sent(agent: bytes, **more: bytes) -> Fields:
    """Return a request as GitHub gets it."""
    fields = ((b"user-agent", agent), *[(name.encode(), each) for name, each in more.items()])
    return canonical_request_fields(Fields(fields))


def vary(value: bytes | None) -> Fields:
    return Fields(() if value is None else ((b"vary", value),))


@pytest.mark.parametrize(
    "named",
    [
        None,
        b"",
        b"*",
        b"Accept, Authorization, Cookie, X-GitHub-OTP,Accept-Encoding, Accept, X-Requested-With",
        b"Origin, Accept-Language, X-Unheard-Of",
        b"X-GitHub-Next-Global-ID",
    ],
)
def test_fields_that_are_equal_in_all_forwarded_requests(named: bytes | None) -> None:
    """Fields of the key, and those that GitHub never gets, make no difference."""
    assert fields_beyond_key(vary(named)) == ()
    assert variant_id(sent(b"a", origin=b"https://a.test"), vary(named)) is None


def test_the_user_agent_selects_a_variant() -> None:
    """Where `Vary` of the stored response, or of the one that confirms it, names it."""
    for named in (vary(b"Accept, User-Agent"), Fields(((b"vary", b"a"), (b"vary", b"USER-AGENT")))):
        one, other = variant_id(sent(b"a"), named), variant_id(sent(b"b"), named)
        assert one is not None
        assert one == variant_id(sent(b"a", accept=b"x"), vary(None), named)
        assert one != other
        grant = Grant("00", None, None, None, 1.0, 1.0, varied=one)
        assert without_other_variant(sent(b"a"), Known(grant)).grant is grant
        assert without_other_variant(sent(b"b"), Known(grant)).grant is None


def test_grants_without_a_variant_are_used_for_all_requests() -> None:
    """And so does knowing of none."""
    grant = Grant("00", None, None, None, 1.0, 1.0)
    assert without_other_variant(sent(b"a"), Known(grant)).grant is grant
    assert without_other_variant(sent(b"a"), Known()) == Known()


def test_a_grant_with_unknown_fields_is_compared() -> None:
    """A field that another version has found to differ is compared as well."""
    fields = Fields(((b"origin", b"a"), (b"user-agent", b"x")))
    grant = Grant("00", None, None, None, 1.0, 1.0, varied=b"origin=00")
    assert without_other_variant(fields, Known(grant)).grant is None


def test_a_response_that_varies_by_everything_is_validated_each_time() -> None:
    """It is neither fresh nor stale (RFC 9111, section 4.1)."""
    for named, reused in ((b"Accept", True), (b"*", False), (b"Accept, *", False)):
        assert may_be_reused(representation_of(vary(named), b"", None, 1)[0]) is reused
