"""Metrics of a mirror: the latency of its store, its CPU time, single values."""

from __future__ import annotations

import math
import urllib.request
from collections import defaultdict

from attrs import field, frozen
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.percentiles import Histogram

Labels = tuple[str, str, str]
"""Store, operation, result."""


@frozen
class StoreMetrics:
    """The latency of the store, and the CPU time of the process."""

    store: dict[Labels, Histogram] = field(factory=dict)
    cpu_s: float = 0.0

    def since(self, earlier: StoreMetrics) -> StoreMetrics:
        """Return the difference to an *earlier* state, without unused operations."""
        store = {
            name: each.since(earlier.store.get(name, Histogram()))
            for name, each in sorted(self.store.items())
        }
        used = {name: each for name, each in store.items() if each.count}
        return StoreMetrics(used, self.cpu_s - earlier.cpu_s)


def read_metrics(admin_url: str) -> StoreMetrics:
    """Return the present metrics of a mirror."""
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
    return StoreMetrics(store, cpu_s)


def read_metric(admin_url: str, line: str) -> float:
    """Return the value of one line of a mirror's metrics; not a number where it is missing."""
    with urllib.request.urlopen(f"{admin_url}/metrics") as response:
        for each in response.read().decode().splitlines():
            if each.startswith(f"{line} "):
                return float(each.rpartition(" ")[2])
    return math.nan
