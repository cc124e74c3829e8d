"""The number of items on a page."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.github import item_count
from ghmirror_tw.github.item_count import count_items


@given(
    st.recursive(st.none() | st.integers(-9, 9) | st.text(), st.lists, max_leaves=9),
    st.integers(0, 2),
)
def test_items_are_counted(value: object, spaces: int) -> None:
    """The elements of an array are counted; anything else has none."""
    content = b"\n" * spaces + json.dumps(value).encode()
    assert count_items(content, 100) == (len(value) if isinstance(value, list) else None)


@given(
    st.lists(
        st.recursive(
            st.text() | st.floats(allow_nan=False),
            lambda each: st.lists(each) | st.dictionaries(st.text(), each),
        )
    ),
    st.none() | st.integers(0, 2),
)
def test_items_are_counted_without_decoding(value: list[object], indent: int | None) -> None:
    """Brackets, commas, quotation marks and backslashes in strings are not structure."""
    content = json.dumps(value, indent=indent, ensure_ascii=False).encode()
    assert count_items(content, 1000) == len(value)


def test_more_items_than_a_page_are_not_counted() -> None:
    """The scan ends there; 0 means that there are no pages."""
    assert count_items(b"[1,2,3]", 3) == 3
    assert count_items(b"[1,2,3,4]", 3) is None
    assert count_items(b"[1,2,3,4" + b'"', 3) is None
    assert count_items(b"[]", 0) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"[",
        b"[1,2",
        b'["]',
        b'[["]',
        b"[1] x",
        b'{"a":[1]}',
        b'"["',
        b"[1]\0",
        b"[" * 200_000,
        b"[[" + b"[[]]," * 250_000 + b"1]]",
    ],
)
def test_other_content_has_no_number_of_items(content: bytes) -> None:
    """Truncated, deeply nested or other content has no number of items."""
    assert count_items(content, 100) is None


def test_usual_pages_are_decoded() -> None:
    """With the same result, but that malformed content has no items."""
    assert count_items(b'[1, {"a": [2]}]', 100) == 2
    assert count_items(b"[1, 2]", 1) is None
    assert count_items(b"[1, 2", 100) is None
    assert count_items(b"[" * 100_000, 100) is None


@pytest.fixture(autouse=True)
def _scanned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "decoded" not in request.node.name:
        monkeypatch.setattr(item_count, "_DECODED_BYTES", 0)
