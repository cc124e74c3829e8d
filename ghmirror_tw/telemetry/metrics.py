"""What the mirror counts and measures, in the words of Prometheus."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

from attrs import define, field, frozen
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from twisted.logger import Logger

from ghmirror_tw.telemetry.histograms import Counts, Tallies
from ghmirror_tw.upstream.byte_budget import ByteBudget

#: Methods that are labels of their own (RFC 9110, section 9; RFC 5789); all others are ``OTHER``.
_METHODS: Final = {
    name.encode(): name
    for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
}

_NETWORK: Final = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000)
_LOCAL: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000)

#: Upper bounds in seconds: of what takes a network, and of what a store adds.
_BUCKETS: Final = {
    "request_seconds": tuple(each / 1000 for each in _NETWORK),
    "upstream_seconds": tuple(each / 1000 for each in _NETWORK),
    "store_seconds": tuple(each / 1000 for each in _LOCAL),
}

#: How many series may differ by user, and how long one is shown that nothing happens to.
USER_SERIES: Final = 200
USER_IDLE_S: Final = 3600.0

#: What a store tells of itself, in the order in which it tells it.
_STORE_FIGURES: Final[tuple[tuple[Any, str, str], ...]] = (
    (GaugeMetricFamily, "ghmirror_store_bytes", "Bytes held."),
    (GaugeMetricFamily, "ghmirror_store_representations", "Representations held."),
    (GaugeMetricFamily, "ghmirror_store_grants", "Grants held."),
    (CounterMetricFamily, "ghmirror_store_evictions", "Representations pushed out by others."),
)

#: What a budget of bytes shows of itself: the kind, name and help of a metric, and its value.
_BUDGET_FIGURES: Final[tuple[tuple[Any, str, str, Callable[[ByteBudget], float]], ...]] = (
    (
        GaugeMetricFamily,
        "ghmirror_content_bytes",
        "Bytes that requests under way hold.",
        lambda budget: budget.held,
    ),
    (
        GaugeMetricFamily,
        "ghmirror_content_limit_bytes",
        "Bytes that requests under way may hold.",
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
        "Requests that found no room in time, and connections closed to make room.",
        lambda budget: budget.refusals,
    ),
)

StoreFigures = tuple[int | None, int | None, int | None, int | None]


@define(eq=False)
class _Pair:
    """Two series, when something happened to them last, and what they were set to."""

    first: Any
    second: Any
    seen_at: float = 0.0
    values: tuple[int, int] | None = None


@define(eq=False)
class _Recent:
    """Two metrics whose series come and go with users; the least recently active goes first."""

    first: Any
    second: Any
    active: OrderedDict[tuple[str, ...], _Pair] = field(init=False, factory=OrderedDict)

    def get(self, now: float, *labels: str) -> _Pair:
        pair = self.active.get(labels)
        if pair is None:
            pair = _Pair(self.first.labels(*labels), self.second.labels(*labels))
            self.active[labels] = pair
        pair.seen_at = now
        self.active.move_to_end(labels)
        if len(self.active) > USER_SERIES:
            self._remove_oldest()
        return pair

    def expire(self, now: float) -> None:
        while self.active:
            if now - next(iter(self.active.values())).seen_at < USER_IDLE_S:
                return
            self._remove_oldest()

    def _remove_oldest(self) -> None:
        labels, _ = self.active.popitem(last=False)
        self.first.remove(*labels)
        self.second.remove(*labels)


@define(eq=False)
class _Stores(Collector):
    """Figures of stores, asked for when they are shown."""

    watched: dict[str, Callable[[], StoreFigures]] = field(factory=dict)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.metrics"))

    def collect(self) -> Iterable[Metric]:
        families = tuple(kind(name, text, labels=["store"]) for kind, name, text in _STORE_FIGURES)
        for name, figures in self.watched.items():
            try:
                values = figures()
            except Exception:  # noqa: BLE001 - one store in trouble must not hide all metrics
                self._log.failure("The figures of the {store} store can't be read", store=name)
                continue
            for family, value in zip(families, values, strict=True):
                if value is not None:
                    family.add_metric([name], value)
        return families


@define(eq=False)
class _Budgets(Collector):
    """Figures of budgets of bytes."""

    watched: tuple[ByteBudget, ...] = ()

    def collect(self) -> Iterable[Metric]:
        for kind, name, text, value in _BUDGET_FIGURES:
            family = kind(name, text, labels=["use"])
            for budget in self.watched:
                family.add_metric([budget.use], value(budget))
            yield family


@define(eq=False)
class _WithoutCreated(Collector):
    """A registry without the `_created` series, which double what is shown and tell nothing."""

    registry: CollectorRegistry

    def collect(self) -> Iterator[Metric]:
        for metric in self.registry.collect():
            if metric.type in {"counter", "histogram"}:
                created = metric.name + "_created"
                metric.samples = [each for each in metric.samples if each.name != created]
            yield metric


#: What is shown, each with its labels; the kinds of snapshots are ``save`` and ``restore``.
_CATALOGUE: Final[tuple[tuple[type, str, str, tuple[str, ...]], ...]] = (
    (Counter, "requests", "Requests answered", ("method", "status", "outcome")),
    (Histogram, "request_seconds", "Time to answer", ("method", "status", "outcome")),
    (Histogram, "upstream_seconds", "Time that GitHub took", ("method", "status")),
    (Histogram, "store_seconds", "Latency of the store", ("store", "operation", "result")),
    (Counter, "quota_spent", "Questions that GitHub counted", ("user",)),
    (Counter, "quota_saved", "Requests for which GitHub counted nothing", ("user",)),
    (Counter, "quota_unknown", "Requests that timed out, which GitHub may have counted", ()),
    (Gauge, "quota_remaining", "Quota left, as last heard", ("user", "resource")),
    (Gauge, "quota_reset_timestamp_seconds", "When quota is full again", ("user", "resource")),
    (Gauge, "limited", "1 while a limit of GitHub's is in force", ("user", "resource", "kind")),
    (Gauge, "store_available", "Whether the configured store can be used", ()),
    (Gauge, "github_available", "Whether GitHub answers", ()),
    (Gauge, "sharing_enabled", "Whether one credential profits from another", ()),
    (Counter, "unstorable", "Responses of status 200 that could not be stored", ("reason",)),
    (Counter, "collapsed", "Requests that got the answer to another one", ()),
    (Gauge, "in_flight", "Requests being answered", ()),
    (Gauge, "unknown_in_flight", "Requests to GitHub of credentials not accepted yet", ()),
    (Counter, "unknown_overloaded", "Requests of such credentials that got a 503", ()),
    (Counter, "credential_checks", "Credentials checked before their first request", ("result",)),
    (Gauge, "snapshot_timestamp_seconds", "When the last snapshot was done", ("operation",)),
    (Gauge, "snapshot_seconds", "How long the last snapshot took", ("operation",)),
    (Gauge, "snapshot_bytes", "Size of the last snapshot", ("operation",)),
    (Gauge, "snapshot_records", "Records in the last snapshot", ("operation",)),
    (Counter, "snapshot_failures", "Snapshots that failed", ("operation",)),
)


@frozen
class Described:
    """A metric in words: its name, its kind, its labels, what it tells."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def catalogue() -> Iterator[Described]:
    """Give all that is shown, but for what tells of the process alone."""
    for kind, name, text, labels in _CATALOGUE:
        full = f"ghmirror_{name}_total" if kind is Counter else f"ghmirror_{name}"
        yield Described(full, kind.__name__.lower(), labels, f"{text}.")
    for family, name, text in _STORE_FIGURES:
        counts = family is CounterMetricFamily
        full = f"{name}_total" if counts else name
        yield Described(full, "counter" if counts else "gauge", ("store",), text)
    for family, name, text, _ in _BUDGET_FIGURES:
        counts = family is CounterMetricFamily
        full = f"{name}_total" if counts else name
        yield Described(full, "counter" if counts else "gauge", ("use",), text)


@define(eq=False)
class Metrics:
    """All metrics of one mirror, in a registry of their own.

    *now* tells the time in seconds, for series of users that go when nothing happens to them.
    A user is a login, or None where it isn't known. Times that are measured are in seconds.
    """

    now: Callable[[], float]
    registry: CollectorRegistry = field(factory=CollectorRegistry)
    in_flight: Gauge = field(init=False)
    #: What all users spent and saved, those included that are no longer shown.
    spent_in_all: int = field(init=False, default=0)
    saved_in_all: int = field(init=False, default=0)
    #: 304s that GitHub counted, and requests that timed out.
    charged_in_all: int = field(init=False, default=0)
    unknown_in_all: int = field(init=False, default=0)
    _named: dict[str, Any] = field(init=False, factory=dict)
    _stores: _Stores = field(init=False, factory=_Stores)
    _budgets: _Budgets = field(init=False, factory=_Budgets)
    _answered: Tallies = field(init=False)
    _asked: Tallies = field(init=False)
    _looked_up: Tallies = field(init=False)
    _limits: Callable[[], Iterable[tuple[str, str, str]]] = field(init=False, default=tuple)
    _users: _Recent = field(init=False)
    _quotas: _Recent = field(init=False)

    def __attrs_post_init__(self) -> None:
        named = self._named
        for kind, name, documentation, labels in _CATALOGUE:
            about = f"ghmirror_{name}", documentation + "."
            if kind is Histogram:
                named[name] = Tallies(*about, labels, _BUCKETS[name])
            elif name == "requests":
                named[name] = None  # counted with their times
            else:
                named[name] = kind(*about, labels, registry=self.registry)
        self.in_flight = named["in_flight"]
        self._answered, self._asked = named["request_seconds"], named["upstream_seconds"]
        self._looked_up = named["store_seconds"]
        named["requests"] = Counts("ghmirror_requests", "Requests answered.", self._answered)
        for name in ("requests", "request_seconds", "upstream_seconds", "store_seconds"):
            self.registry.register(named[name])
        self._users = _Recent(named["quota_spent"], named["quota_saved"])
        self._quotas = _Recent(named["quota_remaining"], named["quota_reset_timestamp_seconds"])
        for name in ("store_available", "github_available", "sharing_enabled"):
            named[name].set(1)
        # From zero on, so that the first failure is an increase.
        for operation in ("save", "restore"):
            named["snapshot_failures"].labels(operation)
        for result in ("accepted", "refused", "unclear"):
            named["credential_checks"].labels(result)
        self.registry.register(self._stores)
        self.registry.register(self._budgets)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def request(self, method: bytes, status: int, outcome: str, seconds: float) -> None:
        """Count a request that was answered."""
        self._answered.get(_METHODS.get(method, "OTHER"), status, outcome).observe(seconds)

    def upstream(self, method: bytes, status: int | str, seconds: float) -> None:
        """Note how long GitHub took; *status* is a word where no answer came."""
        self._asked.get(_METHODS.get(method, "OTHER"), status).observe(seconds)

    def store(self, store: str, operation: str, result: str, seconds: float) -> None:
        """Note how long a question to a store took, and what came of it."""
        self._looked_up.get(store, operation, result).observe(seconds)

    def spent(self, user: str | None, n: int = 1) -> None:
        """Count *n* requests that GitHub charged to *user*."""
        self.spent_in_all += n
        self._users.get(self.now(), user or "unknown").first.inc(n)

    def charged(self, user: str | None) -> None:
        """Count a 304 that GitHub charged to *user*."""
        self.charged_in_all += 1
        self.spent(user)

    def unknown(self) -> None:
        """Count a request that timed out: GitHub may have charged it."""
        self.unknown_in_all += 1
        self._named["quota_unknown"].inc()

    def saved(self, user: str | None, n: int = 1) -> None:
        """Count *n* requests of *user* that GitHub did not charge."""
        self.saved_in_all += n
        self._users.get(self.now(), user or "unknown").second.inc(n)

    def quota(self, user: str | None, resource: str, remaining: int, reset: int) -> None:
        """Show what GitHub last said of a user's quota; *reset* is in seconds since the epoch."""
        pair = self._quotas.get(self.now(), user or "unknown", resource)
        if pair.values != (remaining, reset):
            pair.values = remaining, reset
            pair.first.set(remaining)
            pair.second.set(reset)

    def collapsed(self) -> None:
        """Count a request that was answered with another's answer."""
        self._named["collapsed"].inc()

    def unstorable(self, reason: str) -> None:
        """Count a 200 that could not be stored."""
        self._named["unstorable"].labels(reason).inc()

    def credential_checked(self, result: str) -> None:
        """Count a check of a credential: it was ``accepted``, ``refused``, or it is ``unclear``."""
        self._named["credential_checks"].labels(result).inc()

    def watch_unknown(self, in_flight: Callable[[], int]) -> None:
        """Show how many requests of credentials that are not accepted yet are at GitHub."""
        self._named["unknown_in_flight"].set_function(in_flight)

    def unknown_overloaded(self) -> None:
        """Count a 503 for a credential that GitHub has not accepted yet."""
        self._named["unknown_overloaded"].inc()

    def watch_sharing(self, enabled: Callable[[], bool]) -> None:
        """Show whether validators are computed for other credentials; true until said.

        *enabled* is asked whenever somebody looks, since time alone may change it.
        """
        self._named["sharing_enabled"].set_function(enabled)

    def watch_limits(self, limits: Callable[[], Iterable[tuple[str, str, str]]]) -> None:
        """Show the limits that are in force, each by its user, resource and kind.

        *limits* is called for each scrape, since limits end by time alone.
        """
        self._limits = limits

    def store_available(self, available: bool) -> None:
        """Show whether the configured store can be used; true until said."""
        self._named["store_available"].set(available)

    def github_available(self, available: bool) -> None:
        """Show whether GitHub answers; true until said."""
        self._named["github_available"].set(available)

    def watch_store(self, name: str, figures: Callable[[], StoreFigures]) -> None:
        """Show the figures of a store: bytes, representations, grants, evictions so far.

        None where a figure isn't known.
        """
        self._stores.watched[name] = figures

    def watch_budgets(self, budgets: Iterable[ByteBudget]) -> None:
        """Show the figures of budgets of bytes."""
        self._budgets.watched = tuple(budgets)

    def snapshot(
        self, operation: str, *, at: float, seconds: float, size_bytes: int, records: int
    ) -> None:
        """Show the snapshot that was done last; *operation* is ``save`` or ``restore``."""
        self._named["snapshot_timestamp_seconds"].labels(operation).set(at)
        self._named["snapshot_seconds"].labels(operation).set(seconds)
        self._named["snapshot_bytes"].labels(operation).set(size_bytes)
        self._named["snapshot_records"].labels(operation).set(records)

    def snapshot_failed(self, operation: str) -> None:
        """Count a snapshot that failed."""
        self._named["snapshot_failures"].labels(operation).inc()

    def exposition(self, accept: bytes | None) -> tuple[bytes, bytes]:
        """Return media type and content for a scrape: OpenMetrics where *accept* names it."""
        self._expire()
        open_metrics = b"application/openmetrics-text" in (accept or b"").lower()
        encode, media_type = choose_encoder(
            "application/openmetrics-text; version=1.0.0" if open_metrics else ""
        )
        return media_type.encode(), encode(_WithoutCreated(self.registry))

    def samples(self, *names: str) -> Iterator[tuple[str, dict[str, str], float]]:
        """Give name, labels and value of each series of ours that a scrape would show now.

        *names*: of which metrics, as they are called here; without any, of all.
        """
        self._expire()
        asked = [self._named[name] for name in names]
        for collector in asked or (*self._named.values(), self._stores, self._budgets):
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
