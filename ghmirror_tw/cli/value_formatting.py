"""Numbers, times and tables as text for people, and times for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STEP: Final = 1024
_DAY_S: Final = 86_400
_PERIODS: Final = ((_DAY_S, "d"), (3600, "h"), (60, "m"), (1, "s"))


def size(size_bytes: int) -> str:
    """Return a number of bytes as text, such as ``12.3 MiB``."""
    amount = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if round(amount, 1) < _STEP:
            return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"
        amount /= _STEP
    return f"{amount:,.1f} TiB"


def count(number: int, noun: str) -> str:
    """Return the number with the noun *noun*, in the plural if it is not one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def period(seconds: float) -> str:
    """Return a duration in the format of options, with its two largest units."""
    parts, rest = [], round(seconds)
    for length, unit in _PERIODS:
        number, rest = divmod(rest, length)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts[:2]) or "0s"


def moment(at_ms: int) -> str:
    """Return a time (ms since the epoch) for people."""
    return f"{_EPOCH + timedelta(milliseconds=at_ms):%Y-%m-%d %H:%M:%S} UTC"


def timestamp(at_ms: int) -> str:
    """Return a time (ms since the epoch) in the format of RFC 3339."""
    at = _EPOCH + timedelta(milliseconds=at_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Return lines with *rows* in columns; those numbered in *right* are right-aligned.

    Lines are neither cut off nor wrapped, since programs read them as well.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
