"""Numbers, moments and progress in words."""

from __future__ import annotations

import pytest

from ghmirror_tw.cli import value_formatting
from ghmirror_tw.cli.progress import ProgressLines


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1024, "1.0 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (123_456_789, "117.7 MiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 40, "3.0 TiB"),
        (3 << 52, "12,288.0 TiB"),
    ],
)
def test_sizes(size_bytes: int, text: str) -> None:
    """In the unit that makes a small number of them."""
    assert value_formatting.size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0s"), (1, "1s"), (900, "15m"), (5400, "1h30m"), (90_061, "1d1h"), (86_400, "1d")],
)
def test_periods(seconds: float, text: str) -> None:
    """As in a configuration; small parts of large values are omitted."""
    assert value_formatting.period(seconds) == text


def test_how_many() -> None:
    """One of something is singular."""
    assert [value_formatting.count(each, "record") for each in (0, 1, 2000)] == [
        *("0 records", "1 record", "2,000 records")
    ]


def test_moments() -> None:
    """For people, and for programs."""
    assert value_formatting.moment(1_795_599_000_123) == "2026-11-25 09:30:00 UTC"
    assert value_formatting.timestamp(1_795_599_000_120) == "2026-11-25T09:30:00.120Z"


def test_long_work_reports_its_progress() -> None:
    """Every ten seconds, in percent, or as a count where the total is unknown."""
    now = [0.0]
    message: list[str] = []
    progress = ProgressLines(message.append, lambda: now[0])
    progress.begin("Reading", 4096)
    for at in (1.0, 9.9, 10.0, 11.0, 20.0):
        now[0] = at
        progress.advance(1024)
    progress.end()
    progress.begin("Saving", None)
    progress.count(1)
    now[0] = 30.0
    progress.advance(2048)
    assert message == [
        *("Reading (4.0 KiB)", "Reading: 75 %", "Reading: 125 %"),
        *("Saving", "Saving: 1 record, 2.0 KiB"),
    ]
