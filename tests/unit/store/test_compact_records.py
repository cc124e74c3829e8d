"""What a memory store keeps of records and names is all that they say."""

from __future__ import annotations

from math import inf

from hypothesis import example, given
from hypothesis import strategies as st

from ghmirror_tw.caching.records import Entry, Grant, Representation
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.store.compact_records import (
    Keeper,
    granted_at,
    is_grant,
    is_representation,
    long,
    short,
)

digits = st.binary(max_size=40).map(bytes.hex)
texts = digits | st.text(max_size=5) | st.sampled_from(["AB", "a b", "0x", "00" * 200, "é"])
names = st.one_of(
    st.tuples(st.sampled_from(["representation", "grant", "refusal"]), texts, texts),
    st.tuples(st.sampled_from(["list", "epoch"]), texts),
)
times = st.floats(0, 1e10) | st.just(inf)
values = st.none() | st.binary(max_size=20)
tags = values | st.sampled_from([b'W/"ab01"', b'"ab01"', b'"AB01"', b'"ab0"', b'""', b'W/"ab01" '])
sets = st.lists(
    st.tuples(st.sampled_from([b"vary", b"content-type", b"content-disposition"]), st.binary()),
    max_size=3,
).map(Fields)
grants = st.builds(
    Grant,
    texts,
    tags,
    *(values, values, times, times, st.booleans(), st.none() | texts, st.booleans(), times),
    *(values, values, values),
)
entries = st.builds(
    Entry,
    texts,
    *(times, times, st.booleans(), st.integers(0, 2**40), values, values),
    *(st.none() | texts, st.none() | texts),
)
representations = st.builds(
    Representation, texts, sets, st.binary(), st.integers(0, 2**40), st.none() | st.integers(0, 99)
)


@given(names)
def test_names(name: tuple[str, ...]) -> None:
    """A name is found again in its few bytes."""
    assert long(short(*name)) == name


@given(names, names)
@example(("epoch", "ab"), ("epoch", "AB"))
@example(("grant", "ab", "cd"), ("grant", "abcd", ""))
def test_no_two_names_are_one(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Different names stay different."""
    assert (one == other) == (short(*one) == short(*other))


@given(grants | st.lists(entries, max_size=8).map(tuple) | times)
def test_records(record: Grant | tuple[Entry, ...] | float) -> None:
    """Grants, lists and times come back as they were."""
    keeper = Keeper()
    kept = keeper.keep(record)
    assert keeper.found(kept) == record
    assert not is_representation(kept)
    assert is_grant(kept) == isinstance(record, Grant)
    if isinstance(record, Grant):
        assert granted_at(kept) == record.asked_at


@given(st.lists(representations, max_size=4))
def test_representations(records: list[Representation]) -> None:
    """So do representations, with the digest that is in their name, whatever others are there."""
    keeper = Keeper()
    for record in records:
        kept = keeper.keep(record)
        assert is_representation(kept)
        assert keeper.found(kept, record.digest) == record
        again = keeper.found(keeper.keep(record), record.digest)
        assert isinstance(again, Representation)
        assert again == record
