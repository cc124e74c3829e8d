"""All that the status page shows, as one JSON document; see docs/status.rst."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import define

from ghmirror_tw.github.rate_limits import CORE
from ghmirror_tw.telemetry.busiest import HALF_LIFE_S, Busiest
from ghmirror_tw.telemetry.last_hour import History, Note
from ghmirror_tw.telemetry.metric_readings import Readings, Totals
from ghmirror_tw.telemetry.metrics import Metrics

#: For how long back latencies are told, in seconds.
_WINDOWS: Final = {"5m": 300.0, "1h": 3600.0}
#: How many of the busiest paths are shown; fewer than are kept, whose order is not sure.
_PATHS: Final = 25
_OPERATIONS: Final = ("save", "restore")

Teller = Callable[[], Any]


@define(eq=False)
class Figures:
    """Puts together what is counted, and what those who know tell of themselves.

    *about*: what never changes. *tellers*: who is asked for a part of the document, by its name.
    Times are seconds since the epoch, durations seconds, sizes bytes; null is "not known".
    """

    now: Callable[[], float]
    metrics: Metrics
    history: History
    busiest: Busiest
    about: Mapping[str, object]
    tellers: Mapping[str, Teller]

    def document(self) -> dict[str, Any]:
        """Return the figures of now."""
        readings = Readings.of(self.metrics)
        now = Note(self.now(), Totals.of(self.metrics, readings))
        told = {name: tell() for name, tell in self.tellers.items()}
        since, hour = self.history.since(_WINDOWS["1h"], now)
        snapshots = told.get("snapshots")
        return {
            **self.about,
            "at": round(now.at, 3),
            **told,
            "in_flight": round(readings.value("ghmirror_in_flight") or 0),
            "collapsed": round(readings.value("ghmirror_collapsed_total") or 0),
            "requests": {
                "total": sum(now.totals.outcomes.values()),
                "outcomes": now.totals.outcomes,
            },
            "hour": {
                "since": round(since, 3),
                "requests": sum(hour.outcomes.values()),
                "outcomes": hour.outcomes,
                "spent": hour.spent,
                "saved": hour.saved,
                "minutes": [
                    {"at": round(at, 3), "outcomes": ended}
                    for at, ended in self.history.minutes(now)
                ],
            },
            "quota": {
                "spent": now.totals.spent,
                "saved": now.totals.saved,
                "users": _users(readings),
                "remaining": _remaining(readings),
            },
            "charges": {
                "not_modified": self.metrics.charged_in_all,
                "unknown": self.metrics.unknown_in_all,
            },
            "latencies": self._latencies(now),
            "store": {**told.get("store", {}), "stores": _stores(readings)},
            "snapshots": None if snapshots is None else {**snapshots, **_snapshots(readings)},
            "paths": {
                "half_life": HALF_LIFE_S,
                "busiest": [
                    {
                        "path": each.name,
                        "share": round(each.share, 4),
                        "error": round(each.error, 4),
                    }
                    for each in self.busiest.busiest(_PATHS)
                ],
            },
        }

    def _latencies(self, now: Note) -> dict[str, Any]:
        windows = {name: self.history.since(length, now)[1] for name, length in _WINDOWS.items()}
        return {
            what: {name: totals.times[what].document for name, totals in windows.items()}
            for what in now.totals.times
        }


def _users(readings: Readings) -> list[dict[str, Any]]:
    """Return what each user spent and saved, who saved most first."""
    spent = readings.by("ghmirror_quota_spent_total", "user")
    saved = readings.by("ghmirror_quota_saved_total", "user")
    shown = [{"user": user, "spent": spent[user], "saved": saved.get(user, 0)} for user in spent]
    return sorted(shown, key=lambda each: (-each["saved"], -each["spent"], each["user"]))


def _remaining(readings: Readings) -> list[dict[str, Any]]:
    """Return what is left of quotas as last heard, core first, and of each resource the least."""
    resets = {
        (labels["user"], labels["resource"]): value
        for labels, value in readings.all_of("ghmirror_quota_reset_timestamp_seconds")
    }
    shown = [
        {
            "user": labels["user"],
            "resource": labels["resource"],
            "remaining": round(value),
            "resets_at": resets[labels["user"], labels["resource"]],
        }
        for labels, value in readings.all_of("ghmirror_quota_remaining")
    ]
    return sorted(shown, key=_weight)


def _weight(quota: dict[str, Any]) -> tuple[bool, str, int, str]:
    resource = quota["resource"]
    return resource != CORE, resource, quota["remaining"], quota["user"]


def _stores(readings: Readings) -> list[dict[str, Any]]:
    """Return what each store holds."""
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


def _snapshots(readings: Readings) -> dict[str, Any]:
    """Return what was saved and restored last, and how often that failed."""
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
