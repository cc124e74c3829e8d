"""The last hour in minutes: a sample of the totals is taken once a minute."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final

from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ghmirror_tw.telemetry.metric_totals import RequestTotals, outcomes_between

MINUTE_S: Final = 60.0
#: The number of minutes shown; the last one is not complete.
MINUTES: Final = 60


@frozen
class TotalsSample:
    """The totals at a time in seconds since the epoch."""

    at: float
    totals: RequestTotals


@define(eq=False)
class LastHour:
    """Samples *totals* once a minute, and calls *elapsed* with the seconds since the last sample.

    It adds no work to a request, since the metrics count it anyway.
    """

    reactor: Any
    totals: Callable[[], RequestTotals]
    elapsed: Callable[[float], object]
    _samples: deque[TotalsSample] = field(init=False, factory=lambda: deque(maxlen=MINUTES + 1))
    _timer: IDelayedCall | None = field(init=False, default=None)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.figures"))

    def open(self) -> None:
        """Take the first sample."""
        self._sample()

    def close(self) -> None:
        """Stop sampling; may be called twice."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _sample(self) -> None:
        now = self.reactor.seconds()
        self._timer = self.reactor.callLater(MINUTE_S - now % MINUTE_S, self._sample)
        try:
            self._append(TotalsSample(now, self.totals()))
        except Exception:  # noqa: BLE001 - a failure must not end the sampling
            self._log.failure("Metrics could not be sampled")

    def _append(self, sample: TotalsSample) -> None:
        while self._samples and self._samples[-1].at >= sample.at:  # the clock was set back
            self._samples.pop()
        if self._samples:
            self.elapsed(sample.at - self._samples[-1].at)
        self._samples.append(sample)

    def minutes(self, now: TotalsSample) -> Iterator[tuple[float, dict[str, int]]]:
        """Yield the start and the outcomes of each minute; the last one is not complete."""
        samples = [*self._samples, now][-MINUTES - 1 :]
        for before, after in pairwise(samples):
            yield before.at, outcomes_between(after.totals, before.totals)

    def since(self, seconds: float, now: TotalsSample) -> tuple[float, RequestTotals]:
        """Return the start and the totals of the last *seconds*, or of a shorter known time."""
        earliest = now.at - seconds
        before = self._samples[0] if self._samples else now
        for sample in self._samples:
            if sample.at <= earliest:
                before = sample
        return before.at, now.totals.minus(before.totals)
