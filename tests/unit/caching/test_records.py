"""Records: their identity, their merging, and the permission of grants."""

import gzip
from functools import reduce
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.caching.records import (
    RECENCY_LENGTH,
    Entry,
    Grant,
    Known,
    NegativeResponse,
    Representation,
    digest_of,
    recency_list,
    with_entry,
)
from ghmirror_tw.github.reported_limit import Limit, LimitKind
from ghmirror_tw.http.fields import CONTENT_FIELDS, Fields

field_lines = st.lists(
    st.tuples(
        st.sampled_from([b"Content-Type", b"Vary", b"ETag", b"Set-Cookie"]),
        st.binary(max_size=3),
    ),
    max_size=3,
)
times = st.integers(0, 20).map(float)
entries = st.builds(
    Entry,
    digest=st.sampled_from("abcdefghijklm"),
    received_at=times,
    validated_at=times,
    shareable=st.booleans(),
    size=st.just(1),
)


def recency(found: list[Entry]) -> tuple[Entry, ...]:
    empty: tuple[Entry, ...] = ()
    return reduce(with_entry, found, empty)


@given(st.binary(max_size=4), st.binary(max_size=4), field_lines, field_lines)
def test_a_digest_covers_content_and_its_fields(
    content: bytes,
    other_content: bytes,
    lines: list[tuple[bytes, bytes]],
    other_lines: list[tuple[bytes, bytes]],
) -> None:
    """Digests are equal exactly if content and content fields are; other fields don't count."""
    fields, other_fields = Fields(tuple(lines)), Fields(tuple(other_lines))
    same = content == other_content and sorted(fields.only(CONTENT_FIELDS)) == sorted(
        other_fields.only(CONTENT_FIELDS)
    )
    assert (digest_of(content, fields) == digest_of(other_content, other_fields)) is same


def test_fields_are_not_confused_with_content() -> None:
    """Values whose concatenations are equal have different digests."""
    inside = digest_of(b"", Fields(((b"vary", b"1:x"),)))
    beside = digest_of(b"1:x", Fields(((b"vary", b""),)))
    assert inside != beside
    assert digest_of(b"\n", Fields()) != digest_of(b"", Fields())


@given(st.binary())
def test_content_is_stored_unchanged(content: bytes) -> None:
    """It is decompressed to the same bytes, and is not in the representation's `repr`."""
    kept = Representation("d", Fields(), gzip.compress(content), len(content))
    assert kept.content() == content
    assert "packed" not in repr(kept)


@given(st.lists(entries, max_size=20))
def test_a_recency_list_is_short_and_newest_first(found: list[Entry]) -> None:
    """At most eight representations, each once, by the time of their last validation."""
    kept = recency(found)
    assert len(kept) == min(len({entry.digest for entry in found}), RECENCY_LENGTH)
    assert len({entry.digest for entry in kept}) == len(kept)
    assert [e.validated_at for e in kept] == sorted((e.validated_at for e in kept), reverse=True)


@given(st.lists(entries, max_size=RECENCY_LENGTH, unique_by=lambda entry: entry.digest), entries)
def test_the_later_entry_of_a_representation_wins(found: list[Entry], entry: Entry) -> None:
    """The newer of two entries is stored, with the time of the later 200."""
    before = {old.digest: old for old in recency(found)}
    after = {new.digest: new for new in with_entry(recency(found), entry)}
    if entry.digest in before:
        old = before[entry.digest]
        newer = entry if entry.validated_at >= old.validated_at else old
        received_at = max(entry.received_at, old.received_at)
        assert after[entry.digest] == evolve(newer, received_at=received_at)
        assert len(after) == len(before)


@given(st.lists(entries, max_size=20), entries)
def test_no_newer_entry_is_replaced_by_an_older_one(found: list[Entry], entry: Entry) -> None:
    """An entry that is removed from a full list was validated no later than the remaining ones."""
    before = recency(found)
    after = with_entry(before, entry)
    lost = {old.digest for old in (*before, entry)} - {new.digest for new in after}
    oldest = min(new.validated_at for new in after)
    assert all(e.validated_at <= oldest for e in (*before, entry) if e.digest in lost)


@given(st.lists(entries, max_size=20), entries)
def test_equal_entries_are_merged(found: list[Entry], entry: Entry) -> None:
    """Writing an entry again, as after write-back, changes nothing."""
    once = with_entry(recency(found), entry)
    if entry.digest in {kept.digest for kept in once}:
        assert {e.digest: e for e in with_entry(once, entry)} == {e.digest: e for e in once}


def test_an_empty_look_up() -> None:
    """By default nothing is known, no epoch has begun, and nothing is unstorable."""
    assert Known() == Known(None, (), None, 0.0, unstorable=False)


def granted(requested_at: float, **more: Any) -> Grant:
    return Grant("d", b'"t"', None, None, requested_at, requested_at, **more)


def test_a_refusal_outweighs_grants_of_earlier_requests() -> None:
    """Also of a request at the same time; a later grant counts."""
    for requested_at, stays in ((1.0, False), (2.0, False), (2.5, True)):
        known = Known(grant=granted(requested_at), refused_at=2.0)
        assert known.refused
        assert (known.effective(3.0).grant is not None) is stays


def test_a_grant_expires() -> None:
    """At its time, and not before."""
    known = Known(grant=granted(1.0, expires_at=5.0))
    assert known.effective(4.9) == known
    assert known.effective(5.0).grant is None


def repeatable(requested_at: float) -> NegativeResponse:
    return NegativeResponse(requested_at, requested_at, b"e", 404, Fields(), b"")


def test_a_negative_response_counts_only_if_its_request_was_the_latest() -> None:
    """A refusal of the same request is the same response."""
    negative = repeatable(2.0)
    for grant, refused_at, stays in (
        (None, 0.0, True),
        (None, 2.0, True),
        (None, 2.5, False),
        (granted(1.0), 0.0, True),
        (granted(3.0), 0.0, False),
        (granted(1.0), 2.0, True),
    ):
        known = Known(grant=grant, refused_at=refused_at, negative=negative)
        assert (known.effective(3.0).negative is not None) is stays
        assert known.latest_at == max(2.0, refused_at, 3.0 if grant == granted(3.0) else 0.0)
    assert Known(grant=granted(1.0), refused_at=2.0, negative=negative).effective(3.0).grant is None


def test_the_later_of_two_negative_responses_counts() -> None:
    """Wherever it was found."""
    early, late = repeatable(1.0), repeatable(2.0)
    for one, other, found in (
        (None, early, early),
        (early, None, early),
        (early, late, late),
        (late, early, late),
        (None, None, None),
    ):
        assert Known(negative=one).merged(Known(negative=other)).negative is found


grants = st.none() | st.builds(granted, st.floats(0, 9))
knowns = st.builds(
    Known,
    grant=grants,
    entries=st.lists(entries, max_size=4).map(recency_list),
    epoch=st.none() | st.sampled_from([b"1", b"2"]),
    refused_at=st.floats(0, 9),
    unstorable=st.booleans(),
    current=st.booleans(),
)


@given(knowns, knowns)
def test_the_newer_record_of_two_look_ups_counts(one: Known, other: Known) -> None:
    """Epoch and currency are those of the first look-up."""
    both = one.merged(other)
    sent = [each.grant.requested_at for each in (one, other) if each.grant is not None]
    assert (both.grant.requested_at if both.grant else None) == max(sent, default=None)
    assert both.epoch == one.epoch
    assert both.refused_at == max(one.refused_at, other.refused_at)
    assert both.unstorable == (one.unstorable or other.unstorable)
    assert both.current == one.current
    assert set(both.entries) == set(recency_list((*one.entries, *other.entries)))


@given(knowns)
def test_a_look_up_merged_with_itself_is_unchanged(known: Known) -> None:
    """Nor does one that knows nothing."""
    assert known.merged(known) == known
    assert known.merged(Known()) == known


def test_the_permission_of_a_grant() -> None:
    """A grant of the current epoch, later than any refusal; an epoch has to be found."""
    grant = granted(1.0, epoch=b"1")
    assert Known(grant=grant, epoch=b"1").permits
    for known in (
        Known(grant=grant),
        Known(grant=grant, epoch=b"2"),
        Known(grant=granted(1.0)),
        Known(grant=granted(1.0), epoch=b"1"),
        Known(grant=grant, epoch=b"1").unvalidated(),
        Known(grant=grant, epoch=b"1", refused_at=1.0),
        Known(epoch=b"1"),
    ):
        assert not known.permits


def test_the_later_end_of_a_limit_counts() -> None:
    """In any replica."""

    def limit(scope: str, until: float) -> Limit:
        return Limit(LimitKind.PRIMARY, scope, until)

    one = Known(limits=(limit("", 5.0), limit("core", 1.0)))
    other = Known(limits=(limit("", 2.0), limit("core", 3.0), limit("search", 4.0)))
    both = {each.scope: each.until for each in one.merged(other).limits}
    assert both == {"": 5.0, "core": 3.0, "search": 4.0}


def test_an_entry_is_found_by_its_digest() -> None:
    """Among several, or not at all."""
    listed = tuple([Entry(digest, 1.0, 1.0, shareable=True, size=1) for digest in "ab"])
    known = Known(entries=listed)
    assert [known.entry_of(digest) for digest in "abc"] == [*listed, None]


def test_the_latest_time_of_a_look_up() -> None:
    """Of the grant or of the refusal."""
    assert Known().latest_at == 0.0
    assert Known(grant=granted(2.0)).latest_at == 2.0
    assert Known(grant=granted(2.0), refused_at=3.0).latest_at == 3.0


def test_an_unvalidated_grant_permits_nothing() -> None:
    """It has the validators that it had, and no epoch."""
    known = Known(grant=granted(1.0, epoch=b"e"), epoch=b"e")
    assert known.permits
    assert known.unvalidated() == evolve(known, grant=granted(1.0))
    assert not known.unvalidated().permits
    assert Known().unvalidated() == Known()
