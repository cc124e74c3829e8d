"""Mean and percentiles of durations, and of the histograms in a mirror's metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Self

from attrs import astuple, frozen

NAMES = ("mean", "p90", "p95", "p99")
"""The values of a `Spread`, in their order."""

_SHARES = (0.90, 0.95, 0.99)


@frozen
class Spread:
    """Mean and percentiles of durations, in seconds."""

    mean: float
    p90: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Return those of single durations; a percentile is by the nearest-rank method."""
        if not seconds:
            return cls(*[math.nan] * len(NAMES))
        ordered = sorted(seconds)
        ranks = (ordered[math.ceil(share * len(ordered)) - 1] for share in _SHARES)
        return cls(math.fsum(ordered) / len(ordered), *ranks)

    @property
    def values(self) -> tuple[float, ...]:
        values: tuple[float, ...] = astuple(self)
        return values

    def __sub__(self, other: Self) -> Self:
        return type(self)(
            *(own - subtracted for own, subtracted in zip(self.values, other.values, strict=True))
        )


@frozen
class Histogram:
    """A histogram of Prometheus: cumulative counts by upper bound, and the sum of the durations."""

    buckets: tuple[tuple[float, float], ...] = ()
    total: float = 0.0

    @property
    def count(self) -> int:
        return int(self.buckets[-1][1]) if self.buckets else 0

    def since(self, earlier: Histogram) -> Histogram:
        """Return the difference to an *earlier* state."""
        if not earlier.buckets:
            return self
        counted = zip(self.buckets, earlier.buckets, strict=True)
        return Histogram(
            tuple((bound, now - before) for (bound, now), (_, before) in counted),
            self.total - earlier.total,
        )

    def spread(self) -> Spread:
        """Return mean and percentiles, interpolated in buckets as by ``histogram_quantile``."""
        mean = self.total / self.count if self.count else math.nan
        return Spread(mean, *(self._percentile(share) for share in _SHARES))

    def _percentile(self, share: float) -> float:
        rank = share * self.count
        for (low, below), (high, upto) in pairwise(((0.0, 0.0), *self.buckets)):
            if upto >= rank and upto > below:
                if math.isinf(high):
                    return low
                return low + (high - low) * (rank - below) / (upto - below)
        return math.nan
