"""The status document as tables of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from ghmirror_tw.cli import text_format
from ghmirror_tw.telemetry.logs import escape

_UNKNOWN: Final = "-"
_OUTCOMES: Final = (
    *("revalidated", "shared", "empty", "fresh", "stale"),
    *("miss", "changed", "pass", "error"),
)
_QUANTILES: Final = ("p50", "p90", "p95", "p99")
_WINDOWS: Final = (("5m", "5 min"), ("1h", "hour"))
_TIMED: Final = (("requests", "requests"), ("github", "GitHub"), ("store", "store"))
_BARS: Final = "▁▂▃▄▅▆▇█"
_MINUTE_S: Final = 60
_MINUTES: Final = 60

#: A status document; see docs/status.rst.
StatusFields = Mapping[str, Any]
Row = tuple[str, ...]


@frozen
class Section:
    """A table; the columns numbered in *right* are right-aligned. *empty* replaces no rows."""

    title: str
    header: Row
    rows: Sequence[Row]
    right: tuple[int, ...] = ()
    empty: str = ""


@frozen
class StatusView:
    """A headline and tables: totals on the *left*, users on the *right*, paths *below*."""

    headline: str
    left: Sequence[Section]
    right: Sequence[Section]
    below: Section


def status_view(status: StatusFields) -> StatusView:
    """Return the tables of a status document.

    Raises `LookupError`, `TypeError`, `ValueError` or `AttributeError` for another document.
    """
    return StatusView(
        _headline(status),
        (_quota(status), _outcomes(status), _latencies(status), _state(status)),
        (_users(status), _limits(status), _remaining(status)),
        _paths(status),
    )


def sparkline(status: StatusFields) -> str:
    """Return the requests in each minute of the last hour as a line of bars."""
    slots = [0] * _MINUTES
    last = int(status["at"] // _MINUTE_S)
    for minute in status["hour"]["minutes"]:
        ago = last - int(minute["at"] // _MINUTE_S)
        if 0 <= ago < _MINUTES:
            slots[-1 - ago] += sum(minute["outcomes"].values())
    most = max(slots)
    return "".join(_BARS[(len(_BARS) - 1) * n // most] if n else " " for n in slots)


# Cells of tables.


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else _UNKNOWN


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return _UNKNOWN
    ms = seconds * 1000
    if ms < 0.1:  # noqa: PLR2004 - the first bucket of the histograms
        return "<0.1"
    return f"{ms:.1f}" if ms < 10 else f"{ms:,.0f}"  # noqa: PLR2004


def _left(until: float, now: float, over: str) -> str:
    return f"in {text_format.period(until - now)}" if until > now else over


def _ago(at: float | None, now: float) -> str:
    return "never" if at is None else f"{text_format.period(max(0.0, now - at))} ago"


def _word(text: object) -> str:
    return escape(str(text))


# Tables.


def _headline(status: StatusFields) -> str:
    sharing = "on" if status["sharing"]["enabled"] else "off"
    up = text_format.period(status["at"] - status["started_at"])
    return (
        f"{_word(status['replica'])}: {_word(status['state'])}, version "
        f"{_word(status['version'])}, up {up}, {_count(status['in_flight'])} in flight, "
        f"sharing {sharing}"
    )


def _quota(status: StatusFields) -> Section:
    rows = [
        (
            name,
            *(_count(quota[each]) for each in ("saved", "spent")),
            _percent(quota["saved"], quota["saved"] + quota["spent"]),
        )
        for name, quota in (("last hour", status["hour"]), ("total", status["quota"]))
    ]
    return Section("Quota", ("", "SAVED", "SPENT", "FREE"), rows, (1, 2, 3))


def _outcomes(status: StatusFields) -> Section:
    hour, total = status["hour"]["outcomes"], status["requests"]["outcomes"]
    names = [*(name for name in _OUTCOMES if name in total), *sorted({*total} - {*_OUTCOMES})]
    rows = [(_word(name), _count(hour.get(name, 0)), _count(total[name])) for name in names]
    return Section("Requests", ("OUTCOME", "HOUR", "TOTAL"), rows, (1, 2), "none yet")


def _latencies(status: StatusFields) -> Section:
    rows = []
    for key, name in _TIMED:
        for window, length in _WINDOWS:
            latency = status["latencies"][key][window]
            times = (_milliseconds(latency[each]) for each in _QUANTILES)
            rows.append((name, length, *times, _count(latency["count"])))
    header = ("LATENCY OF", "LAST", "P50", "P90", "P95", "P99", "COUNT")
    return Section("Latencies, in milliseconds", header, rows, (2, 3, 4, 5, 6))


def _state(status: StatusFields) -> Section:
    github, store = status["github"], status["store"]
    page = github["page"]
    page_text = (
        "" if page is None else f"; its status page: {_word(page['status'] or 'not fetched yet')}"
    )
    rows: list[Row] = [
        ("GitHub", ("available" if github["available"] else "unavailable") + page_text),
        (
            "store",
            f"{_word(store['backend'])}, {'available' if store['available'] else 'unavailable'}",
        ),
    ]
    breaker = store["breaker"]
    if breaker is not None:
        failing = [word for word in ("reading", "writing") if not breaker[word]]
        state = f"open for {' and '.join(failing)}" if failing else "closed"
        rows.append(("circuit breaker", state))
    for each in store["stores"]:
        size = _UNKNOWN if each["bytes"] is None else text_format.size(each["bytes"])
        records = each["representations"]
        count = "" if records is None else f", {text_format.count(records, 'representation')}"
        evicted = f", {_count(each['evictions'])} evicted"
        rows.append((f"in {_word(each['store'])}", size + count + evicted))
    rows += _snapshots(status)
    return Section("State", ("", ""), rows)


def _snapshots(status: StatusFields) -> list[Row]:
    snapshots, now = status["snapshots"], status["at"]
    if snapshots is None:
        return [("snapshots", "not configured")]
    due = snapshots["next_at"]
    upcoming = "in progress" if due is None else f"next {_left(due, now, 'now')}"
    failures = snapshots["save"]["failures"] + snapshots["restore"]["failures"]
    rows: list[Row] = [("saved", f"{_ago(snapshots['save']['at'], now)}, {upcoming}")]
    restored = "in progress" if snapshots["filling"] else _ago(snapshots["restore"]["at"], now)
    rows.append(("restored", f"{restored}, {text_format.count(failures, 'failure')}"))
    return rows


def _users(status: StatusFields) -> Section:
    rows = [
        (
            _word(each["user"]),
            _count(each["saved"]),
            _count(each["spent"]),
            _percent(each["saved"], each["saved"] + each["spent"]),
        )
        for each in status["quota"]["users"]
    ]
    return Section("Users", ("USER", "SAVED", "SPENT", "FREE"), rows, (1, 2, 3), "none yet")


def _limits(status: StatusFields) -> Section:
    rows = [
        (
            _word(each["user"]),
            f"{_word(each['kind'])} {_word(each['resource'] or '')}".rstrip(),
            _left(each["until"], status["at"], "over"),
        )
        for each in status["stops"]
    ]
    return Section("Limits in force", ("USER", "LIMIT", "ENDS"), rows, (2,), "none")


def _remaining(status: StatusFields) -> Section:
    rows = [
        (
            _word(each["user"]),
            _word(each["resource"]),
            _count(each["remaining"]),
            _left(each["resets_at"], status["at"], "reset"),
        )
        for each in status["quota"]["remaining"]
    ]
    header = ("USER", "RESOURCE", "LEFT", "RESETS")
    return Section("Quota left", header, rows, (2, 3), "none yet")


def _paths(status: StatusFields) -> Section:
    rows = [
        (_percent(each["share"], 1), _word(each["path"])) for each in status["paths"]["busiest"]
    ]
    return Section("Busiest paths", ("SHARE", "PATH"), rows, (0,), "none yet")
