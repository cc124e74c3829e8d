"""The most frequent paths in bounded memory: Space-Saving (Metwally, Agrawal, El Abbadi, 2005)."""

from __future__ import annotations

from heapq import heappush, heapreplace
from typing import Final

from attrs import define, field, frozen

#: The number of counters; every name with a larger share than 1/SIZE has one of them.
SIZE: Final = 100
#: The time after which the weight of a count is halved, in seconds.
HALF_LIFE_S: Final = 1800.0


@frozen
class Busy:
    """A frequent name with its *share* of all counts, which is at most *error* too high."""

    name: str
    share: float
    error: float


@define(eq=False)
class Busiest:
    """Counters for up to *size* names, whose counts decay exponentially.

    A new name replaces the one with the lowest count and inherits that count. So no count is too
    low, and none is too high by more than the sum of all counts divided by *size*. Decay multiplies
    all counts by the same factor, which preserves these bounds.
    """

    size: int = SIZE
    total: float = field(init=False, default=0.0)
    #: By name: the count, and the part of it that was inherited.
    _counters: dict[str, list[float]] = field(init=False, factory=dict)
    #: A heap of names with former counts, in which the lowest count is found quickly.
    _heap: list[tuple[float, str]] = field(init=False, factory=list)

    def count(self, name: str) -> None:
        """Count a name once."""
        self.total += 1.0
        counter = self._counters.get(name)
        if counter is not None:
            counter[0] += 1.0
        elif len(self._counters) < self.size:
            self._counters[name] = [1.0, 0.0]
            heappush(self._heap, (1.0, name))
        else:
            inherited = self._remove_lowest()
            self._counters[name] = [inherited + 1.0, inherited]
            heapreplace(self._heap, (inherited + 1.0, name))

    def _remove_lowest(self) -> float:
        """Remove the name with the lowest count, and return that count.

        Counts only grow, so a heap entry with the current count of its name is the lowest.
        """
        while True:
            seen, name = self._heap[0]
            now = self._counters[name][0]
            if now == seen:
                del self._counters[name]
                return now
            heapreplace(self._heap, (now, name))

    def decay(self, seconds: float) -> None:
        """Reduce all counts by the decay of this time."""
        factor = 0.5 ** (seconds / HALF_LIFE_S)
        self.total *= factor
        for counter in self._counters.values():
            counter[0] *= factor
            counter[1] *= factor
        self._heap = [(seen * factor, name) for seen, name in self._heap]

    def busiest(self, most: int) -> list[Busy]:
        """Return up to *most* names, the most frequent first."""
        counters = sorted(self._counters.items(), key=lambda each: (-each[1][0], each[0]))
        return [
            Busy(name, count / self.total, error / self.total)
            for name, (count, error) in counters[:most]
        ]
