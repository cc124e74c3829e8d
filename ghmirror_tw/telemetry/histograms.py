"""Histograms whose observation costs 0.3 µs, in Prometheus' exposition format.

A resolved child of prometheus_client's own histogram costs 1.3 µs, because it locks twice and tests
the buckets one by one. With its counter, a request makes four observations or more, so it would
cost about 4.5 µs more. Locks are not needed: all observations are made in the reactor's thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from attrs import define, field
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

#: The most series of a histogram; further label values are counted as ``other``.
_MAX_SERIES: Final = 200


@define(eq=False)
class HistogramSeries:
    """One series: the number of values in each bucket of *bounds* (in seconds), and their sum."""

    bounds: tuple[float, ...]
    total: float = 0.0
    #: One more than bounds: the last bucket has no upper bound.
    counts: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)


@define(eq=False)
class LabelledHistogram(Collector):
    """A histogram with one series for each combination of the values of *labels*."""

    name: str
    documentation: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...]
    _series: dict[tuple[object, ...], HistogramSeries] = field(init=False, factory=dict)

    def observe(self, seconds: float, *values: object) -> None:
        """Count a duration in the series with these values of the labels."""
        series = self._series.get(values)
        if series is None:
            if len(self._series) >= _MAX_SERIES:
                values = ("other",) * len(values)
            series = self._series.setdefault(values, HistogramSeries(self.bounds))
        series.counts[bisect_left(self.bounds, seconds)] += 1
        series.total += seconds

    def __iter__(self) -> Iterator[tuple[list[str], HistogramSeries]]:
        """Yield the values of the labels and the series."""
        for values, series in self._series.items():
            yield [str(value) for value in values], series

    def collect(self) -> Iterable[Metric]:
        """Return the histogram as Prometheus exposes it, with cumulative buckets."""
        family = HistogramMetricFamily(self.name, self.documentation, labels=self.labels)
        bounds = [
            floatToGoString(bound)  # type: ignore[no-untyped-call]
            for bound in (*self.bounds, float("inf"))
        ]
        for values, series in self:
            buckets = list(zip(bounds, accumulate(series.counts), strict=True))
            family.add_metric(values, buckets, series.total)
        return (family,)


@define(eq=False)
class ObservationCounter(Collector):
    """A counter of the observations of a histogram, with the same labels."""

    name: str
    documentation: str
    histogram: LabelledHistogram

    def collect(self) -> Iterable[Metric]:
        """Return the counter as Prometheus exposes it."""
        family = CounterMetricFamily(self.name, self.documentation, labels=self.histogram.labels)
        for values, series in self.histogram:
            family.add_metric(values, sum(series.counts))
        return (family,)
