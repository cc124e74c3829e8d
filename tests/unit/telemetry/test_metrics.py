"""Metrics have the names, the labels and the bounds that were promised."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import implementer

from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.telemetry.user_series import USER_IDLE_S, USER_SERIES


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> Metrics:
    return Metrics(clock.seconds)


def samples(metrics: Metrics, name: str | None = None) -> list[Sample]:
    """Return what a scrape shows, of one series or of all."""
    _, content = metrics.exposition(None)
    return [
        sample
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
        if name in {None, sample.name}
    ]


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Return the value of one series, or None."""
    for sample in samples(metrics, name):
        if sample.labels == labels:
            return sample.value
    return None


def everything(metrics: Metrics) -> None:
    """Set each metric."""
    metrics.request(b"GET", 200, "shared", 0.02)
    metrics.upstream(b"GET", 304, 0.1)
    metrics.store("redis", "look_up", "hit", 0.0004)
    metrics.spent("octocat")
    metrics.quota("octocat", "core", 4999, 5000, 1_700_000_000)
    metrics.watch_limits(lambda: [("octocat", "core", "primary")])
    metrics.watch_store("memory", lambda: (1, 2, 3, 4))
    metrics.snapshot("save", at=5.0, seconds=1.5, size_bytes=10, records=2)
    metrics.snapshot_failed("restore", "no space")
    metrics.reactor_lag(0.002)
    metrics.unstorable("no-store")


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("ghmirror_requests_total", "method status outcome"),
        ("ghmirror_request_seconds_count", "method status outcome"),
        ("ghmirror_upstream_seconds_count", "method status"),
        ("ghmirror_store_seconds_count", "store operation result"),
        ("ghmirror_quota_spent_total", "user"),
        ("ghmirror_quota_saved_total", "user"),
        ("ghmirror_quota_remaining", "user resource"),
        ("ghmirror_quota_limit", "user resource"),
        ("ghmirror_quota_reset_timestamp_seconds", "user resource"),
        ("ghmirror_limited", "user resource kind"),
        ("ghmirror_store_bytes", "store"),
        ("ghmirror_store_representations", "store"),
        ("ghmirror_store_grants", "store"),
        ("ghmirror_store_evictions_total", "store"),
        ("ghmirror_store_available", ""),
        ("ghmirror_github_available", ""),
        ("ghmirror_sharing_enabled", ""),
        ("ghmirror_collapsed_total", ""),
        ("ghmirror_dated_total", ""),
        ("ghmirror_former_secret_total", ""),
        ("ghmirror_iam_failures_total", ""),
        ("ghmirror_in_flight", ""),
        ("ghmirror_unstorable_total", "reason"),
        ("ghmirror_reactor_lag_seconds_count", ""),
        ("ghmirror_build_info", "version"),
        ("ghmirror_snapshot_timestamp_seconds", "operation"),
        ("ghmirror_snapshot_seconds", "operation"),
        ("ghmirror_snapshot_bytes", "operation"),
        ("ghmirror_snapshot_records", "operation"),
        ("ghmirror_snapshot_failures_total", "operation"),
    ],
)
def test_each_metric_has_its_name_and_labels(metrics: Metrics, name: str, labels: str) -> None:
    """Dashboards are built on these."""
    everything(metrics)
    shown = samples(metrics, name)
    assert shown
    assert {frozenset(sample.labels) for sample in shown} == {frozenset(labels.split())}


def test_limits_are_shown_while_they_are_in_force(metrics: Metrics) -> None:
    """By a one, and by nothing when they have ended; never more than the series of users."""
    limits = [("octocat", "core", "primary"), ("octocat", "all", "secondary")]
    metrics.watch_limits(lambda: limits)
    about = {"user": "octocat", "resource": "core", "kind": "primary"}
    assert value(metrics, "ghmirror_limited", **about) == 1
    assert len(samples(metrics, "ghmirror_limited")) == 2
    del limits[0]
    assert value(metrics, "ghmirror_limited", **about) is None
    limits += [(f"user-{number}", "core", "primary") for number in range(2 * USER_SERIES)]
    assert len(samples(metrics, "ghmirror_limited")) == USER_SERIES
    limits.clear()
    assert not samples(metrics, "ghmirror_limited")


def test_snapshots_are_not_shown_before_there_is_one(metrics: Metrics) -> None:
    """A zero would read as one in 1970."""
    shown = {sample.name for sample in samples(metrics) if "_snapshot_" in sample.name}
    assert shown == {"ghmirror_snapshot_failures_total"}


def test_the_first_failure_is_an_increase(metrics: Metrics) -> None:
    """Failures are shown from zero on: what begins at one has not increased, for Prometheus."""
    for operation in ("save", "restore"):
        assert value(metrics, "ghmirror_snapshot_failures_total", operation=operation) == 0


def test_no_created_series_are_shown(metrics: Metrics) -> None:
    """Neither in the plain format nor in OpenMetrics."""
    everything(metrics)
    assert b"_created" not in metrics.exposition(None)[1]
    assert b"_created" not in metrics.exposition(b"application/openmetrics-text")[1]


def test_process_and_platform_are_shown(metrics: Metrics) -> None:
    """The resources of the process are beside its activity."""
    names = {sample.name for sample in samples(metrics)}
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "python_info"} <= names


def test_two_mirrors_do_not_share_metrics(clock: Clock) -> None:
    """Nothing is registered globally; a registry may be passed in."""
    registry = CollectorRegistry()
    first, second = Metrics(clock.seconds, registry), Metrics(clock.seconds)
    first.collapsed()
    assert registry.get_sample_value("ghmirror_collapsed_total") == 1.0
    assert value(second, "ghmirror_collapsed_total") == 0.0


def test_requests_are_counted_and_timed(metrics: Metrics) -> None:
    """The same request counts once in each of the two."""
    metrics.request(b"GET", 200, "shared", 0.02)
    metrics.request(b"GET", 200, "shared", 0.02)
    labels = {"method": "GET", "status": "200", "outcome": "shared"}
    assert value(metrics, "ghmirror_requests_total", **labels) == 2.0
    assert value(metrics, "ghmirror_request_seconds_sum", **labels) == 0.04
    assert value(metrics, "ghmirror_request_seconds_bucket", le="0.025", **labels) == 2.0
    assert value(metrics, "ghmirror_request_seconds_bucket", le="0.01", **labels) == 0.0


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("ghmirror_request_seconds_bucket", "0.001", "30.0"),
        ("ghmirror_upstream_seconds_bucket", "0.001", "30.0"),
        ("ghmirror_store_seconds_bucket", "0.0001", "1.0"),
    ],
)
def test_buckets_of_histograms(metrics: Metrics, name: str, least: str, most: str) -> None:
    """From the best that can be to what is as bad as failing."""
    everything(metrics)
    bounds = [sample.labels["le"] for sample in samples(metrics, name)]
    assert bounds[0] == least
    assert bounds[-2:] == [most, "+Inf"]


def test_unknown_methods_share_a_label(metrics: Metrics) -> None:
    """A client can't make series by inventing methods."""
    for n in range(50):
        metrics.request(b"X%d" % n, 405, "error", 0.001)
        metrics.upstream(b"get", "timeout", 1.0)
    labels = {"method": "OTHER", "status": "405", "outcome": "error"}
    assert value(metrics, "ghmirror_requests_total", **labels) == 50.0
    labels = {"method": "OTHER", "status": "timeout"}
    assert value(metrics, "ghmirror_upstream_seconds_count", **labels) == 50.0


def test_series_of_a_histogram_are_bounded(metrics: Metrics) -> None:
    """Beyond some hundreds, they are counted together."""
    for n in range(250):
        metrics.upstream(b"GET", n, 0.1)
    assert len(samples(metrics, "ghmirror_upstream_seconds_count")) == 201
    labels = {"method": "other", "status": "other"}
    assert value(metrics, "ghmirror_upstream_seconds_count", **labels) == 50.0


def test_quota_is_counted_by_user(metrics: Metrics) -> None:
    """An unknown user is `unknown`."""
    metrics.spent("octocat")
    for _ in range(3):
        metrics.saved("octocat")
    for _ in range(2):
        metrics.spent(None)
    metrics.quota(None, "search", 29, 30, 60)
    assert value(metrics, "ghmirror_quota_spent_total", user="octocat") == 1.0
    assert value(metrics, "ghmirror_quota_saved_total", user="octocat") == 3.0
    assert value(metrics, "ghmirror_quota_spent_total", user="unknown") == 2.0
    assert value(metrics, "ghmirror_quota_remaining", user="unknown", resource="search") == 29.0
    assert value(metrics, "ghmirror_quota_limit", user="unknown", resource="search") == 30.0
    reset = "ghmirror_quota_reset_timestamp_seconds"
    assert value(metrics, reset, user="unknown", resource="search") == 60.0


def test_least_recently_used_series_are_removed_first(metrics: Metrics) -> None:
    """Two hundred are shown at most, in each metric."""
    for n in range(USER_SERIES):
        metrics.spent(f"user{n}")
        metrics.quota(f"user{n}", "core", n, 5000, 0)
    metrics.saved("user0")
    metrics.spent("newcomer")
    metrics.quota("newcomer", "core", 1, 5000, 0)
    for name in ("spent_total", "saved_total", "remaining", "limit", "reset_timestamp_seconds"):
        assert len(samples(metrics, f"ghmirror_quota_{name}")) == USER_SERIES
    assert value(metrics, "ghmirror_quota_spent_total", user="user0") == 1.0
    assert value(metrics, "ghmirror_quota_spent_total", user="user1") is None
    assert value(metrics, "ghmirror_quota_remaining", user="user0", resource="core") is None


def test_series_of_idle_users_expire(metrics: Metrics, clock: Clock) -> None:
    """After an hour; a returning user starts at nothing."""
    for _ in range(5):
        metrics.spent("idle")
    metrics.quota("idle", "core", 1, 5000, 0)
    clock.advance(1.0)
    metrics.spent("busy")
    clock.advance(USER_IDLE_S - 1.0)
    assert value(metrics, "ghmirror_quota_spent_total", user="idle") is None
    assert not samples(metrics, "ghmirror_quota_remaining")
    assert value(metrics, "ghmirror_quota_spent_total", user="busy") == 1.0
    metrics.spent("idle")
    assert value(metrics, "ghmirror_quota_spent_total", user="idle") == 1.0


def test_availability_is_true_at_first(metrics: Metrics) -> None:
    """Availability and sharing are shown as one and zero."""
    names = ("store_available", "github_available", "sharing_enabled")
    assert [value(metrics, f"ghmirror_{name}") for name in names] == [1.0, 1.0, 1.0]
    metrics.store_available(False)
    metrics.github_available(False)
    metrics.watch_sharing(lambda: False)
    assert [value(metrics, f"ghmirror_{name}") for name in names] == [0.0, 0.0, 0.0]


def test_requests_in_flight_are_a_gauge(metrics: Metrics) -> None:
    """It is a gauge of each mirror."""
    metrics.in_flight.inc()
    metrics.in_flight.inc()
    metrics.in_flight.dec()
    assert value(metrics, "ghmirror_in_flight") == 1.0


def test_stores_are_read_at_each_scrape(metrics: Metrics) -> None:
    """Figures of a store are never older than the scrape."""
    figures = [(1, 2, 3, 4)]
    metrics.watch_store("memory", lambda: figures[-1])
    assert value(metrics, "ghmirror_store_bytes", store="memory") == 1.0
    figures.append((10, 20, 30, 40))
    names = ("bytes", "representations", "grants", "evictions_total")
    shown = [value(metrics, f"ghmirror_store_{name}", store="memory") for name in names]
    assert shown == [10.0, 20.0, 30.0, 40.0]


def test_failing_store_does_not_hide_other_metrics(metrics: Metrics) -> None:
    """Its trouble is logged."""
    events: list[str] = []

    @implementer(ILogObserver)
    def watch(event: dict[str, object]) -> None:
        events.append(str(event.get("log_format")))

    def broken() -> tuple[int, int, int, int]:
        raise OSError("gone")

    metrics.watch_store("redis", broken)
    metrics.watch_store("memory", lambda: (1, 2, 3, 4))
    globalLogPublisher.addObserver(watch)
    try:
        shown = samples(metrics, "ghmirror_store_bytes")
    finally:
        globalLogPublisher.removeObserver(watch)
    assert [sample.labels for sample in shown] == [{"store": "memory"}]
    assert events == ["Figures of a store cannot be read: store={store}"]


def test_text_format_is_the_default(metrics: Metrics) -> None:
    """For browsers, curl, and any unknown type."""
    for accept in (None, b"", b"*/*", b"text/html;version=abc"):
        media_type, _ = metrics.exposition(accept)
        assert media_type == b"text/plain; version=0.0.4; charset=utf-8"


def test_open_metrics_is_sent_if_accepted(metrics: Metrics) -> None:
    """Prometheus does, with parameters and weights; nonsense in them does no harm."""
    everything(metrics)
    for parameters in (b"", b"; version=1.0.0; escaping=allow-utf-8; q=0.6", b"; version=x.y"):
        media_type, content = metrics.exposition(b"Application/OpenMetrics-text" + parameters)
        assert media_type.startswith(b"application/openmetrics-text; version=1.0.0")
        assert content.endswith(b"# EOF\n")
        families = parse_open_metrics(content.decode())
        assert "ghmirror_requests" in {family.name for family in families}
