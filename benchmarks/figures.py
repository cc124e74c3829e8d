"""Mean and percentiles: of times that a client took, and of a mirror's own histograms."""

from __future__ import annotations

import math
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Self

from attrs import astuple, field, frozen
from prometheus_client.parser import text_string_to_metric_families

NAMES = ("mean", "p90", "p95", "p99")
"""What `Spread` tells, in its order."""

_SHARES = (0.90, 0.95, 0.99)

Labels = tuple[str, str, str]
"""Store, operation, result."""


@frozen
class Spread:
    """How long something takes, in seconds."""

    mean: float
    p90: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Tell it of single times; a percentile is the time that so many do not exceed."""
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
            *(mine - theirs for mine, theirs in zip(self.values, other.values, strict=True))
        )


@frozen
class Histogram:
    """A histogram of Prometheus': how many took no longer than each bound, and all of them."""

    buckets: tuple[tuple[float, float], ...] = ()
    total: float = 0.0

    @property
    def count(self) -> int:
        return int(self.buckets[-1][1]) if self.buckets else 0

    def since(self, earlier: Histogram) -> Histogram:
        """Tell what has come since it looked like *earlier*."""
        if not earlier.buckets:
            return self
        counted = zip(self.buckets, earlier.buckets, strict=True)
        return Histogram(
            tuple((bound, now - then) for (bound, now), (_, then) in counted),
            self.total - earlier.total,
        )

    def spread(self) -> Spread:
        """Tell mean and percentiles; those are as near as the buckets tell, as Prometheus says."""
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


@frozen
class Shown:
    """What a mirror's metrics show: the latency that its store adds, and the CPU time it took."""

    store: dict[Labels, Histogram] = field(factory=dict)
    cpu_s: float = 0.0

    def since(self, earlier: Shown) -> Shown:
        """Tell what has come since they looked like *earlier*."""
        store = {
            name: each.since(earlier.store.get(name, Histogram()))
            for name, each in sorted(self.store.items())
        }
        used = {name: each for name, each in store.items() if each.count}
        return Shown(used, self.cpu_s - earlier.cpu_s)


def read_metrics(admin_url: str) -> Shown:
    """Read what a mirror shows now."""
    with urllib.request.urlopen(f"{admin_url}/metrics") as response:
        text = response.read().decode()
    buckets: dict[Labels, list[tuple[float, float]]] = defaultdict(list)
    totals: dict[Labels, float] = {}
    cpu_s = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "process_cpu_seconds_total":
                cpu_s = sample.value
            if family.name != "ghmirror_store_seconds":
                continue
            labels = sample.labels
            name = (labels["store"], labels["operation"], labels["result"])
            if sample.name.endswith("_bucket"):
                buckets[name].append((float(labels["le"]), sample.value))
            elif sample.name.endswith("_sum"):
                totals[name] = sample.value
    store = {name: Histogram(tuple(each), totals[name]) for name, each in buckets.items()}
    return Shown(store, cpu_s)


def read_metric(admin_url: str, line: str) -> float:
    """Return the value of one line of a mirror's metrics; not a number where it isn't there."""
    with urllib.request.urlopen(f"{admin_url}/metrics") as response:
        for each in response.read().decode().splitlines():
            if each.startswith(f"{line} "):
                return float(each.rpartition(" ")[2])
    return math.nan


def resident(pid: int, *, most: bool = False) -> int:
    """Return how many bytes of memory a process has now, or had at *most* since `forget_most`."""
    name = "VmHWM:" if most else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def forget_most(pid: int) -> None:
    """Have the most memory that a process had be what it has now (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
