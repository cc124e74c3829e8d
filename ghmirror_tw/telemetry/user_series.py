"""Series of metrics by user, which expire with their users."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from attrs import define, field

#: The most series by user, and the time after which an unused one is removed.
USER_SERIES: Final = 200

USER_IDLE_S: Final = 3600.0


@define(eq=False)
class SeriesGroup:
    """Series with the same labels, the time of their last change, and their values."""

    series: tuple[Any, ...]
    used_at: float = 0.0
    values: tuple[int | None, ...] | None = None


@define(eq=False)
class RecentSeries:
    """Metrics with series by user: the least recently used are removed first (LRU)."""

    metrics: tuple[Any, ...]
    active: OrderedDict[tuple[str, ...], SeriesGroup] = field(init=False, factory=OrderedDict)

    def get(self, now: float, *labels: str) -> SeriesGroup:
        """Return the series with these labels, which are now the most recently used."""
        group = self.active.get(labels)
        if group is None:
            group = SeriesGroup(tuple(metric.labels(*labels) for metric in self.metrics))
            self.active[labels] = group
        group.used_at = now
        self.active.move_to_end(labels)
        if len(self.active) > USER_SERIES:
            self._remove_oldest()
        return group

    def expire(self, now: float) -> None:
        """Remove the series that were not used for `USER_IDLE_S`."""
        while self.active:
            if now - next(iter(self.active.values())).used_at < USER_IDLE_S:
                return
            self._remove_oldest()

    def _remove_oldest(self) -> None:
        labels, _ = self.active.popitem(last=False)
        for metric in self.metrics:
            metric.remove(*labels)
