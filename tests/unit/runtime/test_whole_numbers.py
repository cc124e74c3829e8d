"""Whole numbers in input from outside."""

from __future__ import annotations

import pytest

from ghmirror_tw.runtime.whole_numbers import whole_number


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"0", 0),
        (b"007", 7),
        ("12", 12),
        (b"9" * 18, 10**18 - 1),
        (None, None),
        (b"", None),
        (b"-1", None),
        (b"+1", None),
        (b"1_0", None),
        (b" 1", None),
        (b"1.0", None),
        ("\u0661", None),
        ("\u00b2", None),
        (b"9" * 19, None),
        (b"9" * 5_000, None),
    ],
)
def test_only_ascii_digits_are_a_number(value: bytes | str | None, number: int | None) -> None:
    """And not too many of them."""
    assert whole_number(value) == number


def test_number_above_the_bound_is_none() -> None:
    """The bound itself is a number."""
    assert whole_number(b"65535", 65535) == 65535
    assert whole_number(b"65536", 65535) is None
