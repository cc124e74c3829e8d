"""The validators that are sent, and the one that a 304 confirms."""

from __future__ import annotations

import pytest

from ghmirror_tw.caching import representation_from_response, validators
from ghmirror_tw.caching.records import Entry, Grant, Known
from ghmirror_tw.caching.validators import Validator, ValidatorKind
from ghmirror_tw.github import entity_tag_rule
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request

JSON = Fields(((b"content-type", b"application/json"), (b"vary", b"Accept, Authorization")))


def entry(digest: str, **more: object) -> Entry:
    values = {"received_at": 5.0, "validated_at": 5.0, "shareable": True, "size": 3, **more}
    return Entry(digest, **values)  # type: ignore[arg-type]


def grant(digest: str = "own", **more: object) -> Grant:
    values = {"etag": b'"own"', "last_modified": None, "link": None, **more}
    return Grant(digest, requested_at=1.0, validated_at=2.0, **values)  # type: ignore[arg-type]


def chosen(known: Known, principal: str | None = None, **more: bool) -> list[str]:
    flags = {"lists": True, "proven": True, **more}
    return [each.digest for each in validators.candidates(known, principal, **flags)]


def request(*lines: tuple[bytes, bytes]) -> Request:
    return Request(b"GET", b"/x", Fields(lines))


def test_without_a_grant_all_shareable_entries_are_candidates() -> None:
    """Those last granted to the same principal are first."""
    known = Known(
        entries=(entry("a"), entry("b", principal="me"), entry("c", shareable=False)),
    )
    assert chosen(known, "me") == ["b", "a"]
    assert chosen(known) == ["a", "b"]
    assert chosen(known, lists=False) == ["a"]


def test_with_a_grant_only_later_representations_are_candidates() -> None:
    """A list that isn't proven is sent only where the grant's own is known to be superseded."""
    old, own, new = entry("old", received_at=0.5), entry("own"), entry("new", supersedes="own")
    known = Known(grant=grant(), entries=(old, own, new, entry("other")))
    assert chosen(known) == ["new", "other"]
    assert chosen(known, proven=False) == ["new"]
    assert chosen(known, lists=False) == []


def test_candidates_are_bounded_by_their_content() -> None:
    """More than eight megabytes in all are not hashed."""
    known = Known(entries=(entry("a", size=validators.CANDIDATE_BYTES), entry("b")))
    assert chosen(known) == ["a"]


@pytest.mark.parametrize(
    ("accept", "may"),
    [
        (None, True),
        (b"application/vnd.github+json", True),
        (b"application/json; q=1, */*", True),
        (b"application/vnd.github.raw", False),
    ],
)
def test_only_json_may_be_the_empty_list(accept: bytes | None, may: bool) -> None:
    """A raw file of two brackets has another media type."""
    sent = request() if accept is None else request((b"accept", accept))
    assert validators.may_be_empty_list(sent) is may


def test_the_validators_of_a_client() -> None:
    """They are used unchanged, up to eight of them."""
    assert validators.client_validators(request()) == ()
    many = b", ".join(b'"%d"' % number for number in range(9))
    sent = request((b"if-none-match", many))
    assert [item.tag for item in validators.client_validators(sent)] == [
        b'"%d"' % n for n in range(8)
    ]


def test_the_precondition_of_validators() -> None:
    """Tags go before dates, and a date is never sent beside a tag."""
    both = (
        Validator(b'"a"', ValidatorKind.OWN, "a"),
        Validator(b'"b"', ValidatorKind.COMPUTED, "b"),
    )
    dated = grant(etag=None, last_modified=b"then")
    assert validators.condition_fields(both, dated).lines == ((b"if-none-match", b'"a", "b"'),)
    assert validators.condition_fields((), dated).lines == ((b"if-modified-since", b"then"),)
    tagged = grant(last_modified=b"then")
    assert validators.condition_fields((), tagged).lines == ((b"if-modified-since", b"then"),)
    assert validators.condition_fields((), None).lines == ()


def test_the_validator_that_a_304_confirms() -> None:
    """The tag of the 304 selects it; a single validator needs no tag."""
    one = Validator(b'"a"', ValidatorKind.OWN, "a")
    two = (one, Validator(b'"b"', ValidatorKind.COMPUTED, "b"))
    assert validators.confirmed_validator(two, b'W/"b"') is two[1]
    assert validators.confirmed_validator(two, b'"c"') is None
    assert validators.confirmed_validator(two, None) is None
    assert validators.confirmed_validator((one,), None) is one
    assert validators.confirmed_validator((one,), b'"c"') is one
    assert validators.was_ignored(two, b'"b"')
    assert not validators.was_ignored(two, b'"c"')
    assert not validators.was_ignored(two, None)


def test_tags_are_computed_for_the_requesting_credential() -> None:
    """By the representation's `Vary`; `[]` by all fields."""
    sent = request((b"authorization", b"token a"), (b"accept", b"*/*"))
    held = representation_from_response.representation_of(JSON, b"[1]", None, 100)[0]
    named = {"accept": b"*/*", "authorization": b"token a"}
    assert validators.computed_tag(sent, held, b"[1]") == entity_tag_rule.compute_entity_tag(
        b"[1]", b"*", **named
    )
    assert validators.empty_list_tag(sent) == entity_tag_rule.compute_entity_tag(
        b"[]", None, **named
    )


def test_there_may_be_candidates_beside_the_own_representation() -> None:
    """The quick test before the choice of candidates never misses one."""
    assert not validators.may_have_candidates(Known())
    assert not validators.may_have_candidates(Known(grant=grant()))
    assert not validators.may_have_candidates(Known(grant=grant(), entries=(entry("own"),)))
    assert validators.may_have_candidates(Known(entries=(entry("own"),)))
    assert validators.may_have_candidates(Known(grant=grant(), entries=(entry("other"),)))
    both = (entry("own"), entry("other"))
    assert validators.may_have_candidates(Known(grant=grant(), entries=both))
