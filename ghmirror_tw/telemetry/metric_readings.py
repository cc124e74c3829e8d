"""The mirror's own metrics as values: what has happened so far, and what happened in between."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from attrs import frozen

from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.telemetry.quantiles import quantile

#: Of what is shown how long it takes, and in which metric that is.
TIMED: Final = {
    "requests": "request_seconds",
    "github": "upstream_seconds",
    "store": "store_seconds",
}
_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

Labels = Mapping[str, str]


@frozen
class Readings:
    """Samples of metrics at one moment, by name."""

    samples: Mapping[str, list[tuple[Labels, float]]]

    @classmethod
    def of(cls, metrics: Metrics, *names: str) -> Readings:
        """Read those metrics, or all."""
        samples: defaultdict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for name, labels, value in metrics.samples(*names):
            samples[name].append((labels, value))
        return cls(samples)

    def all_of(self, name: str) -> Iterator[tuple[Labels, float]]:
        """Give the labels and the value of each series of a metric."""
        yield from self.samples.get(name, ())

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of one series, or None where there is none."""
        return next((value for found, value in self.all_of(name) if found == labels), None)

    def by(self, name: str, label: str) -> dict[str, int]:
        """Return the sums of a metric by one of its labels."""
        sums: Counter[str] = Counter()
        for labels, value in self.all_of(name):
            sums[labels[label]] += round(value)
        return dict(sums)


@frozen
class Times:
    """A histogram: how many took no longer than each of *bounds*, in seconds."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    @classmethod
    def of(cls, readings: Readings, name: str) -> Times:
        """Read all series of a histogram as one."""
        sums: Counter[float] = Counter({math.inf: 0})
        for labels, value in readings.all_of(f"ghmirror_{name}_bucket"):
            sums[float(labels["le"])] += value  # type: ignore[assignment]
        bounds = tuple(sorted(sums))
        return cls(bounds, tuple(float(sums[bound]) for bound in bounds))

    def minus(self, before: Times) -> Times:
        """Return what has come since *before*, when there may have been no series yet."""
        known = dict(zip(before.bounds, before.counts, strict=True))
        counts = zip(self.bounds, self.counts, strict=True)
        return Times(self.bounds, tuple(count - known.get(bound, 0.0) for bound, count in counts))

    @property
    def document(self) -> dict[str, float | None]:
        """What is shown: how many there were, and quantiles in seconds, null without any."""
        shown: dict[str, float | None] = {"count": round(self.counts[-1])}
        for name, share in _QUANTILES.items():
            value = quantile(self.bounds, self.counts, share)
            shown[name] = None if value is None else round(value, 6)
        return shown


@frozen
class Totals:
    """What has happened so far, or in a while."""

    outcomes: Mapping[str, int]
    times: Mapping[str, Times]
    spent: int
    saved: int

    @classmethod
    def of(cls, metrics: Metrics, readings: Readings | None = None) -> Totals:
        """Return what has happened since the mirror started, as read now or before."""
        if readings is None:
            readings = Readings.of(metrics, "requests", *TIMED.values())
        return cls(
            readings.by("ghmirror_requests_total", "outcome"),
            {what: Times.of(readings, name) for what, name in TIMED.items()},
            metrics.spent_in_all,
            metrics.saved_in_all,
        )

    def minus(self, before: Totals) -> Totals:
        """Return what has happened since *before*."""
        return Totals(
            outcomes(self, before),
            {what: times.minus(before.times[what]) for what, times in self.times.items()},
            self.spent - before.spent,
            self.saved - before.saved,
        )


def outcomes(after: Totals, before: Totals) -> dict[str, int]:
    """Return how requests between two moments ended, of which there were any."""
    known = before.outcomes
    made = {name: count - known.get(name, 0) for name, count in after.outcomes.items()}
    return {name: count for name, count in made.items() if count}
