"""The status document as tables of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from ghmirror_tw.cli import value_formatting
from ghmirror_tw.telemetry.logs import escape

_UNKNOWN: Final = "-"
_OUTCOMES: Final = (
    *("revalidated", "shared", "empty", "fresh", "negative", "stale"),
    *("miss", "changed", "pass", "error"),
)
_QUANTILES: Final = ("p50", "p90", "p95", "p99")
_WINDOWS: Final = (("5m", "ms, last 5 min"), ("1h", "ms, last hour"))
_TIMED: Final = (("requests", "requests"), ("github", "GitHub"), ("store", "store"))
_BARS: Final = "▁▂▃▄▅▆▇█"
_MINUTE_S: Final = 60
_MINUTES: Final = 60

#: A status document; see docs/status.rst.
StatusFields = Mapping[str, Any]
Row = tuple[str, ...]


@frozen
class Section:
    """A table; the columns numbered in *right* are right-aligned. *empty* replaces no rows.

    The *title* is the header of one of the columns; the state has no header.
    """

    title: str
    header: Row
    rows: Sequence[Row]
    right: tuple[int, ...] = ()
    empty: str = ""


@frozen
class StatusView:
    """A headline, the *state*, and tables for two columns, or for one in another order."""

    headline: str
    state: Section
    left: Sequence[Section]
    right: Sequence[Section]
    #: All sections, those first that are needed first.
    in_one_column: Sequence[Section]


def status_view(status: StatusFields) -> StatusView:
    """Return the tables of a status document.

    Raises `LookupError`, `TypeError`, `ValueError` or `AttributeError` for another document.
    """
    state, limits, quota = _state(status), _limits(status), _quota(status)
    recent, hour = (_latencies(status, *window) for window in _WINDOWS)
    outcomes, users, remaining = _outcomes(status), _users(status), _remaining(status)
    paid, paths = _paid(status), _paths(status)
    store = _store(status)
    return StatusView(
        _headline(status),
        state,
        (quota, recent, hour, outcomes, store),
        (limits, users, paid, paths, remaining),
        (
            *(state, quota, recent, users, paid),
            *(limits, outcomes, remaining, hour, store, paths),
        ),
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


def _part(number: int, whole: int | None) -> str:
    return _count(number) if whole is None else f"{_count(number)} of {_count(whole)}"


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
    return f"in {value_formatting.period(until - now)}" if until > now else over


def _ago(at: float | None, now: float) -> str:
    return "never" if at is None else f"{value_formatting.period(max(0.0, now - at))} ago"


def _word(text: object) -> str:
    return escape(str(text))


# Tables.


def _headline(status: StatusFields) -> str:
    sharing = "on" if status["sharing"]["enabled"] else "off"
    up = value_formatting.period(status["at"] - status["started_at"])
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
    return Section("Quota", ("Quota", "SAVED", "SPENT", "FREE"), rows, (1, 2, 3))


def _outcomes(status: StatusFields) -> Section:
    hour, total = status["hour"]["outcomes"], status["requests"]["outcomes"]
    names = [*(name for name in _OUTCOMES if name in total), *sorted({*total} - {*_OUTCOMES})]
    rows = [(_word(name), _count(hour.get(name, 0)), _count(total[name])) for name in names]
    return Section("Requests", ("Requests", "HOUR", "TOTAL"), rows, (1, 2), "none yet")


def _latencies(status: StatusFields, window: str, title: str) -> Section:
    rows = []
    for key, name in _TIMED:
        latency = status["latencies"][key][window]
        times = (_milliseconds(latency[each]) for each in _QUANTILES)
        rows.append((name, *times, _count(latency["count"])))
    return Section(title, (title, "P50", "P90", "P95", "P99", "COUNT"), rows, (1, 2, 3, 4, 5))


def _state(status: StatusFields) -> Section:
    """Return what is wrong, or that nothing is: GitHub, the store, limits, failed snapshots."""
    github = status["github"]
    page, failures = github["page"], github["failures"]
    parts = ["available" if github["available"] else "unavailable, stale responses are sent"]
    if github["reason"]:
        parts.append(_word(github["reason"]))
    if failures:
        parts.append(f"{value_formatting.count(failures, 'failure')} in a row")
    if page is not None:
        parts.append(f"status page: {_word(page['status'] or 'not fetched yet')}")
    rows: list[Row] = [("GitHub", "; ".join(parts)), ("store", _store_state(status))]
    limits = [" ".join(row) for row in _limits(status).rows]
    rows.append(
        ("rate limits", f"{len(limits):,} in force: {'; '.join(limits)}" if limits else "none")
    )
    rows += [("snapshots", each) for each in _snapshot_problems(status["snapshots"])]
    return Section("State", ("", ""), rows)


def _snapshot_problems(snapshots: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield why the last snapshots failed, and whether some belong to another mirror."""
    if snapshots is None:
        return
    for operation in ("save", "restore"):
        if error := snapshots[operation]["error"]:
            waits = operation == "restore" and snapshots["restoring"]
            effect = "; nothing is saved until it succeeds" if waits else ""
            yield f"{operation} failed: {_word(error)}{effect}"
    if foreign := snapshots["foreign"]:
        option = snapshots["foreign_option"]
        yield f"{value_formatting.count(foreign, 'snapshot')} not used: of another {option}"


def _store_state(status: StatusFields) -> str:
    store, now = status["store"], status["at"]
    breaker = store["breaker"]
    if breaker is None:
        return f"{_word(store['backend'])}, {'available' if store['available'] else 'unavailable'}"
    if breaker["reading"] and breaker["writing"]:
        return "Redis in use"
    if not breaker["fallback"]:
        effect = "Redis unavailable, nothing is stored"
    elif breaker["reading"]:
        effect = "Redis read only, memory stands in for writing"
    else:
        effect = "Redis unavailable, memory stands in"
    reason = ": ".join(_word(breaker[each]) for each in ("address", "reason") if breaker[each])
    since = breaker["since"]
    lasting = "" if since is None else f"; for {value_formatting.period(now - since)}"
    return f"{effect}; {reason}{lasting}"


def _store(status: StatusFields) -> Section:
    """Return the sizes of stores, and the last snapshots."""
    rows: list[Row] = []
    for each in status["store"]["stores"]:
        size = _UNKNOWN if each["bytes"] is None else value_formatting.size(each["bytes"])
        records = each["representations"]
        count = "" if records is None else f", {value_formatting.count(records, 'representation')}"
        evicted = f", {_count(each['evictions'])} evicted"
        rows.append((f"in {_word(each['store'])}", size + count + evicted))
    return Section("Store", ("Store", ""), [*rows, *_snapshots(status)])


def _snapshots(status: StatusFields) -> list[Row]:
    snapshots, now = status["snapshots"], status["at"]
    if snapshots is None:
        return [("snapshots", "not configured")]
    due = snapshots["next_at"]
    upcoming = "in progress" if due is None else f"next {_left(due, now, 'now')}"
    if snapshots["restoring"]:
        upcoming = "next after the restore"
    failures = snapshots["save"]["failures"] + snapshots["restore"]["failures"]
    rows: list[Row] = [("saved", f"{_ago(snapshots['save']['at'], now)}, {upcoming}")]
    restored = "in progress" if snapshots["filling"] else _ago(snapshots["restore"]["at"], now)
    rows.append(("restored", f"{restored}, {value_formatting.count(failures, 'failure')}"))
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
    return Section("Users", ("Users", "SAVED", "SPENT", "FREE"), rows, (1, 2, 3), "none yet")


def _limits(status: StatusFields) -> Section:
    rows = [
        (
            _word(each["user"]),
            f"{_word(each['kind'])} {_word(each['resource'] or 'all')}",
            _left(each["until"], status["at"], "over"),
        )
        for each in status["stops"]
    ]
    header = ("Limits in force", "LIMIT", "ENDS")
    return Section("Limits in force", header, rows, (2,), "none")


def _remaining(status: StatusFields) -> Section:
    rows = [
        (
            _word(each["user"]),
            _word(each["resource"]),
            _part(each["remaining"], each["limit"]),
            _left(each["resets_at"], status["at"], "reset"),
        )
        for each in status["quota"]["remaining"]
        if each["resets_at"] > status["at"]  # it is full again
    ]
    header = ("Quota left", "RESOURCE", "LEFT", "RESETS")
    return Section("Quota left", header, rows, (2, 3), "none yet")


def _paths(status: StatusFields) -> Section:
    rows = [
        (_percent(each["share"], 1), _word(each["path"])) for each in status["paths"]["busiest"]
    ]
    return Section("Busiest paths", ("SHARE", "Busiest paths"), rows, (0,), "none yet")


def _paid(status: StatusFields) -> Section:
    rows = [
        (_percent(each["share"], 1), _word(each["operation"])) for each in status["paths"]["paid"]
    ]
    title = "What spends the quota"
    return Section(title, ("SHARE", title), rows, (0,), "nothing yet")
