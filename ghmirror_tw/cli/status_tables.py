"""A mirror's figures as tables of words, whoever shows them."""

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
_TIMED: Final = (("requests", "requests"), ("github", "GitHub"), ("store", "store adds"))
_BARS: Final = "▁▂▃▄▅▆▇█"
_MINUTE_S: Final = 60
_MINUTES: Final = 60

Figures = Mapping[str, Any]
Row = tuple[str, ...]


@frozen
class Section:
    """A table; the columns numbered in *right* end in line. *nothing*: said if it is empty."""

    title: str
    header: Row
    rows: Sequence[Row]
    right: tuple[int, ...] = ()
    nothing: str = ""


@frozen
class Board:
    """All that is shown: a line, and tables; *left* ones of what happens, *right* ones of whom."""

    head: str
    left: Sequence[Section]
    right: Sequence[Section]
    below: Section


def board(figures: Figures) -> Board:
    """Return what is shown of a mirror's figures.

    Raises `LookupError`, `TypeError`, `ValueError` or `AttributeError` where they are not such.
    """
    return Board(
        _head(figures),
        (_quota(figures), _outcomes(figures), _latencies(figures), _state(figures)),
        (_users(figures), _stops(figures), _remaining(figures)),
        _paths(figures),
    )


def sparkline(figures: Figures) -> str:
    """Return how many requests there were in each minute of the last hour, as bars of a line."""
    slots = [0] * _MINUTES
    last = int(figures["at"] // _MINUTE_S)
    for minute in figures["hour"]["minutes"]:
        ago = last - int(minute["at"] // _MINUTE_S)
        if 0 <= ago < _MINUTES:
            slots[-1 - ago] += sum(minute["outcomes"].values())
    most = max(slots)
    return "".join(_BARS[(len(_BARS) - 1) * n // most] if n else " " for n in slots)


# Words.


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else _UNKNOWN


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return _UNKNOWN
    ms = seconds * 1000
    if ms < 0.1:  # noqa: PLR2004 - less is not told apart by the metrics
        return "<0.1"
    return f"{ms:.1f}" if ms < 10 else f"{ms:,.0f}"  # noqa: PLR2004


def _left(until: float, now: float, over: str) -> str:
    return f"in {text_format.period(until - now)}" if until > now else over


def _ago(at: float | None, now: float) -> str:
    return "never" if at is None else f"{text_format.period(max(0.0, now - at))} ago"


def _word(text: object) -> str:
    return escape(str(text))


# Tables.


def _head(figures: Figures) -> str:
    sharing = "on" if figures["sharing"]["enabled"] else "off"
    up = text_format.period(figures["at"] - figures["started_at"])
    return (
        f"{_word(figures['replica'])}: {_word(figures['state'])}, version "
        f"{_word(figures['version'])}, up {up}, {_count(figures['in_flight'])} in flight, "
        f"sharing {sharing}"
    )


def _quota(figures: Figures) -> Section:
    rows = [
        (
            name,
            *(_count(told[each]) for each in ("saved", "spent")),
            _percent(told["saved"], told["saved"] + told["spent"]),
        )
        for name, told in (("last hour", figures["hour"]), ("in all", figures["quota"]))
    ]
    return Section("Quota", ("", "SAVED", "SPENT", "FREE"), rows, (1, 2, 3))


def _outcomes(figures: Figures) -> Section:
    hour, in_all = figures["hour"]["outcomes"], figures["requests"]["outcomes"]
    names = [*(name for name in _OUTCOMES if name in in_all), *sorted({*in_all} - {*_OUTCOMES})]
    rows = [(_word(name), _count(hour.get(name, 0)), _count(in_all[name])) for name in names]
    return Section("Requests", ("OUTCOME", "HOUR", "IN ALL"), rows, (1, 2), "none yet")


def _latencies(figures: Figures) -> Section:
    rows = []
    for key, name in _TIMED:
        for window, length in _WINDOWS:
            told = figures["latencies"][key][window]
            times = (_milliseconds(told[each]) for each in _QUANTILES)
            rows.append((name, length, *times, _count(told["count"])))
    header = ("WHAT", "LAST", "P50", "P90", "P95", "P99", "COUNT")
    return Section("Latencies, in milliseconds", header, rows, (2, 3, 4, 5, 6))


def _state(figures: Figures) -> Section:
    github, store = figures["github"], figures["store"]
    page = github["page"]
    said = "" if page is None else f"; its status page: {_word(page['status'] or 'not read yet')}"
    rows: list[Row] = [
        ("GitHub", ("up" if github["available"] else "away") + said),
        ("store", f"{_word(store['backend'])}, {'up' if store['available'] else 'away'}"),
    ]
    breaker = store["breaker"]
    if breaker is not None:
        closed = [word for word in ("reading", "writing") if not breaker[word]]
        rows.append(("breaker", f"open for {' and '.join(closed)}" if closed else "closed"))
    for each in store["stores"]:
        size = _UNKNOWN if each["bytes"] is None else text_format.size(each["bytes"])
        records = each["representations"]
        beside = "" if records is None else f", {text_format.count(records, 'representation')}"
        gone = f", {_count(each['evictions'])} evicted"
        rows.append((f"in {_word(each['store'])}", size + beside + gone))
    rows += _snapshots(figures)
    return Section("State", ("", ""), rows)


def _snapshots(figures: Figures) -> list[Row]:
    told, now = figures["snapshots"], figures["at"]
    if told is None:
        return [("snapshots", "none are made")]
    due = told["next_at"]
    soon = "being saved" if due is None else f"next {_left(due, now, 'now')}"
    failures = told["save"]["failures"] + told["restore"]["failures"]
    rows: list[Row] = [("saved", f"{_ago(told['save']['at'], now)}, {soon}")]
    restored = "under way" if told["filling"] else _ago(told["restore"]["at"], now)
    rows.append(("restored", f"{restored}, {text_format.count(failures, 'failure')}"))
    return rows


def _users(figures: Figures) -> Section:
    rows = [
        (
            _word(each["user"]),
            _count(each["saved"]),
            _count(each["spent"]),
            _percent(each["saved"], each["saved"] + each["spent"]),
        )
        for each in figures["quota"]["users"]
    ]
    return Section("Users", ("USER", "SAVED", "SPENT", "FREE"), rows, (1, 2, 3), "none yet")


def _stops(figures: Figures) -> Section:
    rows = [
        (
            _word(each["user"]),
            f"{_word(each['kind'])} {_word(each['resource'] or '')}".rstrip(),
            _left(each["until"], figures["at"], "over"),
        )
        for each in figures["stops"]
    ]
    return Section("Limits in force", ("USER", "LIMIT", "ENDS"), rows, (2,), "nobody is stopped")


def _remaining(figures: Figures) -> Section:
    rows = [
        (
            _word(each["user"]),
            _word(each["resource"]),
            _count(each["remaining"]),
            _left(each["resets_at"], figures["at"], "full again"),
        )
        for each in figures["quota"]["remaining"]
    ]
    header = ("USER", "RESOURCE", "LEFT", "RESETS")
    return Section("Quota left", header, rows, (2, 3), "not told of any yet")


def _paths(figures: Figures) -> Section:
    rows = [
        (_percent(each["share"], 1), _word(each["path"])) for each in figures["paths"]["busiest"]
    ]
    return Section("Busiest paths", ("SHARE", "PATH"), rows, (0,), "none yet")
