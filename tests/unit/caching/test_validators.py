"""With what a stored response is validated, what a 304 confirms, what is believed."""

from __future__ import annotations

import gzip

import pytest

from ghmirror_tw.caching import content_codings, validators
from ghmirror_tw.caching.records import Entry, Grant, Known, Representation
from ghmirror_tw.caching.validators import Validator, ValidatorKind
from ghmirror_tw.github.sharing import RETRY_S, WINDOW_S, Sharing
from ghmirror_tw.http import entity_tags
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.messages import Request

JSON = Fields(((b"content-type", b"application/json"), (b"vary", b"Accept, Authorization")))


def entry(digest: str, **more: object) -> Entry:
    values = {"brought_at": 5.0, "validated_at": 5.0, "shareable": True, "size": 3, **more}
    return Entry(digest, **values)  # type: ignore[arg-type]


def grant(digest: str = "own", **more: object) -> Grant:
    values = {"etag": b'"own"', "last_modified": None, "link": None, **more}
    return Grant(digest, asked_at=1.0, validated_at=2.0, **values)  # type: ignore[arg-type]


def chosen(known: Known, principal: str | None = None, **more: bool) -> list[str]:
    flags = {"lists": True, "proven": True, **more}
    return [each.digest for each in validators.candidates(known, principal, **flags)]


def request(*lines: tuple[bytes, bytes]) -> Request:
    return Request(b"GET", b"/x", Fields(lines))


def test_without_a_grant_all_shareable_ones_are_candidates() -> None:
    """Those last granted to the same principal come first."""
    known = Known(
        entries=(entry("a"), entry("b", principal="me"), entry("c", shareable=False)),
    )
    assert chosen(known, "me") == ["b", "a"]
    assert chosen(known) == ["a", "b"]
    assert chosen(known, lists=False) == ["a"]


def test_with_a_grant_only_what_was_brought_since_is() -> None:
    """A list that isn't proven is sent only where the grant's own is known to be superseded."""
    old, own, new = entry("old", brought_at=0.5), entry("own"), entry("new", supersedes="own")
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
def test_only_json_is_guessed_to_be_empty(accept: bytes | None, may: bool) -> None:
    """A raw file of two brackets has another media type."""
    asked = request() if accept is None else request((b"accept", accept))
    assert validators.may_be_empty(asked) is may


def test_a_client_s_own_tags() -> None:
    """They are taken as they are, up to eight of them."""
    assert validators.of_client(request()) == ()
    many = b", ".join(b'"%d"' % number for number in range(9))
    asked = request((b"if-none-match", many))
    assert [item.tag for item in validators.of_client(asked)] == [b'"%d"' % n for n in range(8)]


def test_conditions() -> None:
    """Tags go before dates; a date is sent only for a grant without a tag."""
    both = (
        Validator(b'"a"', ValidatorKind.OWN, "a"),
        Validator(b'"b"', ValidatorKind.COMPUTED, "b"),
    )
    dated = grant(etag=None, last_modified=b"then")
    assert validators.conditions(both, dated).lines == ((b"if-none-match", b'"a", "b"'),)
    assert validators.conditions((), dated).lines == ((b"if-modified-since", b"then"),)
    assert validators.conditions((), grant(last_modified=b"then")).lines == ()
    assert validators.conditions((), None).lines == ()


def test_what_a_304_confirms() -> None:
    """Its tag says; without one, one validator can only mean itself."""
    one = Validator(b'"a"', ValidatorKind.OWN, "a")
    two = (one, Validator(b'"b"', ValidatorKind.COMPUTED, "b"))
    assert validators.confirmed(two, b'W/"b"') is two[1]
    assert validators.confirmed(two, b'"c"') is None
    assert validators.confirmed(two, None) is None
    assert validators.confirmed((one,), None) is one
    assert validators.confirmed((one,), b'"c"') is one
    assert validators.was_ignored(two, b'"b"')
    assert not validators.was_ignored(two, b'"c"')
    assert not validators.was_ignored(two, None)


def test_a_304_freshens_what_may_be_freshened() -> None:
    """What the content is stays; all else is the answer's own."""
    given = grant(link=b"<a>", last_modified=b"then")
    answer = Fields(
        ((b"content-type", b"text/html"), (b"link", b"<b>"), (b"x-ratelimit-used", b"1"))
    )
    fresh = validators.freshen(JSON, given, answer)
    assert fresh.get(b"content-type") == b"application/json"
    assert (fresh.get(b"link"), fresh.get(b"etag")) == (b"<b>", b'"own"')
    assert fresh.get(b"x-ratelimit-used") == b"1"


def test_tags_are_computed_for_who_asks() -> None:
    """By the representation's `Vary`; `[]` by all fields."""
    asked = request((b"authorization", b"token a"), (b"accept", b"*/*"))
    held = content_codings.represent(JSON, b"[1]", None, 100)[0]
    named = {"accept": b"*/*", "authorization": b"token a"}
    assert validators.computed(asked, held, b"[1]") == entity_tags.compute(b"[1]", b"*", **named)
    assert validators.empty_tag(asked) == entity_tags.compute(b"[]", None, **named)


def test_packed_content_is_kept_as_it_came() -> None:
    """A representation is the same whether it came packed or not."""
    packed = gzip.compress(b"[1, 2]")
    held, plain = content_codings.represent(JSON, packed, b"gzip", 100, 2)
    assert (held.packed, plain, held.items, held.size) == (packed, b"[1, 2]", 2, 6)
    other = content_codings.represent(JSON, b"[1, 2]", b"", 100)[0]
    assert other.digest == held.digest
    assert isinstance(other, Representation)
    assert other.content() == b"[1, 2]"


def test_how_much_content_unpacks_to() -> None:
    """A gzip stream says so; what says less is not believed."""
    packed = gzip.compress(b"x" * 100_000)
    assert content_codings.unpacked_size(packed, b"gzip") == 100_000
    assert content_codings.unpacked_size(packed + b"\0" * 4, b"gzip") == 8 * (len(packed) + 4)
    assert content_codings.unpacked_size(packed, b"") == len(packed)


def test_what_does_not_unpack() -> None:
    """Broken, cut off, too large, or coded in another way."""
    packed = gzip.compress(b"x" * 1000)
    for bad in (b"no gzip", packed[:-9]):
        with pytest.raises(content_codings.UndecodableError):
            content_codings.identity(bad, b"gzip", 2000)
    with pytest.raises(content_codings.ContentTooLargeError):
        content_codings.identity(packed, b"gzip", 999)
    with pytest.raises(content_codings.UndecodableError):
        content_codings.identity(b"x", b"br", 10)
    two = gzip.compress(b"a") + gzip.compress(b"b") + b"\0\0"
    assert content_codings.identity(two, b"x-gzip", 10) == b"ab"


def test_sharing_is_switched_off_slowly_and_tried_again() -> None:
    """Three keys and two credentials within ten minutes; an hour later it is on again."""
    sharing = Sharing()
    assert sharing.ignored(1, "k1", "a", 0.0) is None
    assert sharing.ignored(1, "k2", "a", 1.0) is None
    assert sharing.ignored(1, "k3", "a", 2.0) is None
    assert sharing.enabled(2.0)
    assert sharing.ignored(1, "k3", "b", 3.0) == "sharing"
    assert not sharing.enabled(3.0)
    assert sharing.ignored(1, "k4", "b", 4.0) is None
    assert sharing.enabled(3.0 + RETRY_S)


def test_old_evidence_counts_for_nothing() -> None:
    """Only what was seen within ten minutes does."""
    sharing = Sharing()
    for number, key in enumerate(("k1", "k2", "k3")):
        at = number * WINDOW_S
        assert sharing.ignored(1, key, key, at) is None
    assert sharing.enabled(2 * WINDOW_S)


def test_lists_are_switched_off_alone() -> None:
    """A list that is ignored says nothing of a single tag."""
    sharing = Sharing()
    believed = []
    for sent in (1, 2):
        sharing.honoured(sent)
        believed.append(sharing.proven)
    assert believed == [False, True]
    for key in ("k1", "k2"):
        assert sharing.ignored(2, key, "a", 0.0) is None
    assert not sharing.proven
    assert sharing.ignored(2, "k3", "b", 0.0) == "lists"
    assert (sharing.enabled(0.0), sharing.lists_enabled(0.0)) == (True, False)
    assert not Sharing(wanted=False).lists_enabled(0.0)


@pytest.mark.parametrize("name", [b"status", b"content-range", b"content-digest"])
def test_what_describes_the_304_stays_with_it(name: bytes) -> None:
    """Also where the stored response has no such field."""
    answer = Fields(((name, b"304 Not Modified"), (b"date", b"now")))
    assert validators.freshen(JSON, grant(), answer).get(name) is None
    assert validators.freshen(JSON, grant(), answer).get(b"date") == b"now"
