"""Collectors of values that are read at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from attrs import define, field
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from twisted.logger import Logger

from ghmirror_tw.telemetry.metric_catalogue import BUDGET_METRICS, STORE_METRICS, StoreFigures
from ghmirror_tw.upstream.byte_budget import ByteBudget


@define(eq=False)
class StoreCollector(Collector):
    """The sizes of stores, which are read for each scrape."""

    watched: dict[str, Callable[[], StoreFigures]] = field(factory=dict)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.metrics"))

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all stores."""
        families = tuple(kind(name, text, labels=["store"]) for kind, name, text in STORE_METRICS)
        for name, figures in self.watched.items():
            try:
                values = figures()
            except Exception:  # noqa: BLE001 - one store in trouble must not hide all metrics
                self._log.failure("Figures of a store cannot be read: store={store}", store=name)
                continue
            for family, value in zip(families, values, strict=True):
                if value is not None:
                    family.add_metric([name], value)
        return families


@define(eq=False)
class BudgetCollector(Collector):
    """The figures of budgets of bytes."""

    watched: tuple[ByteBudget, ...] = ()

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of all budgets."""
        for kind, name, text, value in BUDGET_METRICS:
            family = kind(name, text, labels=["use"])
            for budget in self.watched:
                family.add_metric([budget.use], value(budget))
            yield family


@define(eq=False)
class WithoutCreated(Collector):
    """A registry without the `_created` series, which no dashboard uses."""

    registry: CollectorRegistry

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the registry."""
        for metric in self.registry.collect():
            if metric.type in {"counter", "histogram"}:
                created = metric.name + "_created"
                metric.samples = [each for each in metric.samples if each.name != created]
            yield metric
