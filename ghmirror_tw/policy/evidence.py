"""When observations of single requests are enough to believe something of all of GitHub.

Whatever turns something off for every client (serving stale responses at once, sharing, lists of
entity-tags) takes evidence that no single client can make alone: one that polls one broken URL, or
whose responses are odd, must not decide for the others. So observations count only together, and
only if they are independent: of several keys, and of several credentials or operations.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import Final

from attrs import define, field, frozen

#: So many different observations are kept.
_KEPT: Final = 64


@frozen
class Observation:
    """What one request showed: of which *key*, by which *credential*, in which *operation*.

    The key is a path or a cache key; an operation is a method with a path pattern.
    """

    key: str
    credential: str
    operation: str = ""


@frozen
class Quorum:
    """How much is enough.

    So many *observations* of so many *keys*, made by so many *credentials*; *operations*, where
    it is given, is how many different ones will do in place of several credentials. Nothing older
    than *window_s* counts.
    """

    keys: int
    credentials: int
    observations: int = 1
    operations: float = inf
    window_s: float = inf


@define
class Evidence:
    """Observations that speak for the same, and whether they are enough for *quorum*.

    Bounded: of the credential that made most of them the oldest one goes, so that no credential
    displaces what others have seen.
    """

    quorum: Quorum
    _seen: dict[Observation, tuple[float, int]] = field(init=False, factory=dict)

    def add(self, observation: Observation, now: float) -> None:
        """Take note of an observation at *now*."""
        self._expire(now)
        _, times = self._seen.pop(observation, (now, 0))
        self._seen[observation] = now, times + 1
        if len(self._seen) > _KEPT:
            by_credential = Counter(each.credential for each in self._seen)
            ((busiest, _),) = by_credential.most_common(1)
            del self._seen[next(each for each in self._seen if each.credential == busiest)]

    def is_enough(self, now: float) -> bool:
        """Tell whether the quorum is reached at *now*."""
        if not self._seen:
            return False
        self._expire(now)
        quorum, seen = self.quorum, self._seen
        if self.count < quorum.observations or len({each.key for each in seen}) < quorum.keys:
            return False
        return (
            len({each.credential for each in seen}) >= quorum.credentials
            or len({each.operation for each in seen}) >= quorum.operations
        )

    @property
    def count(self) -> int:
        """How many observations there are, the same ones counted each time."""
        return sum(times for _, times in self._seen.values())

    def clear(self) -> None:
        """Forget all of it: something has shown the contrary."""
        self._seen.clear()

    def _expire(self, now: float) -> None:
        first_at = now - self.quorum.window_s
        self._seen = {each: seen for each, seen in self._seen.items() if seen[0] > first_at}
