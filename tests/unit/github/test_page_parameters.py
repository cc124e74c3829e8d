"""The query parameters for pages: numbers, sizes, cursors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.github.page_parameters import (
    has_cursor,
    has_page_parameter,
    list_identity,
    page_number,
    page_of,
    page_size,
    with_page,
)

names = st.sampled_from([b"page", b"per_page", b"q", b"page%5B%5D", b"%70age", b"sort", b""])


values = st.sampled_from([b"=1", b"=22", b"=", b"", b"=a%20b", b"=a=b", b"=-1", b"=x?y"])


queries = st.lists(st.builds(bytes.__add__, names, values), max_size=4).map(b"&".join)


targets = st.builds(
    bytes.__add__,
    st.sampled_from([b"/", b"/repos/o/r/issues"]),
    st.just(b"") | queries.map(b"?".__add__),
)


@pytest.mark.parametrize(
    ("target", "named", "requested"),
    [
        (b"/x", None, 1),
        (b"/x?per_page=3", None, 1),
        (b"/x?page=7", 7, 7),
        (b"/x?page=007", 7, 7),
        (b"/x?q=1&page=%37", 7, 7),
        (b"/x?%70age=7", 7, 7),
        (b"/x?page=1&page=2", 2, 2),
        (b"/x?page=0", None, None),
        (b"/x?page=", None, None),
        (b"/x?page", None, None),
        (b"/x?page=-1", None, None),
        (b"/x?page=1e3", None, None),
        (b"/x?page=Y3Vyc29y", None, None),
        (b"/x?page=" + b"9" * 5000, None, None),
        (b"/x/page=4", None, 1),
    ],
)
def test_the_page_of_a_target(target: bytes, named: int | None, requested: int | None) -> None:
    """A page is a positive number; the default is the first page."""
    assert page_of(target) == named
    assert page_number(target) == requested


@pytest.mark.parametrize(
    ("target", "changed"),
    [
        (b"/x", b"/x?page=5"),
        (b"/x?", b"/x?page=5"),
        (b"/x?q=a%2Fb&page=2&sort", b"/x?q=a%2Fb&page=5&sort"),
        (b"/x?per_page=2&", b"/x?per_page=2&page=5"),
        (b"/x?page=1&page=2", b"/x?page=5&page=5"),
        (b"/x?page=5", b"/x?page=5"),
    ],
)
def test_another_page_changes_no_other_byte(target: bytes, changed: bytes) -> None:
    """Only the page changes, in its place, or it is added at the end."""
    assert with_page(target, 5) == changed


@given(targets, st.integers(1, 10**9 - 1))
def test_with_page_round_trip(target: bytes, page: int) -> None:
    """The page that was set is the page that is read, and it is still the same list."""
    changed = with_page(target, page)
    assert page_of(changed) == page_number(changed) == page
    assert with_page(changed, page) == changed
    assert page_size(changed) == page_size(target)
    assert has_page_parameter(changed)
    ours, theirs = (list_identity(t).rstrip(b"?&") for t in (changed, target))
    assert ours == theirs


@given(targets)
def test_pages_of_a_list_have_one_identity(target: bytes) -> None:
    """The identity names no page, and is its own identity."""
    identity = list_identity(target)
    assert page_number(identity) == 1
    assert list_identity(identity) == identity
    assert list_identity(with_page(target, 2)) == list_identity(with_page(target, 3))


@pytest.mark.parametrize(
    ("query", "size"),
    [
        (b"", 30),
        (b"?page=2", 30),
        (b"?per_page=1", 1),
        (b"?per_page=99", 99),
        (b"?per_page=100", 100),
        (b"?per_page=101", 100),
        (b"?per_page=" + b"9" * 5000, 100),
        (b"?per_page=" + b"0" * 5000, 30),
        (b"?per_page=0", 30),
        (b"?per_page=-5", 1),
        (b"?per_page=", 30),
        (b"?per_page=ten", 1),
        (b"?per_page=5x", 1),
        (b"?per_page=5&per_page=6", 6),
    ],
)
def test_page_sizes(query: bytes, size: int) -> None:
    """A page is at most 100 long, and 30 without a valid size; an invalid number has any size."""
    assert page_size(b"/x" + query) == size


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", False),
        (b"?q=page", False),
        (b"?page=1", True),
        (b"?x&per_page=2", True),
        (b"?pages=1", False),
    ],
)
def test_page_parameters(query: bytes, expected: bool) -> None:
    """Either parameter counts."""
    assert has_page_parameter(b"/x" + query) is expected


@pytest.mark.parametrize(
    ("query", "cursor"),
    [
        (b"", False),
        (b"?page=2&per_page=3", False),
        (b"?page=abc", True),
        (b"?page=", True),
        (b"?after=Y3Vyc29yOjI%3D", True),
        (b"?before=", True),
        (b"?after=12", True),
        (b"?before=2024-01-31T00:00:00Z", False),
        (b"?since=2024-01-31T00%3A00%3A00Z", False),
        (b"?since=135", True),
        (b"?since=", False),
        (b"?cursor=v1_1", True),
        (b"?starting_after=1", True),
        (b"?ending_before=1", True),
        (b"?q=after", False),
    ],
)
def test_cursors(query: bytes, cursor: bool) -> None:
    """A place that can't be computed is a cursor; a date is a filter."""
    assert has_cursor(b"/x" + query) is cursor


@pytest.mark.parametrize(
    ("target", "size"),
    [
        (b"/notifications", 50),
        (b"/notifications?per_page=100", 50),
        (b"/notifications?per_page=10", 10),
        (b"/notifications?per_page=" + b"9" * 50, 50),
        (b"/events?per_page=0", 15),
    ],
)
def test_page_sizes_are_those_of_the_operation(target: bytes, size: int) -> None:
    """Some have other pages than 30 items, or 100 at most."""
    assert page_size(target) == size
