"""Exponential backoff with jitter.

https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter ("equal jitter"): many
replicas that lost the same server do not return to it at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field

#: The first delay, and the longest one, in seconds.
FIRST_DELAY_S: Final = 0.1
LAST_DELAY_S: Final = 2.5


@define(eq=False)
class JitteredBackoff:
    """Delays that double, from *first_s* to *last_s*. *random* gives numbers from 0 to 1."""

    random: Callable[[], float]
    first_s: float = FIRST_DELAY_S
    last_s: float = LAST_DELAY_S
    _delay_s: float = field(init=False, default=0.0)

    def reset(self) -> None:
        """Begin with the first delay again."""
        self._delay_s = 0.0

    def increase(self) -> None:
        """Double the delay."""
        self._delay_s = min(max(2 * self._delay_s, self.first_s), self.last_s)

    def jittered_s(self) -> float:
        """Return a random time from half of the delay to all of it; 0 before the first one."""
        return self._delay_s * (0.5 + self.random() / 2)

    def next_s(self) -> float:
        """Double the delay, and return it with jitter."""
        self.increase()
        return self.jittered_s()
