"""How long things took, out of a histogram (Prometheus: `histogram_quantile`)."""

from __future__ import annotations

from collections.abc import Sequence


def quantile(bounds: Sequence[float], counts: Sequence[float], q: float) -> float | None:
    """Return below what the share *q* of all values lies, or None where there are no values.

    *counts*: how many values are not above each of *bounds*, of which the last is infinite. Within
    a bucket they count as evenly spread, the first one begins at zero, and of what lies above the
    highest finite bound nothing more is known than that.
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
