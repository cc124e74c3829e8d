"""Metrics as values: totals since the start, and their differences between two times."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from attrs import frozen

from ghmirror_tw.telemetry.metrics import Metrics

#: The latencies shown, and the histogram of each.
TIMED: Final = {
    "requests": "request_seconds",
    "github": "upstream_seconds",
    "store": "store_seconds",
}
_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

Labels = Mapping[str, str]


@frozen
class MetricReadings:
    """Samples of metrics at one time, by name."""

    samples: Mapping[str, list[tuple[Labels, float]]]

    @classmethod
    def of(cls, metrics: Metrics, *names: str) -> MetricReadings:
        """Read the metrics *names*, or all."""
        samples: defaultdict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for name, labels, value in metrics.samples(*names):
            samples[name].append((labels, value))
        return cls(samples)

    def all_of(self, name: str) -> Iterator[tuple[Labels, float]]:
        """Yield labels and value of each series of a metric."""
        yield from self.samples.get(name, ())

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of one series, or None if it does not exist."""
        return next((value for found, value in self.all_of(name) if found == labels), None)

    def by(self, name: str, label: str) -> dict[str, int]:
        """Return the sums of a metric by one of its labels."""
        sums: Counter[str] = Counter()
        for labels, value in self.all_of(name):
            sums[labels[label]] += round(value)
        return dict(sums)


def quantile(bounds: Sequence[float], counts: Sequence[float], q: float) -> float | None:
    """Return the *q*-quantile, or None if there are no values.

    It is estimated as by `histogram_quantile` of Prometheus.

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


@frozen
class LatencyHistogram:
    """Cumulative counts of durations up to each of *bounds*, in seconds."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    @classmethod
    def of(cls, readings: MetricReadings, name: str) -> LatencyHistogram:
        """Return the sum of all series of a histogram."""
        sums: Counter[float] = Counter({math.inf: 0})
        for labels, value in readings.all_of(f"ghmirror_{name}_bucket"):
            sums[float(labels["le"])] += value  # type: ignore[assignment]
        bounds = tuple(sorted(sums))
        return cls(bounds, tuple(float(sums[bound]) for bound in bounds))

    def minus(self, before: LatencyHistogram) -> LatencyHistogram:
        """Return the counts since *before*, which may have no buckets yet."""
        known = dict(zip(before.bounds, before.counts, strict=True))
        counts = zip(self.bounds, self.counts, strict=True)
        return LatencyHistogram(
            self.bounds, tuple(count - known.get(bound, 0.0) for bound, count in counts)
        )

    @property
    def document(self) -> dict[str, float | None]:
        """The count and the quantiles in seconds, null without values."""
        shown: dict[str, float | None] = {"count": round(self.counts[-1])}
        for name, share in _QUANTILES.items():
            value = quantile(self.bounds, self.counts, share)
            shown[name] = None if value is None else round(value, 6)
        return shown


@frozen
class RequestTotals:
    """Requests by outcome, latencies and quota, since the start or in a period."""

    outcomes: Mapping[str, int]
    times: Mapping[str, LatencyHistogram]
    spent: int
    saved: int

    @classmethod
    def of(cls, metrics: Metrics, readings: MetricReadings | None = None) -> RequestTotals:
        """Return the totals since the start, from *readings* or read now."""
        if readings is None:
            readings = MetricReadings.of(metrics, "requests", *TIMED.values())
        return cls(
            readings.by("ghmirror_requests_total", "outcome"),
            {kind: LatencyHistogram.of(readings, name) for kind, name in TIMED.items()},
            metrics.spent_in_all,
            metrics.saved_in_all,
        )

    def minus(self, before: RequestTotals) -> RequestTotals:
        """Return the totals since *before*."""
        return RequestTotals(
            outcomes_between(self, before),
            {kind: times.minus(before.times[kind]) for kind, times in self.times.items()},
            self.spent - before.spent,
            self.saved - before.saved,
        )


def outcomes_between(after: RequestTotals, before: RequestTotals) -> dict[str, int]:
    """Return the numbers of requests between two times by outcome, without zeros."""
    known = before.outcomes
    made = {name: count - known.get(name, 0) for name, count in after.outcomes.items()}
    return {name: count for name, count in made.items() if count}
