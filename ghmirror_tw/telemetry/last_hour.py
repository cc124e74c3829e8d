"""The last hour, minute by minute: what was counted so far is noted once a minute."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final

from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ghmirror_tw.telemetry.metric_readings import Totals, outcomes

MINUTE_S: Final = 60.0
#: How many minutes are shown, the last of which goes on.
MINUTES: Final = 60


@frozen
class Note:
    """What had been counted at a moment, in seconds since the epoch."""

    at: float
    totals: Totals


@define(eq=False)
class History:
    """Notes *totals* once a minute, and calls *passed* with the seconds since it did so last.

    Requests pay nothing for it: the metrics count them anyway.
    """

    reactor: Any
    totals: Callable[[], Totals]
    passed: Callable[[float], object]
    _notes: deque[Note] = field(init=False, factory=lambda: deque(maxlen=MINUTES + 1))
    _timer: IDelayedCall | None = field(init=False, default=None)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.figures"))

    def open(self) -> None:
        """Begin."""
        self._note()

    def close(self) -> None:
        """End. May be called again."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _note(self) -> None:
        now = self.reactor.seconds()
        self._timer = self.reactor.callLater(MINUTE_S - now % MINUTE_S, self._note)
        try:
            self._take(Note(now, self.totals()))
        except Exception:  # noqa: BLE001 - the next minute must be noted, whatever this one did
            self._log.failure("What was counted can't be read")

    def _take(self, note: Note) -> None:
        while self._notes and self._notes[-1].at >= note.at:  # the clock was set back
            self._notes.pop()
        if self._notes:
            self.passed(note.at - self._notes[-1].at)
        self._notes.append(note)

    def minutes(self, now: Note) -> Iterator[tuple[float, dict[str, int]]]:
        """Give for each minute when it began and how requests in it ended; the last goes on."""
        notes = [*self._notes, now][-MINUTES - 1 :]
        for before, after in pairwise(notes):
            yield before.at, outcomes(after.totals, before.totals)

    def since(self, seconds: float, now: Note) -> tuple[float, Totals]:
        """Return what happened in the last *seconds*, and since when; less, if there is less."""
        earliest = now.at - seconds
        before = self._notes[0] if self._notes else now
        for note in self._notes:
            if note.at <= earliest:
                before = note
        return before.at, now.totals.minus(before.totals)
