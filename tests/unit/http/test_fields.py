"""Fields have their order and bytes, and are found by lower-case names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.http.fields import Fields, tokens

field_names = st.sampled_from([b"A", b"a", b"B-c", b"Connection", b"TE", b"Vary"])
lines = st.lists(st.tuples(field_names, st.sampled_from([b"", b"x", b"B-C , a"])), max_size=6)
fields = lines.map(lambda found: Fields(tuple(found)))


def test_tokens() -> None:
    """Members of a list are lower case, without blanks and empty ones (RFC 9110, 5.6.1)."""
    assert tokens(b" Accept,\tX-Y ,, ") == [b"accept", b"x-y"]
    assert tokens(b"") == []


@given(lines)
def test_lines_have_order_and_values_unchanged(found: list[tuple[bytes, bytes]]) -> None:
    """Only names change, to lower case."""
    assert list(Fields(tuple(found))) == [(name.lower(), value) for name, value in found]


@given(fields)
def test_the_first_and_all_lines_of_a_name(found: Fields) -> None:
    """`get` is the first of `get_all`, `combined` their list, and absence is None."""
    every = [value for name, value in found if name == b"a"]
    assert found.get_all(b"a") == every
    assert found.get(b"a") == (every[0] if every else None)
    assert found.combined(b"a") == (b", ".join(every) if every else None)


def test_listed() -> None:
    """The members of several lines are one list; a field that isn't there has none."""
    found = Fields(((b"Vary", b"Accept, Cookie"), (b"vary", b"ORIGIN")))
    assert found.listed(b"vary") == [b"accept", b"cookie", b"origin"]
    assert found.listed(b"via") == []


@given(fields, st.frozensets(st.sampled_from([b"a", b"b-c", b"te"])))
def test_only_and_without_share_the_lines_out(found: Fields, chosen: frozenset[bytes]) -> None:
    """Each line is in one of the two, in order."""
    kept, left = found.only(chosen), found.without(chosen)
    assert {name for name, _ in kept} <= chosen
    assert not {name for name, _ in left} & chosen
    assert sorted([*kept, *left]) == sorted(found)
    assert [line for line in found if line[0] in chosen] == list(kept)


@given(fields)
def test_in_one_line(found: Fields) -> None:
    """One line has all values, where the first one was; all others stay."""
    one = found.in_one_line(b"a")
    assert one.combined(b"a") == found.combined(b"a")
    assert len(one.get_all(b"a")) == min(1, len(found.get_all(b"a")))
    names = [name for name, _ in found]
    later = [at for at, name in enumerate(names) if name == b"a"][1:]
    assert [name for name, _ in one] == [n for at, n in enumerate(names) if at not in later]
    assert one.without(frozenset({b"a"})) == found.without(frozenset({b"a"}))


@given(fields)
def test_with_line(found: Fields) -> None:
    """Exactly one line has the name afterwards, or none; all others stay."""
    assert found.with_line(b"a", b"1").get_all(b"a") == [b"1"]
    assert found.with_line(b"a", None) == found.without(frozenset({b"a"}))
    assert found.with_line(b"a", b"1").without(frozenset({b"a"})) == found.with_line(b"a", None)


def test_end_to_end() -> None:
    """Fields of one hop are removed, and so are those that `Connection` names (RFC 9110, 7.6.1)."""
    found = Fields(
        (
            (b"Accept", b"x"),
            (b"Connection", b"close, X-Hop"),
            (b"Transfer-Encoding", b"chunked"),
            (b"X-Hop", b"1"),
            (b"TE", b"trailers"),
        )
    )
    assert list(found.end_to_end()) == [(b"accept", b"x")]


def test_equal_by_their_lines() -> None:
    """Fields are values: those with the same lines are the same, and look it."""
    one, other = Fields(((b"A", b"1"),)), Fields.of(((b"a", b"1"),))
    assert one == other
    assert hash(one) == hash(other)
    assert repr(one) == repr(other) == "Fields(((b'a', b'1'),))"
    assert one != Fields()
    assert one != ((b"a", b"1"),)


def test_derived_values_are_memoised() -> None:
    """Even if it is None; what raises is tried again."""
    fields, sent = Fields(), []

    def nothing(of: Fields) -> None:
        sent.append(of)

    def failing(of: Fields) -> None:
        sent.append(of)
        raise ValueError

    for _ in range(2):
        fields.memoised(nothing)
        with pytest.raises(ValueError):  # noqa: PT011
            fields.memoised(failing)
    assert len(sent) == 3
