"""The hybrid logical clock that orders the grants and refusals of one cache key.

It shows the time of this machine, but always a later one than all times that it has read (Kulkarni
et al.: Logical Physical Clocks, 2014). Before a request is sent, the records of its key and
credential are read. So the times of their requests rise in the whole fleet, although clocks differ.
A time more than `MOST_AHEAD_S` in the future is wrong: it counts as now, and does not advance the
clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, evolve, field

from ghmirror_tw.caching.records import Known

#: Times that are further in the future count as now, in seconds.
MOST_AHEAD_S: Final = 86_400.0
_INSTANT_S: Final = 1e-6


@define(eq=False)
class HybridClock:
    """Gives each request a time in seconds, later than all times before and all that were read."""

    now: Callable[[], float]
    _latest: float = field(init=False, default=0.0)

    def tick(self) -> float:
        """Return a time that is later than every time returned or read before."""
        self._latest = max(self.now(), self._latest + _INSTANT_S)
        return self._latest

    def read(self, at: float) -> None:
        """Advance to a time that was read from a record, unless it is wrong."""
        if self._latest < at <= self.now() + MOST_AHEAD_S:
            self._latest = at


def clamped(known: Known, now: float) -> Known:
    """Return *known* with *now* in place of each wrong time.

    A grant with a wrong time loses its epoch, so it permits nothing until it is validated. A
    negative response with one is left out.
    """
    latest, grant = now + MOST_AHEAD_S, known.grant
    if grant is not None and grant.requested_at > latest:
        known = evolve(known, grant=evolve(grant, requested_at=now, epoch=None))
    if known.refused_at > latest:
        known = evolve(known, refused_at=now)
    if known.negative is not None and known.negative.requested_at > latest:
        known = evolve(known, negative=None)
    return known
