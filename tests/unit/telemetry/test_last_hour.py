"""The last hour is sampled by the minute, with any jumps of the clock."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from ghmirror_tw.telemetry.last_hour import MINUTES, LastHour, TotalsSample
from ghmirror_tw.telemetry.metric_totals import RequestTotals
from ghmirror_tw.telemetry.metrics import Metrics


class Scene:
    """A clock, metrics, and their history."""

    def __init__(self, began: float = 1_000_030.0) -> None:
        self.clock = Clock()
        self.clock.rightNow = began
        self.metrics = Metrics(self.clock.seconds)
        self.passed: list[float] = []
        self.history = LastHour(self.clock, self.totals, self.passed.append)

    def totals(self) -> RequestTotals:
        return RequestTotals.of(self.metrics)

    @property
    def now(self) -> TotalsSample:
        return TotalsSample(self.clock.seconds(), self.totals())

    def send(self, times: int, outcome: str = "shared", seconds: float = 0.02) -> None:
        for _ in range(times):
            self.metrics.request(b"GET", 200, outcome, seconds)


@pytest.fixture
def scene() -> Scene:
    made = Scene()
    made.history.open()
    return made


def test_last_hour_is_empty_before_open() -> None:
    """And without a fault."""
    scene = Scene()
    scene.history.close()
    assert list(scene.history.minutes(scene.now)) == []
    assert scene.history.since(3600.0, scene.now)[1].outcomes == {}


def test_outcomes_are_shown_by_minute(scene: Scene) -> None:
    """They begin with the clock's; the first one with the mirror's, and the last one continues."""
    scene.send(2)
    scene.clock.advance(50.0)
    scene.send(1, "miss")
    scene.clock.advance(60.0)
    scene.send(3, "fresh")
    scene.clock.advance(59.0)
    assert list(scene.history.minutes(scene.now)) == [
        (1_000_030.0, {"shared": 2}),
        (1_000_080.0, {"miss": 1}),
        (1_000_140.0, {"fresh": 3}),
    ]


def test_samples_older_than_an_hour_are_removed(scene: Scene) -> None:
    """After days there are sixty minutes, of which all that happened in them is known."""
    scene.clock.pump([60.0] * 3 * MINUTES)
    for _ in range(MINUTES):
        scene.send(1)
        scene.clock.advance(60.0)
    minutes = list(scene.history.minutes(scene.now))
    assert len(minutes) == MINUTES
    assert sum(ended.get("shared", 0) for _, ended in minutes) == MINUTES - 1
    assert scene.history.since(3600.0, scene.now)[1].outcomes == {"shared": MINUTES}


def test_period_begins_at_a_sample(scene: Scene) -> None:
    """A period is as long as requested, or up to a minute longer; shorter, if there is less."""
    began = scene.clock.seconds()
    scene.send(1)
    scene.metrics.saved("alice")
    assert scene.history.since(300.0, scene.now)[0] == began
    scene.clock.pump([60.0] * 10)
    scene.send(4, seconds=0.2)
    for _ in range(3):
        scene.metrics.spent("alice")
    since, five = scene.history.since(300.0, scene.now)
    assert 300.0 <= scene.clock.seconds() - since <= 360.0
    assert (five.outcomes, five.spent, five.saved) == ({"shared": 4}, 3, 0)
    assert five.times["requests"].document["count"] == 4
    _, hour = scene.history.since(3600.0, scene.now)
    assert (hour.outcomes, hour.spent, hour.saved) == ({"shared": 5}, 3, 1)


def test_elapsed_is_called_with_the_seconds_since_the_last_sample(scene: Scene) -> None:
    """The callback receives the time since the last sample."""
    scene.clock.advance(60.0)
    scene.clock.advance(60.0)
    assert scene.passed == [60.0, 60.0]


def test_samples_after_a_clock_set_back_are_dropped(scene: Scene) -> None:
    """Samples with a later time are removed; nothing is counted twice, or below zero."""
    scene.send(5)
    scene.clock.pump([60.0] * 3)
    scene.clock.rightNow -= 150.0
    scene.history.close()
    scene.send(1)
    scene.history.open()
    scene.send(1)
    minutes = list(scene.history.minutes(scene.now))
    assert all(count > 0 for _, ended in minutes for count in ended.values())
    assert sum(ended.get("shared", 0) for _, ended in minutes) in {1, 2, 7}
    assert min(scene.passed) > 0


def test_sampling_continues_after_a_failure(scene: Scene) -> None:
    """A fault is logged, and does not end it."""
    events: list[str] = []

    @implementer(ILogObserver)
    def watch(event: LogEvent) -> None:
        events.append(str(event.get("log_format")))

    def broken() -> RequestTotals:
        raise OSError("gone")

    globalLogPublisher.addObserver(watch)
    try:
        readable, scene.history.totals = scene.history.totals, broken
        scene.clock.advance(60.0)
        scene.history.totals = readable
        scene.send(1)
        scene.clock.advance(60.0)
    finally:
        globalLogPublisher.removeObserver(watch)
    assert "Metrics could not be sampled" in events
    assert next(scene.history.minutes(scene.now))[1] == {"shared": 1}


def test_closed_last_hour_has_no_timer(scene: Scene) -> None:
    """Nothing is waited for any more, however often it is closed."""
    scene.history.close()
    scene.history.close()
    assert scene.clock.getDelayedCalls() == []
