"""Detection of loops by `Via`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.http.loop_detection import has_passed


@pytest.mark.parametrize(
    ("via", "looped"),
    [
        ([], False),
        ([b"1.1 proxy.example"], False),
        ([b"1.1 ghmirror-7"], True),
        ([b"HTTP/1.1 GHMirror-7"], True),
        ([b"1.0 fred, 1.1  ghmirror-7 (x)"], True),
        ([b"1.0 fred", b"1.1\tghmirror-7"], True),
        ([b"1.1 (x, 1.1 y) ghmirror-7"], True),
        ([b"1.1 fred (1.1 ghmirror-7)"], False),
        ([b"1.1 fred (a (nested) , 1.1 ghmirror-7 , )"], False),
        ([b"1.1 fred (a \\) , 1.1 ghmirror-7 , )"], False),
        ([b"1.1 fred (a, 1.1 ghmirror-7"], True),
        ([b"1.1 fred), 1.1 ghmirror-7"], True),
        ([b"1.1 fred), 1.1 x (a, 1.1 ghmirror-7 , b)"], False),
        ([b"1.1 fred \\, 1.1 ghmirror-7"], True),
        ([b"\\"], False),
        ([b"1.1 ghmirror-77, ghmirror-7, 1.1"], False),
        ([b"(" * 100_000], False),
    ],
)
def test_loops(via: list[bytes], looped: bool) -> None:
    """The pseudonym counts as a receiver, not in a comment."""
    assert has_passed(via, b"ghmirror-7") is looped


@given(st.lists(st.binary()))
def test_any_bytes_of_via_are_parsed(via: list[bytes]) -> None:
    """No value makes the parser fail, and our own line is found after all of them."""
    assert has_passed([*via, b"1.1 ghmirror-7"], b"ghmirror-7")
