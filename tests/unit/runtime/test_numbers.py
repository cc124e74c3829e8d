"""Whole numbers in what comes from outside."""

from __future__ import annotations

import pytest

from ghmirror_tw.runtime.numbers import whole_number


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
def test_what_is_a_number(value: bytes | str | None, number: int | None) -> None:
    """Digits alone, and not too many."""
    assert whole_number(value) == number


def test_a_bound() -> None:
    """More than that is no such number."""
    assert whole_number(b"65535", 65535) == 65535
    assert whole_number(b"65536", 65535) is None
