"""The metrics of one mirror, with a method for each event that is counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

from attrs import define, field
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from ghmirror_tw import __version__
from ghmirror_tw.telemetry.busiest import Busiest
from ghmirror_tw.telemetry.histograms import LabelledHistogram, ObservationCounter
from ghmirror_tw.telemetry.metric_catalogue import BUCKETS, CATALOGUE, StoreFigures
from ghmirror_tw.telemetry.metric_collectors import BudgetCollector, StoreCollector, WithoutCreated
from ghmirror_tw.telemetry.secret_scrubbing import scrub
from ghmirror_tw.telemetry.user_series import USER_SERIES, RecentSeries
from ghmirror_tw.upstream.byte_budget import ByteBudget

#: Methods that are labels of their own (RFC 9110, section 9; RFC 5789); all others are ``OTHER``.
_METHODS: Final = {
    name.encode(): name
    for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
}


@define(eq=False)
class Metrics:
    """All metrics of one mirror, in their own registry.

    *now* returns the time in seconds, by which series of idle users are removed. A user is a
    login, or None where it is unknown. Durations are in seconds.
    """

    now: Callable[[], float]
    registry: CollectorRegistry = field(factory=CollectorRegistry)
    in_flight: Gauge = field(init=False)
    #: The quota that all users have spent and saved, including users that are no longer shown.
    spent_in_all: int = field(init=False, default=0)
    saved_in_all: int = field(init=False, default=0)
    #: The responses 304 that GitHub charged, and requests that timed out.
    charged_in_all: int = field(init=False, default=0)
    cost_unknown_in_all: int = field(init=False, default=0)
    #: The operations (methods and path patterns) of charged requests.
    paid_operations: Busiest = field(init=False, factory=Busiest)
    #: The errors of the last snapshots that failed, by operation.
    snapshot_errors: dict[str, str] = field(init=False, factory=dict)
    _named: dict[str, Any] = field(init=False, factory=dict)
    _stores: StoreCollector = field(init=False, factory=StoreCollector)
    _budgets: BudgetCollector = field(init=False, factory=BudgetCollector)
    _requests: LabelledHistogram = field(init=False)
    _upstream: LabelledHistogram = field(init=False)
    _store: LabelledHistogram = field(init=False)
    _limits: Callable[[], Iterable[tuple[str, str, str]]] = field(init=False, default=tuple)
    _users: RecentSeries = field(init=False)
    _quotas: RecentSeries = field(init=False)

    def __attrs_post_init__(self) -> None:
        named = self._named
        helps = {}
        for kind, name, text, labels in CATALOGUE:
            full, helps[name] = f"ghmirror_{name}", f"{text}."
            if kind is Histogram:
                named[name] = LabelledHistogram(full, helps[name], labels, BUCKETS[name])
            elif name == "requests":
                named[name] = None  # the observations of request_seconds, see below
            else:
                named[name] = kind(full, helps[name], labels, registry=self.registry)
        self.in_flight = named["in_flight"]
        self._requests, self._upstream = named["request_seconds"], named["upstream_seconds"]
        self._store = named["store_seconds"]
        named["requests"] = ObservationCounter(
            "ghmirror_requests", helps["requests"], self._requests
        )
        for name in ("requests", *BUCKETS):
            self.registry.register(named[name])
        self._users = RecentSeries((named["quota_spent"], named["quota_saved"]))
        quotas = ("quota_remaining", "quota_limit", "quota_reset_timestamp_seconds")
        self._quotas = RecentSeries(tuple(named[name] for name in quotas))
        self._set_initial_values()
        self.registry.register(self._stores)
        self.registry.register(self._budgets)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def _set_initial_values(self) -> None:
        """Show availability as true, and counters from zero, so that the first event increases."""
        for name in ("store_available", "github_available", "sharing_enabled"):
            self._named[name].set(1)
        self._named["build_info"].labels(__version__).set(1)
        for operation in ("save", "restore"):
            self._named["snapshot_failures"].labels(operation)
        for result in ("accepted", "refused", "unclear"):
            self._named["credential_checks"].labels(result)

    def request(self, method: bytes, status: int, outcome: str, seconds: float) -> None:
        """Count a response to a client, and the time to it."""
        self._requests.observe(seconds, _METHODS.get(method, "OTHER"), status, outcome)

    def upstream(self, method: bytes, status: int | str, seconds: float) -> None:
        """Count the time to GitHub's response; *status* is a word where there was none."""
        self._upstream.observe(seconds, _METHODS.get(method, "OTHER"), status)

    def store(self, store: str, operation: str, result: str, seconds: float) -> None:
        """Count the latency of an operation on a store, and its result."""
        self._store.observe(seconds, store, operation, result)

    def reactor_lag(self, seconds: float) -> None:
        """Count how late a timer was called."""
        self._named["reactor_lag_seconds"].observe(seconds)

    def spent(self, user: str | None) -> None:
        """Count a request that GitHub charged to *user*."""
        self.spent_in_all += 1
        self._users.get(self.now(), user or "unknown").series[0].inc()

    def charged(self, user: str | None) -> None:
        """Count a 304 that GitHub charged to *user*."""
        self.charged_in_all += 1
        self.spent(user)

    def paid(self, operation: str) -> None:
        """Count a charged request by its operation; see `path_labels.operation_of`."""
        self.paid_operations.count(scrub(operation))

    def cost_unknown(self) -> None:
        """Count a request that timed out: GitHub may have charged it."""
        self.cost_unknown_in_all += 1
        self._named["quota_unknown"].inc()

    def saved(self, user: str | None) -> None:
        """Count a request of *user* that GitHub did not charge."""
        self.saved_in_all += 1
        self._users.get(self.now(), user or "unknown").series[1].inc()

    def quota(
        self, user: str | None, resource: str, remaining: int, limit: int | None, reset: int
    ) -> None:
        """Show the quota of GitHub's last response; *reset* is in seconds since the epoch."""
        group = self._quotas.get(self.now(), user or "unknown", resource)
        values = remaining, limit, reset
        if group.values != values:
            group.values = values
            for series, value in zip(group.series, values, strict=True):
                series.set(math.nan if value is None else value)

    def collapsed(self) -> None:
        """Count a request that got the response to another request."""
        self._named["collapsed"].inc()

    def dated(self) -> None:
        """Count a response that GitHub confirmed by its date; see `[cache] validate_by_date`."""
        self._named["dated"].inc()

    def former_secret(self) -> None:
        """Count a request whose credential has records under a former secret's name alone."""
        self._named["former_secret"].inc()

    def iam_failure(self) -> None:
        """Count a failure to sign an IAM token for Redis."""
        self._named["iam_failures"].inc()

    def unstorable(self, reason: str) -> None:
        """Count a response 200 that could not be stored."""
        self._named["unstorable"].labels(reason).inc()

    def credential_checked(self, result: str) -> None:
        """Count the check of a credential: ``accepted``, ``refused`` or ``unclear``."""
        self._named["credential_checks"].labels(result).inc()

    def watch_unaccepted(self, in_flight: Callable[[], int]) -> None:
        """Show the requests in flight to GitHub with credentials that are not accepted yet."""
        self._named["unknown_in_flight"].set_function(in_flight)

    def unaccepted_overloaded(self) -> None:
        """Count a response 503 to a credential that GitHub has not accepted yet."""
        self._named["unknown_overloaded"].inc()

    def watch_sharing(self, enabled: Callable[[], bool]) -> None:
        """Show whether validators are computed for other credentials.

        *enabled* is called for each scrape, since it can change by time alone.
        """
        self._named["sharing_enabled"].set_function(enabled)

    def watch_limits(self, limits: Callable[[], Iterable[tuple[str, str, str]]]) -> None:
        """Show the rate limits in force, each with its user, resource and kind.

        *limits* is called for each scrape, since limits expire.
        """
        self._limits = limits

    def store_available(self, available: bool) -> None:
        """Show whether the configured store is available; initially true."""
        self._named["store_available"].set(available)

    def github_available(self, available: bool) -> None:
        """Show whether GitHub is available; initially true."""
        self._named["github_available"].set(available)

    def watch_store(self, name: str, figures: Callable[[], StoreFigures]) -> None:
        """Show the sizes of a store, which *figures* returns for each scrape."""
        self._stores.watched[name] = figures

    def watch_budgets(self, budgets: Iterable[ByteBudget]) -> None:
        """Show these budgets of bytes."""
        self._budgets.watched = tuple(budgets)

    def snapshot(
        self, operation: str, *, at: float, seconds: float, size_bytes: int, records: int
    ) -> None:
        """Show the last snapshot; *operation* is ``save`` or ``restore``."""
        self.snapshot_recovered(operation)
        self._named["snapshot_timestamp_seconds"].labels(operation).set(at)
        self._named["snapshot_seconds"].labels(operation).set(seconds)
        self._named["snapshot_bytes"].labels(operation).set(size_bytes)
        self._named["snapshot_records"].labels(operation).set(records)

    def snapshot_failed(self, operation: str, error: str) -> None:
        """Count a failed snapshot; *error* is shown until the next one that does not fail."""
        self.snapshot_errors[operation] = scrub(error)
        self._named["snapshot_failures"].labels(operation).inc()

    def snapshot_recovered(self, operation: str) -> None:
        """Show the error of the last failure no longer."""
        self.snapshot_errors.pop(operation, None)

    def exposition(self, accept: bytes | None) -> tuple[bytes, bytes]:
        """Return media type and content for a scrape: OpenMetrics if *accept* names it."""
        self._expire()
        open_metrics = b"application/openmetrics-text" in (accept or b"").lower()
        encode, media_type = choose_encoder(
            "application/openmetrics-text; version=1.0.0" if open_metrics else ""
        )
        return media_type.encode(), encode(WithoutCreated(self.registry))

    def samples(self, *names: str) -> Iterator[tuple[str, dict[str, str], float]]:
        """Yield name, labels and value of each series that a scrape would show now.

        *names* selects metrics by their names in `CATALOGUE`; without names, all are read.
        """
        self._expire()
        selected = [self._named[name] for name in names]
        for collector in selected or (*self._named.values(), self._stores, self._budgets):
            for metric in collector.collect():
                for sample in metric.samples:
                    yield sample.name, sample.labels, sample.value

    def _expire(self) -> None:
        limited = self._named["limited"]
        limited.clear()
        for labels in islice(self._limits(), USER_SERIES):
            limited.labels(*labels).set(1)
        now = self.now()
        self._users.expire(now)
        self._quotas.expire(now)
