"""What a 304 confirms and a 200 brings, as records."""

from __future__ import annotations

import base64

from attrs import evolve

from ghmirror_tw.caching.content_codings import represent
from ghmirror_tw.caching.records import Entry, Grant, Known, Representation
from ghmirror_tw.caching.update import ResponseMetadata, brought, confirmed, expires_at
from ghmirror_tw.caching.validators import Validator, ValidatorKind
from ghmirror_tw.http.fields import Fields

JSON = Fields(((b"content-type", b"application/json"),))


def stored(content: bytes = b"[1]") -> Representation:
    return represent(JSON, content, None, 1000)[0]


def grant(digest: str, **more: object) -> Grant:
    values = {"last_modified": b"then", "link": b"<x>; rel=next", "shareable": False, **more}
    return Grant(digest, b'"old"', asked_at=1.0, validated_at=2.0, **values)  # type: ignore[arg-type]


def entry(digest: str, **more: object) -> Entry:
    values = {"brought_at": 1.0, "validated_at": 2.0, "shareable": True, "size": 3, **more}
    return Entry(digest, **values)  # type: ignore[arg-type]


WORD = ResponseMetadata(Fields(), asked_at=10.0, came_at=11.0, login="alice")


def test_an_own_validator_confirms_what_the_credential_had() -> None:
    """What a 304 leaves out is kept from the credential's own grant."""
    held = stored()
    known = Known(grant=grant(held.digest))
    validator = Validator(b'"tag"', ValidatorKind.OWN, held.digest)
    made, listed = confirmed(known, validator, held, WORD)
    assert (made.etag, made.link, made.last_modified) == (b'"tag"', b"<x>; rel=next", b"then")
    assert (made.asked_at, made.validated_at, made.principal) == (10.0, 11.0, "alice")
    assert not made.shareable
    assert (listed.brought_at, listed.validated_at, listed.shareable) == (0.0, 11.0, False)


def test_a_304_says_more_than_what_was_stored() -> None:
    """Fields of the 304 itself outweigh those from before."""
    held = stored()
    fields = Fields(((b"etag", b'W/"tag"'), (b"link", b"<y>"), (b"last-modified", b"now")))
    known = Known(grant=grant(held.digest), entries=(entry(held.digest, principal="bob"),))
    validator = Validator(b'"tag"', ValidatorKind.OWN, held.digest)
    made, listed = confirmed(known, validator, held, evolve(WORD, fields=fields, login=None))
    assert (made.etag, made.link, made.last_modified) == (b'W/"tag"', b"<y>", b"now")
    assert (listed.principal, listed.brought_at) == ("bob", 1.0)


def test_a_computed_tag_confirms_what_another_brought() -> None:
    """The `Link` of a shared answer is that of the recency list, and never the grant's."""
    held = stored()
    known = Known(grant=grant("other"), entries=(entry(held.digest, link=b"<z>"),))
    validator = Validator(b'"tag"', ValidatorKind.COMPUTED, held.digest)
    made, listed = confirmed(known, validator, held, WORD)
    assert (made.digest, made.link, made.last_modified) == (held.digest, b"<z>", None)
    assert made.shareable
    assert listed.principal == "alice"


def test_a_guess_brings_the_empty_list() -> None:
    """What `[]` confirms is new to the recency list."""
    held = stored(b"[]")
    made, listed = confirmed(
        Known(), Validator(b'"tag"', ValidatorKind.EMPTY, held.digest), held, WORD
    )
    assert (made.link, listed.brought_at) == (None, 11.0)


def test_a_date_confirms_without_a_tag() -> None:
    """A grant without entity-tag stays without one."""
    held = stored()
    known = Known(grant=evolve(grant(held.digest), etag=None))
    assert (
        confirmed(known, Validator(b"", ValidatorKind.OWN, held.digest), held, WORD)[0].etag is None
    )


def test_a_200_brings_a_grant_and_an_entry() -> None:
    """Both name the representation; the entry says what it came in place of."""
    held = stored()
    fields = Fields(((b"etag", b'"new"'), (b"link", b"<a>"), (b"last-modified", b"now")))
    known = Known(grant=grant("before"))
    word = evolve(WORD, fields=fields)
    made, listed = brought(known, held, word, shareable=True)
    assert (made.etag, made.link, made.shareable) == (b'"new"', b"<a>", True)
    assert (listed.supersedes, listed.link, listed.brought_at) == ("before", b"<a>", 11.0)


DAY = 86_400.0
TOLD = b"github-authentication-token-expiration"


def until(
    authorization: bytes | None, told: bytes | None = None, limit_s: float = 7 * DAY
) -> float:
    fields = Fields() if told is None else Fields(((TOLD, told),))
    return expires_at(authorization, fields, 1000.0, limit_s)


def test_a_grant_is_kept_as_long_as_it_may_be_needed() -> None:
    """As long as stale answers, and a day at least; nobody's grants too."""
    for authorization in (b"token abc", b"Bearer abc", b"Basic !", b"Basic abcde", b"", None):
        assert until(authorization) == 1000.0 + 7 * DAY
        assert until(authorization, limit_s=60.0) == 1000.0 + DAY


def test_an_installations_grant_is_kept_for_an_hour() -> None:
    """Its token lives no longer, however it is sent."""
    basic = b"Basic " + base64.b64encode(b"x-access-token:ghs_abc")
    for authorization in (b"token ghs_abc", b"Bearer ghs_abc", basic):
        assert until(authorization) == 1000.0 + 3600.0


def test_grants_do_not_outlive_the_tokens_of_apps() -> None:
    """A token that an App has for a user lives eight hours, and the App's own ten minutes."""
    assert until(b"Bearer ghu_abc") == 1000.0 + 8 * 3600.0
    assert until(b"Bearer eyJhbGciOiJSUzI1NiJ9.e30.abc") == 1000.0 + 600.0
    assert until(b"token gho_abc") == 1000.0 + 7 * DAY


def test_a_grant_does_not_outlive_its_token() -> None:
    """Where GitHub tells when that ends; what it tells in another way is not understood."""
    assert until(b"token abc", b"1970-01-01 02:00:00 UTC") == 7200.0
    assert until(b"token abc", b"1970-01-01 04:00:00 +0200") == 7200.0
    assert until(b"token abc", b"1970-01-01 00:00:00 UTC") == 1060.0
    for other in (b"tomorrow", b"9999-12-31 23:59:59 UTC", b"\xff", b"0001-01-01 00:00:00 +2359"):
        assert until(b"token abc", other) >= 1060.0


def test_what_a_grant_is_good_for_is_in_it() -> None:
    """Whether it was confirmed or brought."""
    held = stored()
    word = evolve(WORD, expires_at=99.0)
    made, _ = confirmed(
        Known(), Validator(b'"tag"', ValidatorKind.COMPUTED, held.digest), held, word
    )
    assert made.expires_at == 99.0
    made, _ = brought(Known(), held, word, shareable=True)
    assert made.expires_at == 99.0


def test_a_tag_that_the_server_has_changed_is_not_the_computed_one() -> None:
    """The grant has the new tag, and does not say that others can compute it."""
    held = stored()
    own = grant(held.digest, shareable=True)
    for tag, shareable in ((b'W/"tag"', True), (b'"other"', False)):
        word = evolve(WORD, fields=Fields(((b"etag", tag),)))
        for known, kind in (
            (Known(grant=own), ValidatorKind.OWN),
            (Known(), ValidatorKind.COMPUTED),
        ):
            made, _ = confirmed(known, Validator(b'"tag"', kind, held.digest), held, word)
            assert (made.etag, made.shareable) == (tag, shareable)


def test_scopes_sso_and_poll_interval_are_those_that_came_last() -> None:
    """A 304 that leaves them out changes nothing; those of another credential are not taken."""
    held = stored()
    fields = Fields(
        ((b"x-oauth-scopes", b"repo"), (b"x-github-sso", b"p"), (b"x-poll-interval", b"60"))
    )
    told = evolve(WORD, fields=fields)
    first, listed = brought(Known(), held, told, shareable=True)
    known = Known(grant=first, entries=(listed,))
    for kind, word, expected in (
        (ValidatorKind.OWN, WORD, (b"repo", b"p", b"60")),
        (ValidatorKind.COMPUTED, WORD, (None, None, None)),
        (ValidatorKind.COMPUTED, told, (b"repo", b"p", b"60")),
    ):
        made, _ = confirmed(known, Validator(b'"tag"', kind, held.digest), held, word)
        assert (made.scopes, made.sso, made.poll_interval) == expected
