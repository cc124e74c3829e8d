"""The records from a 304 and from a 200."""

from __future__ import annotations

import pytest
from attrs import evolve

from ghmirror_tw.caching import records_from_responses
from ghmirror_tw.caching.records import Entry, Grant, Known, Representation
from ghmirror_tw.caching.records_from_responses import GrantMetadata, from_200, from_304
from ghmirror_tw.caching.representation_from_response import representation_of
from ghmirror_tw.caching.validators import Validator, ValidatorKind
from ghmirror_tw.http.fields import Fields

JSON = Fields(((b"content-type", b"application/json"),))


def stored(content: bytes = b"[1]") -> Representation:
    return representation_of(JSON, content, None, 1000)[0]


def grant(digest: str, **more: object) -> Grant:
    values = {"last_modified": b"then", "link": b"<x>; rel=next", "shareable": False, **more}
    return Grant(digest, b'"old"', requested_at=1.0, validated_at=2.0, **values)  # type: ignore[arg-type]


def entry(digest: str, **more: object) -> Entry:
    values = {"received_at": 1.0, "validated_at": 2.0, "shareable": True, "size": 3, **more}
    return Entry(digest, **values)  # type: ignore[arg-type]


WORD = GrantMetadata(Fields(), requested_at=10.0, received_at=11.0, login="alice")


def test_an_own_validator_confirms_the_own_grant() -> None:
    """Fields that a 304 omits are those of the credential's own grant."""
    held = stored()
    known = Known(grant=grant(held.digest))
    validator = Validator(b'"tag"', ValidatorKind.OWN, held.digest)
    made, listed = from_304(known, validator, held, WORD)
    assert (made.etag, made.link, made.last_modified) == (b'"tag"', b"<x>; rel=next", b"then")
    assert (made.requested_at, made.validated_at, made.principal) == (10.0, 11.0, "alice")
    assert not made.shareable
    assert (listed.received_at, listed.validated_at, listed.shareable) == (0.0, 11.0, False)


def test_fields_of_a_304_replace_stored_fields() -> None:
    """Fields of the 304 itself outweigh those from before."""
    held = stored()
    fields = Fields(((b"etag", b'W/"tag"'), (b"link", b"<y>"), (b"last-modified", b"now")))
    known = Known(grant=grant(held.digest), entries=(entry(held.digest, principal="bob"),))
    validator = Validator(b'"tag"', ValidatorKind.OWN, held.digest)
    made, listed = from_304(known, validator, held, evolve(WORD, fields=fields, login=None))
    assert (made.etag, made.link, made.last_modified) == (b'W/"tag"', b"<y>", b"now")
    assert (listed.principal, listed.received_at) == ("bob", 1.0)


def test_a_computed_tag_confirms_a_shared_representation() -> None:
    """The `Link` of a shared response is that of the recency list, and never the grant's."""
    held = stored()
    known = Known(grant=grant("other"), entries=(entry(held.digest, link=b"<z>"),))
    validator = Validator(b'"tag"', ValidatorKind.COMPUTED, held.digest)
    made, listed = from_304(known, validator, held, WORD)
    assert (made.digest, made.link, made.last_modified) == (held.digest, b"<z>", None)
    assert made.shareable
    assert listed.principal == "alice"


def test_a_304_to_the_empty_list_creates_an_entry() -> None:
    """A representation that `[]` confirms is new to the recency list."""
    held = stored(b"[]")
    made, listed = from_304(
        Known(), Validator(b'"tag"', ValidatorKind.EMPTY, held.digest), held, WORD
    )
    assert (made.link, listed.received_at) == (None, 11.0)


def test_a_date_confirms_without_a_tag() -> None:
    """A grant without entity-tag stays without one."""
    held = stored()
    known = Known(grant=evolve(grant(held.digest), etag=None))
    assert (
        from_304(known, Validator(b"", ValidatorKind.DATED, held.digest), held, WORD)[0].etag
        is None
    )


def test_a_confirmed_date_leaves_the_entity_tag() -> None:
    """That of the 304 may be of later content, which has the same date."""
    held = stored()
    known = Known(grant=grant(held.digest, shareable=True))
    word = evolve(WORD, fields=Fields(((b"etag", b'"later"'), (b"last-modified", b"then"))))
    made, _ = from_304(known, Validator(b"", ValidatorKind.DATED, held.digest), held, word)
    assert (made.etag, made.last_modified, made.shareable) == (b'"old"', b"then", True)
    fields = records_from_responses.freshened(JSON, made, word.fields)
    assert fields.get_all(b"etag") == [b'"old"']


@pytest.mark.parametrize(
    ("kind", "own", "sent", "borrowed"),
    [
        (ValidatorKind.COMPUTED, None, None, True),
        (ValidatorKind.COMPUTED, None, b"now", False),
        (ValidatorKind.OWN, False, None, False),
        (ValidatorKind.OWN, True, None, True),
        (ValidatorKind.OWN, True, b"now", False),
        (ValidatorKind.DATED, False, None, False),
    ],
)
def test_a_date_is_borrowed_until_github_sends_it_to_the_credential(
    kind: ValidatorKind, own: bool | None, sent: bytes | None, borrowed: bool
) -> None:
    """A 304 without a date has that of the recency list, which is of any credential."""
    held = stored()
    before = None if own is None else grant(held.digest, borrowed_date=own)
    known = Known(grant=before, entries=(entry(held.digest, last_modified=b"then"),))
    fields = Fields() if sent is None else Fields(((b"last-modified", sent),))
    word = evolve(WORD, fields=fields)
    made, _ = from_304(known, Validator(b'"tag"', kind, held.digest), held, word)
    assert (made.last_modified, made.borrowed_date) == (sent or b"then", borrowed)
    undated = Known(entries=(entry(held.digest),))
    made, _ = from_304(undated, Validator(b'"tag"', kind, held.digest), held, WORD)
    assert not made.borrowed_date


def test_a_200_creates_a_grant_and_an_entry() -> None:
    """Both name the representation, and the entry names its predecessor."""
    held = stored()
    fields = Fields(((b"etag", b'"new"'), (b"link", b"<a>"), (b"last-modified", b"now")))
    known = Known(grant=grant("before"))
    word = evolve(WORD, fields=fields)
    made, listed = from_200(known, held, word, shareable=True)
    assert (made.etag, made.link, made.shareable) == (b'"new"', b"<a>", True)
    assert (listed.supersedes, listed.link, listed.received_at) == ("before", b"<a>", 11.0)


def test_a_grant_holds_its_expiry_variant_and_epoch() -> None:
    """Whether it was confirmed or brought."""
    held = stored()
    word = evolve(WORD, expires_at=99.0)
    made, _ = from_304(
        Known(), Validator(b'"tag"', ValidatorKind.COMPUTED, held.digest), held, word
    )
    assert made.expires_at == 99.0
    made, _ = from_200(Known(), held, word, shareable=True)
    assert made.expires_at == 99.0


def test_a_tag_that_the_server_has_changed_is_not_the_computed_one() -> None:
    """The grant has the new tag, which is not marked as computable for others."""
    held = stored()
    own = grant(held.digest, shareable=True)
    for tag, shareable in ((b'W/"tag"', True), (b'"other"', False)):
        word = evolve(WORD, fields=Fields(((b"etag", tag),)))
        for known, kind in (
            (Known(grant=own), ValidatorKind.OWN),
            (Known(), ValidatorKind.COMPUTED),
        ):
            made, _ = from_304(known, Validator(b'"tag"', kind, held.digest), held, word)
            assert (made.etag, made.shareable) == (tag, shareable)


def test_scopes_sso_and_poll_interval_are_the_last_received() -> None:
    """A 304 that omits them changes nothing; those of another credential are not used."""
    held = stored()
    fields = Fields(
        ((b"x-oauth-scopes", b"repo"), (b"x-github-sso", b"p"), (b"x-poll-interval", b"60"))
    )
    shown = evolve(WORD, fields=fields)
    first, listed = from_200(Known(), held, shown, shareable=True)
    known = Known(grant=first, entries=(listed,))
    for kind, word, expected in (
        (ValidatorKind.OWN, WORD, (b"repo", b"p", b"60")),
        (ValidatorKind.COMPUTED, WORD, (None, None, None)),
        (ValidatorKind.COMPUTED, shown, (b"repo", b"p", b"60")),
    ):
        made, _ = from_304(known, Validator(b'"tag"', kind, held.digest), held, word)
        assert (made.scopes, made.sso, made.poll_interval) == expected


def test_a_304_freshens_all_but_the_fields_of_the_content() -> None:
    """The fields of the content are unchanged; all others are those of the 304."""
    given = grant("own", link=b"<a>")
    response = Fields(
        ((b"content-type", b"text/html"), (b"link", b"<b>"), (b"x-ratelimit-used", b"1"))
    )
    fresh = records_from_responses.freshened(JSON, given, response)
    assert fresh.get(b"content-type") == b"application/json"
    assert (fresh.get(b"link"), fresh.get(b"etag")) == (b"<b>", b'"old"')
    assert fresh.get(b"x-ratelimit-used") == b"1"


@pytest.mark.parametrize("name", [b"status", b"content-range", b"content-digest"])
def test_fields_that_describe_the_304_are_not_merged(name: bytes) -> None:
    """Also where the stored response has no such field."""
    response = Fields(((name, b"304 Not Modified"), (b"date", b"now")))
    assert records_from_responses.freshened(JSON, grant("own"), response).get(name) is None
    assert records_from_responses.freshened(JSON, grant("own"), response).get(b"date") == b"now"
