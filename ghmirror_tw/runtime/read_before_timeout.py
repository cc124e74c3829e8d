"""A timeout that does not count the time for which the reactor was blocked.

A turn of Twisted's reactor calls timers first and reads afterwards. After a turn that took long, a
response may have been received before its timeout, and not been read yet. Such a response counts,
above all if it is a refusal: no stale response may follow it. So the last step of a timeout is one
more turn. A timeout of several steps advances by one step only, however long a turn took.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

#: Calls a function in so many seconds.
CallLater: TypeAlias = Callable[[float, Callable[[], object]], IDelayedCall]


@define(eq=False)
class ReadBeforeTimeout:
    """Calls *call* in *delay_s* seconds, which pass in *steps*, and one turn of the reactor."""

    call_later: CallLater
    delay_s: float
    call: Callable[[], object]
    steps: int = 1
    _steps_left: int = field(init=False)
    _delayed: IDelayedCall = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._steps_left = self.steps
        self._delayed = self.call_later(self.delay_s / self.steps, self._step)

    def _step(self) -> None:
        self._steps_left -= 1
        if self._steps_left:
            self._delayed = self.call_later(self.delay_s / self.steps, self._step)
        else:
            self._delayed = self.call_later(0.0, self.call)

    def active(self) -> bool:
        """Tell whether the timer has neither called nor been cancelled."""
        return bool(self._delayed.active())

    def reset(self, delay_s: float) -> None:
        """Begin the delay again."""
        self._delayed.cancel()
        self.delay_s = delay_s
        self.__attrs_post_init__()

    def cancel(self) -> None:
        """Do not call."""
        self._delayed.cancel()
