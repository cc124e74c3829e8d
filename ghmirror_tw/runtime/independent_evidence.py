"""A quorum of independent observations: the condition of decisions that concern all clients.

Some decisions concern every client: GitHub is unavailable, sharing is off, lists of entity-tags
are off. No single client may cause them, for instance by polling one broken URL. So observations
count only together, and only if they are independent: of several keys, and of several credentials
or operations.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import Final

from attrs import define, field, frozen

#: The largest number of different observations.
_MAX_OBSERVATIONS: Final = 64


@frozen
class Observation:
    """One request that counts as evidence: its *key*, *credential* and *operation*.

    The key is a path or a cache key; an operation is a method with a path pattern.
    """

    key: str
    credential: str
    operation: str = ""


@frozen
class Quorum:
    """How many observations, keys and credentials are needed.

    There must be *observations* in all, of so many different *keys*, and by so many different
    *credentials*. So many different *operations* are enough in place of credentials. Observations
    older than *window_s* seconds do not count.
    """

    keys: int
    credentials: int
    observations: int = 1
    operations: float = inf
    window_s: float = inf


@define
class Evidence:
    """Observations of one condition, and whether they reach *quorum*.

    Bounded: the oldest observation of the credential with the most of them is evicted, so that one
    credential cannot displace those of others.
    """

    quorum: Quorum
    seen: dict[Observation, tuple[float, int]] = field(init=False, factory=dict)

    def add(self, observation: Observation, now: float) -> None:
        """Add an observation at *now*."""
        self._expire(now)
        _, times = self.seen.pop(observation, (now, 0))
        self.seen[observation] = now, times + 1
        if len(self.seen) > _MAX_OBSERVATIONS:
            by_credential = Counter(each.credential for each in self.seen)
            ((busiest, _),) = by_credential.most_common(1)
            del self.seen[next(each for each in self.seen if each.credential == busiest)]

    def is_enough(self, now: float) -> bool:
        """Return whether the quorum is reached at *now*."""
        if not self.seen:
            return False
        self._expire(now)
        quorum, seen = self.quorum, self.seen
        if self.count < quorum.observations or len({each.key for each in seen}) < quorum.keys:
            return False
        return (
            len({each.credential for each in seen}) >= quorum.credentials
            or len({each.operation for each in seen}) >= quorum.operations
        )

    @property
    def count(self) -> int:
        """How many observations there are; equal ones count each time."""
        return sum(times for _, times in self.seen.values())

    def clear(self) -> None:
        """Remove all observations, since one has shown the contrary."""
        self.seen.clear()

    def _expire(self, now: float) -> None:
        first_at = now - self.quorum.window_s
        self.seen = {each: seen for each, seen in self.seen.items() if seen[0] > first_at}
