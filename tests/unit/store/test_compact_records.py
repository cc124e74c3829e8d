"""Compact records and names lose nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from ghmirror_tw.caching.records import Entry, Grant, NegativeResponse, Representation
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.store.compact_records import (
    Compactor,
    first_time,
    is_of,
    is_representation,
    long,
    short,
    size_of,
)
from ghmirror_tw.store.record_kinds import (
    ENTRY,
    EPOCH,
    GRANT,
    KINDS,
    NEGATIVE,
    REFUSAL,
    REPRESENTATION,
    RecordKind,
)
from ghmirror_tw.store.record_names import RecordName

digests = st.binary(max_size=40).map(bytes.hex)
texts = digests | st.text(max_size=5) | st.sampled_from(["AB", "a b", "0x", "00" * 200, "é"])
names = st.one_of(
    st.builds(RecordName, st.sampled_from([kind for kind in KINDS if kind.rest]), texts, texts),
    st.builds(RecordName, st.sampled_from([ENTRY, EPOCH]), texts),
)
logins = st.none() | st.from_regex("[a-z0-9-]{1,20}", fullmatch=True)
times = st.floats(0, 1e10)
values = st.none() | st.binary(max_size=20)
tags = st.none() | st.sampled_from([b'W/"ab01"', b'"ab01"', b'"AB01"', b'"ab0"', b'""'])
sets = st.lists(
    st.tuples(st.sampled_from([b"vary", b"content-type", b"content-disposition"]), st.binary()),
    max_size=3,
).map(Fields)
grants = st.builds(
    Grant,
    digests,
    tags,
    *(values, values, times, times, st.booleans(), logins, times),
    *(values, values, values, values, values),
)
entries = st.builds(
    Entry,
    digests,
    *(times, times, st.booleans(), st.integers(0, 2**40), values, values),
    *(logins, st.none() | digests),
)
representations = st.builds(
    Representation,
    digests,
    sets,
    st.binary(),
    st.integers(0, 2**40),
    st.none() | st.integers(0, 99),
)


negatives = st.builds(
    NegativeResponse,
    times,
    times,
    st.binary(max_size=8),
    st.sampled_from([301, 404, 410]),
    sets,
    st.binary(),
    st.sampled_from([b"", b"gzip"]),
    st.lists(st.tuples(digests, times), max_size=3).map(tuple),
)


@given(names)
def test_names(name: RecordName) -> None:
    """A name can be read from its few bytes."""
    assert long(short(name.kind, name.hash_tag, name.rest)) == name


@given(names, names)
@example(RecordName(EPOCH, "ab"), RecordName(EPOCH, "AB"))
@example(RecordName(GRANT, "ab", "cd"), RecordName(GRANT, "abcd", ""))
def test_no_two_names_are_equal(one: RecordName, other: RecordName) -> None:
    """Different names stay different."""
    shorts = [short(name.kind, name.hash_tag, name.rest) for name in (one, other)]
    assert (one == other) == (shorts[0] == shorts[1])


@given(
    st.tuples(st.just(GRANT), grants)
    | st.tuples(st.just(ENTRY), st.lists(entries, max_size=8).map(tuple))
    | st.tuples(st.just(REFUSAL), times)
    | st.tuples(st.just(EPOCH), st.binary(max_size=8))
    | st.tuples(st.just(NEGATIVE), negatives)
)
def test_records(given: tuple[RecordKind[Any], Any]) -> None:
    """Grants, lists, refusals, epochs and negative responses are read as they were written."""
    kind, record = given
    compactor = Compactor()
    compact = compactor.compact(record)
    assert compactor.record(RecordName(kind, ""), compact) == record
    assert not is_representation(compact)
    assert [each for each in KINDS if is_of(each, compact)] == [kind]
    if isinstance(record, Grant):
        assert first_time(compact) == record.requested_at


@given(st.lists(representations, max_size=4))
def test_representations(records: list[Representation]) -> None:
    """So do representations, with the digest in their name, beside any others."""
    compactor = Compactor()
    for record in records:
        name = RecordName(REPRESENTATION, "", record.digest)
        for _ in "12":
            compact = compactor.compact(record)
            assert is_representation(compact)
            assert compactor.record(name, compact) == record


def test_large_fields_are_stored_and_counted_with_their_representation() -> None:
    """A forged record in a snapshot may have fields of any size; shared ones are never evicted."""
    compactor = Compactor()
    for number in range(3):
        fields = Fields(((b"content-type", b"x" * 100_000 + b"%d" % number),))
        stored = Representation("d" * 64, fields, b"packed", 6)
        compact = compactor.compact(stored)
        assert size_of(compact) > 100_000
        assert compactor.representation(compact, stored.digest) == stored
