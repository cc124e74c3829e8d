"""Each serialised field is exactly one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.http.fields import Fields, serialised

NAMES = st.from_regex(rb"\A[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
VALUES = st.binary().filter(lambda value: not set(value) & set(b"\r\n\0"))


@given(st.lists(st.tuples(NAMES, VALUES)).map(tuple))
def test_serialised_fields_are_parsed_to_the_same_fields(
    lines: tuple[tuple[bytes, bytes], ...],
) -> None:
    """A parser of the lines finds the same fields in the same order."""
    block = serialised(Fields.of(lines))
    read = [line.partition(b": ") for line in block.split(b"\r\n")]
    assert read.pop() == (b"", b"", b"")
    assert tuple((name, value) for name, _, value in read) == lines


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=3),
    st.binary(max_size=5),
    st.sampled_from([b"\r", b"\n", b"\0", b"\r\n", b"\r\nb: "]),
    st.binary(max_size=5),
    st.booleans(),
)
def test_line_ends_are_refused(
    lines: list[tuple[bytes, bytes]], before: bytes, end: bytes, after: bytes, in_name: bool
) -> None:
    """A value that would end a line early is not sent."""
    bad = before + end + after
    for place in range(len(lines) + 1):
        field = (bad, b"x") if in_name else (b"a", bad)
        with pytest.raises(ValueError, match="one line"):
            serialised(Fields((*lines[:place], field, *lines[place:])))


@pytest.mark.parametrize("name", [b" a", b"\ta"])
def test_folded_lines_are_refused(name: bytes) -> None:
    """A field never becomes a part of the one before it."""
    for lines in (((name, b"1"),), ((b"b", b"2"), (name, b"1"))):
        with pytest.raises(ValueError, match="one line"):
            serialised(Fields.of(lines))


def test_joined_fields() -> None:
    """They are the lines of both, in order."""
    joined = Fields(((b"a", b"1"),)).plus(Fields(((b"b", b"2"),)))
    assert joined == Fields(((b"a", b"1"), (b"b", b"2")))
    assert serialised(joined) == b"a: 1\r\nb: 2\r\n"
