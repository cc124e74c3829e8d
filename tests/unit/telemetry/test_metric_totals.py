"""Quantiles of histograms are those of Prometheus."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.telemetry.metric_totals import quantile

BOUNDS = (0.1, 0.5, 1.0, inf)


@pytest.mark.parametrize(
    ("counts", "q", "expected"),
    [
        ((0, 0, 0, 0), 0.5, None),
        ((10, 10, 10, 10), 0.5, 0.05),
        ((10, 10, 10, 10), 1.0, 0.1),
        ((0, 10, 10, 10), 0.5, 0.3),
        ((5, 5, 10, 10), 0.9, 0.9),
        ((5, 5, 10, 10), 0.5, 0.1),
        ((0, 0, 0, 10), 0.5, 1.0),
        ((8, 8, 8, 10), 0.99, 1.0),
        ((0, 4, 4, 4), 0.0, 0.1),
    ],
)
def test_quantile_lies_within_its_bucket(
    counts: tuple[float, ...], q: float, expected: float | None
) -> None:
    """Evenly spread; nothing is known of what is above all bounds, and nothing of nothing."""
    assert quantile(BOUNDS, counts, q) == (expected and pytest.approx(expected))


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_are_monotonic(each: list[int], one: float, other: float) -> None:
    """p99 is never smaller than p50, and both are within what can be known."""
    counts = [sum(each[: n + 1]) for n in range(4)]
    low, high = (quantile(BOUNDS, counts, q) for q in sorted((one, other)))
    if low is None or high is None:
        assert not counts[-1]
    else:
        assert 0.0 <= low <= high + 1e-12 <= 1.0 + 1e-9
