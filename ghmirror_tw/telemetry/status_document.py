"""The content of the status page as one JSON document; see docs/status.rst."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import define

from ghmirror_tw.github.rate_limit_resources import CORE
from ghmirror_tw.telemetry.busiest import HALF_LIFE_S, Busiest
from ghmirror_tw.telemetry.last_hour import LastHour, TotalsSample
from ghmirror_tw.telemetry.metric_totals import MetricReadings, RequestTotals
from ghmirror_tw.telemetry.metrics import Metrics

#: The windows of latencies, in seconds.
_WINDOWS: Final = {"5m": 300.0, "1h": 3600.0}
#: The number of busiest paths shown; less than are counted, since the order of the last is vague.
_PATHS: Final = 25
_OPERATIONS: Final = ("save", "restore")


@define(eq=False)
class StatusDocument:
    """Combines metrics with the state of the mirror's parts.

    *constants* are fields that never change. *sections* are functions that return a section of the
    document by its name. Times are seconds since the epoch, durations seconds, sizes bytes; null
    is "unknown".
    """

    now: Callable[[], float]
    metrics: Metrics
    last_hour: LastHour
    busiest: Busiest
    constants: Mapping[str, object]
    sections: Mapping[str, Callable[[], Any]]

    def document(self) -> dict[str, Any]:
        """Return the document of now."""
        readings = MetricReadings.of(self.metrics)
        now = TotalsSample(self.now(), RequestTotals.of(self.metrics, readings))
        sections = {name: read() for name, read in self.sections.items()}
        snapshots = sections.get("snapshots")
        return {
            **self.constants,
            "at": round(now.at, 3),
            **sections,
            "in_flight": round(readings.value("ghmirror_in_flight") or 0),
            "collapsed": round(readings.value("ghmirror_collapsed_total") or 0),
            "requests": {
                "total": sum(now.totals.outcomes.values()),
                "outcomes": now.totals.outcomes,
            },
            "hour": self._hour(now),
            "quota": {
                "spent": now.totals.spent,
                "saved": now.totals.saved,
                "users": _users(readings),
                "remaining": _remaining(readings),
            },
            "charges": {
                "not_modified": self.metrics.charged_in_all,
                "unknown": self.metrics.cost_unknown_in_all,
            },
            "latencies": self._latencies(now),
            "store": {**sections.get("store", {}), "stores": _stores(readings)},
            "snapshots": None if snapshots is None else self._snapshots(snapshots, readings),
            "paths": self._paths(),
        }

    def _hour(self, now: TotalsSample) -> dict[str, Any]:
        """Return the totals of the last hour, and the outcomes of each of its minutes."""
        since, hour = self.last_hour.since(_WINDOWS["1h"], now)
        return {
            "since": round(since, 3),
            "requests": sum(hour.outcomes.values()),
            "outcomes": hour.outcomes,
            "spent": hour.spent,
            "saved": hour.saved,
            "minutes": [
                {"at": round(at, 3), "outcomes": outcomes}
                for at, outcomes in self.last_hour.minutes(now)
            ],
        }

    def _paths(self) -> dict[str, Any]:
        """Return the busiest paths, and the operations that were charged most."""
        return {
            "half_life": HALF_LIFE_S,
            "busiest": _shares("path", self.busiest),
            "paid": _shares("operation", self.metrics.paid_operations),
        }

    def _snapshots(self, state: dict[str, Any], readings: MetricReadings) -> dict[str, Any]:
        """Return the *state* of snapshots, with the last save and restore and their errors."""
        errors = self.metrics.snapshot_errors
        last = _snapshots(readings)
        return state | {each: {**last[each], "error": errors.get(each)} for each in last}

    def _latencies(self, now: TotalsSample) -> dict[str, Any]:
        windows = {name: self.last_hour.since(length, now)[1] for name, length in _WINDOWS.items()}
        return {
            kind: {name: totals.times[kind].document for name, totals in windows.items()}
            for kind in now.totals.times
        }


def _shares(kind: str, counted: Busiest) -> list[dict[str, Any]]:
    """Return the most frequent names with their shares."""
    return [
        {kind: each.name, "share": round(each.share, 4), "error": round(each.error, 4)}
        for each in counted.busiest(_PATHS)
    ]


def _users(readings: MetricReadings) -> list[dict[str, Any]]:
    """Return the quota that each user spent and saved, sorted by the saved quota."""
    spent = readings.by("ghmirror_quota_spent_total", "user")
    saved = readings.by("ghmirror_quota_saved_total", "user")
    shown = [{"user": user, "spent": spent[user], "saved": saved.get(user, 0)} for user in spent]
    return sorted(shown, key=lambda each: (-each["saved"], -each["spent"], each["user"]))


def _remaining(readings: MetricReadings) -> list[dict[str, Any]]:
    """Return the remaining quotas, sorted by resource (core first) and by remainder."""
    limits, resets = (
        {
            (labels["user"], labels["resource"]): value
            for labels, value in readings.all_of(f"ghmirror_quota_{name}")
        }
        for name in ("limit", "reset_timestamp_seconds")
    )
    shown = []
    for labels, value in readings.all_of("ghmirror_quota_remaining"):
        key = labels["user"], labels["resource"]
        shown.append(
            {
                "user": labels["user"],
                "resource": labels["resource"],
                "remaining": round(value),
                "limit": None if math.isnan(limits[key]) else round(limits[key]),
                "resets_at": resets[key],
            }
        )
    return sorted(shown, key=_weight)


def _weight(quota: dict[str, Any]) -> tuple[bool, str, int, str]:
    resource = quota["resource"]
    return resource != CORE, resource, quota["remaining"], quota["user"]


def _stores(readings: MetricReadings) -> list[dict[str, Any]]:
    """Return the sizes of each store."""
    figures = ("bytes", "representations", "grants", "evictions")
    names = [f"ghmirror_store_{each}" for each in (*figures[:3], "evictions_total")]
    stores = dict.fromkeys(labels["store"] for name in names for labels, _ in readings.all_of(name))
    return [
        {"store": store}
        | {
            figure: None if (value := readings.value(name, store=store)) is None else round(value)
            for figure, name in zip(figures, names, strict=True)
        }
        for store in stores
    ]


def _snapshots(readings: MetricReadings) -> dict[str, Any]:
    """Return the last save and restore, and the number of failures of each."""
    shown: dict[str, Any] = {}
    for operation in _OPERATIONS:
        at, seconds, size, records = (
            readings.value(f"ghmirror_snapshot_{name}", operation=operation)
            for name in ("timestamp_seconds", "seconds", "bytes", "records")
        )
        failures = readings.value("ghmirror_snapshot_failures_total", operation=operation)
        shown[operation] = {
            "at": at,
            "seconds": seconds,
            "bytes": None if size is None else round(size),
            "records": None if records is None else round(records),
            "failures": round(failures or 0),
        }
    return shown
