"""What is asked for most, in bounded memory: Space-Saving (Metwally, Agrawal, El Abbadi, 2005)."""

from __future__ import annotations

from heapq import heappush, heapreplace
from typing import Final

from attrs import define, field, frozen

#: So many are kept; whatever makes up more than one part in so many is among them.
SIZE: Final = 100
#: After so long what was counted weighs half, in seconds.
HALF_LIFE_S: Final = 1800.0


@frozen
class Busy:
    """One of the busiest: its *share* of all, which is at most *error* too high."""

    name: str
    share: float
    error: float


@define(eq=False)
class Busiest:
    """Counts names, of which it keeps *size*; each weighs less the longer ago it was counted.

    A name that is new takes the place of the one with the least count, and that count as well: no
    count is ever too low, and none is higher by more than what all weigh divided by *size*. Decay
    makes all counts smaller by the same factor, which changes none of that.
    """

    size: int = SIZE
    total: float = field(init=False, default=0.0)
    #: By name: its count, and how much of that it may have taken over.
    _counters: dict[str, list[float]] = field(init=False, factory=dict)
    #: A name each with a count that it had once, so that the least is found quickly.
    _least: list[tuple[float, str]] = field(init=False, factory=list)

    def count(self, name: str) -> None:
        """Count a name once."""
        self.total += 1.0
        counter = self._counters.get(name)
        if counter is not None:
            counter[0] += 1.0
        elif len(self._counters) < self.size:
            self._counters[name] = [1.0, 0.0]
            heappush(self._least, (1.0, name))
        else:
            taken = self._take_least()
            self._counters[name] = [taken + 1.0, taken]
            heapreplace(self._least, (taken + 1.0, name))

    def _take_least(self) -> float:
        """Remove the name with the least count, and return that count.

        Counts only grow, so one that stands in the heap as it is now is the least of all.
        """
        while True:
            seen, name = self._least[0]
            now = self._counters[name][0]
            if now == seen:
                del self._counters[name]
                return now
            heapreplace(self._least, (now, name))

    def decay(self, seconds: float) -> None:
        """Let so much time have passed."""
        factor = 0.5 ** (seconds / HALF_LIFE_S)
        self.total *= factor
        for counter in self._counters.values():
            counter[0] *= factor
            counter[1] *= factor
        self._least = [(seen * factor, name) for seen, name in self._least]

    def busiest(self, most: int) -> list[Busy]:
        """Return up to *most*, the busiest first."""
        counters = sorted(self._counters.items(), key=lambda each: (-each[1][0], each[0]))
        return [
            Busy(name, count / self.total, error / self.total)
            for name, (count, error) in counters[:most]
        ]
