"""The names, labels, help texts and buckets of all metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from attrs import frozen
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from ghmirror_tw.upstream.byte_budget import ByteBudget

_NETWORK: Final = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000)
_LOCAL: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000)

#: Upper bounds in seconds, of requests over a network and of operations on a store.
BUCKETS: Final = {
    "request_seconds": tuple(each / 1000 for each in _NETWORK),
    "upstream_seconds": tuple(each / 1000 for each in _NETWORK),
    "store_seconds": tuple(each / 1000 for each in _LOCAL),
    "reactor_lag_seconds": tuple(each / 1000 for each in _NETWORK[:-2]),
}

#: The metrics of a store, in the order of `StoreFigures`.
STORE_METRICS: Final[tuple[tuple[Any, str, str], ...]] = (
    (GaugeMetricFamily, "ghmirror_store_bytes", "Bytes held."),
    (GaugeMetricFamily, "ghmirror_store_representations", "Representations held."),
    (GaugeMetricFamily, "ghmirror_store_grants", "Grants held."),
    (CounterMetricFamily, "ghmirror_store_evictions", "Representations evicted by others."),
)

#: The metrics of a budget of bytes: kind, name, help and value.
BUDGET_METRICS: Final[tuple[tuple[Any, str, str, Callable[[ByteBudget], float]], ...]] = (
    (
        GaugeMetricFamily,
        "ghmirror_content_bytes",
        "Bytes that requests in flight hold.",
        lambda budget: budget.held,
    ),
    (
        GaugeMetricFamily,
        "ghmirror_content_limit_bytes",
        "Bytes that requests in flight may hold.",
        lambda budget: budget.limit,
    ),
    (
        CounterMetricFamily,
        "ghmirror_content_waits",
        "Requests that waited for others to release bytes.",
        lambda budget: budget.waits,
    ),
    (
        CounterMetricFamily,
        "ghmirror_content_refusals",
        "Requests that got no bytes in time, and connections closed to release bytes.",
        lambda budget: budget.refusals,
    ),
)

#: Bytes, representations, grants and evictions so far; None where a number is not known.
StoreFigures = tuple[int | None, int | None, int | None, int | None]

#: All other metrics with their labels; operations on snapshots are ``save`` and ``restore``.
CATALOGUE: Final[tuple[tuple[type, str, str, tuple[str, ...]], ...]] = (
    (Counter, "requests", "Requests with a response", ("method", "status", "outcome")),
    (Histogram, "request_seconds", "Time to a response", ("method", "status", "outcome")),
    (Histogram, "upstream_seconds", "Time to GitHub's response", ("method", "status")),
    (Histogram, "store_seconds", "Latency of the store", ("store", "operation", "result")),
    (Counter, "quota_spent", "Requests that GitHub charged", ("user",)),
    (Counter, "quota_saved", "Requests that GitHub did not charge", ("user",)),
    (Counter, "quota_unknown", "Requests that timed out, which GitHub may have charged", ()),
    (Gauge, "quota_remaining", "Quota left by the last response", ("user", "resource")),
    (Gauge, "quota_limit", "The whole quota by the last response", ("user", "resource")),
    (Gauge, "quota_reset_timestamp_seconds", "When the quota resets", ("user", "resource")),
    (Gauge, "limited", "1 while a limit of GitHub's is in force", ("user", "resource", "kind")),
    (Gauge, "store_available", "Whether the configured store can be used", ()),
    (Gauge, "github_available", "Whether GitHub responds", ()),
    (Gauge, "sharing_enabled", "Whether validators of other credentials are used", ()),
    (Counter, "unstorable", "Responses of status 200 that could not be stored", ("reason",)),
    (Counter, "dated", "Responses that GitHub confirmed by their date alone", ()),
    (Counter, "former_secret", "Requests for records that only a former secret names", ()),
    (Counter, "iam_failures", "Failures to sign an IAM token for Redis", ()),
    (Counter, "collapsed", "Requests that got the response to another one", ()),
    (Gauge, "in_flight", "Requests in flight", ()),
    (Gauge, "unknown_in_flight", "Requests to GitHub of credentials not accepted yet", ()),
    (Counter, "unknown_overloaded", "Requests of such credentials that got a 503", ()),
    (Counter, "credential_checks", "Credentials checked before their first request", ("result",)),
    (Histogram, "reactor_lag_seconds", "How late timers are called, as the process is busy", ()),
    (Gauge, "build_info", "1, with the version of ghmirror", ("version",)),
    (Gauge, "snapshot_timestamp_seconds", "When the last snapshot was done", ("operation",)),
    (Gauge, "snapshot_seconds", "How long the last snapshot took", ("operation",)),
    (Gauge, "snapshot_bytes", "Size of the last snapshot", ("operation",)),
    (Gauge, "snapshot_records", "Records in the last snapshot", ("operation",)),
    (Counter, "snapshot_failures", "Snapshots that failed", ("operation",)),
)


@frozen
class MetricDescription:
    """A metric for the reference: its name, kind, labels and help."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def catalogue() -> Iterator[MetricDescription]:
    """Yield all metrics except those of the process."""
    for kind, name, text, labels in CATALOGUE:
        full = f"ghmirror_{name}_total" if kind is Counter else f"ghmirror_{name}"
        yield MetricDescription(full, kind.__name__.lower(), labels, f"{text}.")
    for family, name, text in STORE_METRICS:
        counts = family is CounterMetricFamily
        full = f"{name}_total" if counts else name
        yield MetricDescription(full, "counter" if counts else "gauge", ("store",), text)
    for family, name, text, _ in BUDGET_METRICS:
        counts = family is CounterMetricFamily
        full = f"{name}_total" if counts else name
        yield MetricDescription(full, "counter" if counts else "gauge", ("use",), text)
