"""Quantities are formatted as the configuration parses them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.config import value_kinds as kinds
from ghmirror_tw.runtime.quantity_formatting import duration, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(30.0, "30s"), (0.25, "250ms"), (90.0, "90s"), (604_800.0, "7d"), (0.0, "0s")],
)
def test_duration_in_the_largest_whole_unit(seconds: float, text: str) -> None:
    """Zero in seconds."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(2 << 30, "2GiB"), (1536, "1536B"), (8 << 20, "8MiB"), (0, "0")]
)
def test_size_in_the_largest_whole_unit(size_bytes: int, text: str) -> None:
    """Zero without a unit."""
    assert size(size_bytes) == text


@given(st.integers(1, 10**9), st.integers(0, 1 << 60))
def test_configuration_parses_formatted_quantities(milliseconds: int, size_bytes: int) -> None:
    """A value in a message can be copied into the configuration."""
    assert kinds.seconds(duration(milliseconds / 1000)) == milliseconds / 1000
    spelled = size(size_bytes)
    if size_bytes < 10**15:
        assert kinds.size().parse(spelled) == size_bytes
