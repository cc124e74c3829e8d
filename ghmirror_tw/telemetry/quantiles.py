"""Quantiles of a histogram, as Prometheus' `histogram_quantile` estimates them."""

from __future__ import annotations

from collections.abc import Sequence


def quantile(bounds: Sequence[float], counts: Sequence[float], q: float) -> float | None:
    """Return the *q*-quantile, or None if there are no values.

    *counts* are cumulative: the number of values up to each of *bounds*, the last of which is
    infinite. Values are interpolated linearly within a bucket; the first bucket begins at zero. A
    quantile in the last bucket is the highest finite bound.
    """
    rank = q * counts[-1]
    if counts[-1] <= 0:
        return None
    lower, below = 0.0, 0.0
    for bound, count in zip(bounds[:-1], counts[:-1], strict=True):
        if count >= rank and count > below:
            return lower + (bound - lower) * max(rank - below, 0.0) / (count - below)
        lower, below = bound, count
    return lower
