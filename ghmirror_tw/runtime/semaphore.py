"""A counting semaphore of this process, with an optional cooldown of released permits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall


def _nothing() -> None:
    """Do nothing."""


@define(eq=False, kw_only=True)
class Semaphore:
    """Permits of which at most *limit* are in use at a time.

    A released permit becomes free after *cooldown_s* seconds; *on_free* is called then. A limit of
    requests a minute is a semaphore with a cooldown of a minute.
    """

    clock: Any
    limit: Callable[[], int]
    cooldown_s: float = 0.0
    on_free: Callable[[], object] = _nothing
    #: The number of acquired permits that were not released yet.
    used: int = field(init=False, default=0)
    #: When released permits become free, and how many.
    _cooling: deque[tuple[float, int]] = field(init=False, factory=deque)
    _cooling_sum: int = field(init=False, default=0)
    _cooldown_timer: IDelayedCall | None = field(init=False, default=None)
    _closed: bool = field(init=False, default=False)

    @property
    def occupied(self) -> int:
        """How many permits are in use or cooling down."""
        if self._cooling:
            self._cool_down()
        return self.used + self._cooling_sum

    @property
    def available(self) -> int:
        """How many permits can be acquired now."""
        if self._cooling:
            self._cool_down()
        return self.allowed() - self.used - self._cooling_sum

    @property
    def idle(self) -> bool:
        """Whether the semaphore holds no state, so that it can be dropped."""
        return not self.occupied

    @property
    def is_shared(self) -> bool:
        """Whether other replicas may hold permits as well."""
        return False

    def allowed(self) -> int:
        """Return how many permits this process may use now."""
        return self.limit()

    def request_more(self) -> None:
        """Try to raise the number of permits that this process may use."""

    def free_in_s(self) -> float:
        """Return in how many seconds the next permit has cooled down; 0: none is cooling down."""
        self._cool_down()
        return self._cooling[0][0] - self.clock.seconds() if self._cooling else 0.0

    def acquire(self, amount: int) -> None:
        """Acquire permits; the caller has checked that they are available."""
        self.used += amount

    def release(self, amount: int) -> None:
        """Release acquired permits. The caller checks itself which requests can proceed."""
        self.used -= amount
        if self.cooldown_s:
            self._cooling.append((self.clock.seconds() + self.cooldown_s, amount))
            self._cooling_sum += amount
            self._watch_cooldown()

    def _cool_down(self) -> None:
        cooling, now = self._cooling, self.clock.seconds()
        while cooling and cooling[0][0] <= now:
            self._cooling_sum -= cooling.popleft()[1]

    def _watch_cooldown(self) -> None:
        if self._cooldown_timer is None and self._cooling and not self._closed:
            wait_s = max(self.free_in_s(), 0.0)
            self._cooldown_timer = self.clock.callLater(wait_s, self._cooled_down)

    def _cooled_down(self) -> None:
        self._cooldown_timer = None
        self._cool_down()
        self._watch_cooldown()
        self.on_free()

    def close(self) -> None:
        """Cancel the timer."""
        self._closed = True
        timer, self._cooldown_timer = self._cooldown_timer, None
        if timer is not None:
            timer.cancel()
