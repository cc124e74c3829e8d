"""How long things took, counted with next to no work, and shown in Prometheus' shapes.

prometheus-client's own histograms take a lock for each number, and look at bucket after bucket:
five times the time, several times for each request. Everything here happens in the reactor.
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

#: How many combinations of labels a metric tells apart; the rest is counted as ``other``.
_COMBINATIONS: Final = 200


@define(eq=False)
class Tally:
    """How often something took no longer than each of *bounds*, in seconds, and how long in all."""

    bounds: tuple[float, ...]
    total: float = 0.0
    #: One more than there are bounds: what took longer than the last one.
    counts: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        """Count something that took so many *seconds*."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


@define(eq=False)
class Tallies(Collector):
    """A histogram: a tally for each combination of the values of *labels*."""

    name: str
    documentation: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...]
    _made: dict[tuple[object, ...], Tally] = field(init=False, factory=dict)

    def get(self, *values: object) -> Tally:
        """Return the tally of what has these values."""
        tally = self._made.get(values)
        if tally is None:
            if len(self._made) >= _COMBINATIONS:
                values = ("other",) * len(values)
            tally = self._made.setdefault(values, Tally(self.bounds))
        return tally

    def __iter__(self) -> Iterator[tuple[list[str], Tally]]:
        """Give all tallies, each with its values."""
        for values, tally in self._made.items():
            yield [str(value) for value in values], tally

    def collect(self) -> Iterable[Metric]:
        """Show the histogram."""
        family = HistogramMetricFamily(self.name, self.documentation, labels=self.labels)
        bounds = [
            floatToGoString(bound)  # type: ignore[no-untyped-call]
            for bound in (*self.bounds, float("inf"))
        ]
        for values, tally in self:
            buckets = list(zip(bounds, accumulate(tally.counts), strict=True))
            family.add_metric(values, buckets, tally.total)
        return (family,)


@define(eq=False)
class Counts(Collector):
    """A counter of what a histogram has the times of, with the same labels."""

    name: str
    documentation: str
    of: Tallies

    def collect(self) -> Iterable[Metric]:
        """Show the counter."""
        family = CounterMetricFamily(self.name, self.documentation, labels=self.of.labels)
        for values, tally in self.of:
            family.add_metric(values, sum(tally.counts))
        return (family,)
