"""A timeout that does not count the time for which the reactor was blocked.

A turn of Twisted's reactor calls timers first and reads afterwards. After a turn that took long, a
response may have been received before its timeout, and not been read yet. Such a response counts,
above all if it is a refusal: no stale response may follow it. So the last step of a timeout is one
more turn. A timeout of several steps advances by one step only, however long a turn took.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from twisted.internet.interfaces import IDelayedCall

#: Calls a function in so many seconds.
CallLater: TypeAlias = Callable[[float, Callable[[], object]], IDelayedCall]


class ReadBeforeTimeout:
    """Calls *call* in *delay_s* seconds, which pass in *steps*, and one turn of the reactor."""

    __slots__ = ("_call", "_call_later", "_delayed", "_step_s", "_steps", "_steps_left")

    def __init__(
        self, call_later: CallLater, delay_s: float, call: Callable[[], object], steps: int = 1
    ) -> None:
        self._call_later, self._call = call_later, call
        self._steps = self._steps_left = steps
        self._step_s = delay_s / steps
        self._delayed = call_later(self._step_s, self._step)

    def _step(self) -> None:
        self._steps_left -= 1
        if self._steps_left:
            self._delayed = self._call_later(self._step_s, self._step)
        else:
            self._delayed = self._call_later(0.0, self._call)

    def active(self) -> bool:
        """Return whether the timer has neither called nor been cancelled."""
        return bool(self._delayed.active())

    def reset(self, delay_s: float) -> None:
        """Begin the delay again."""
        self._delayed.cancel()
        self._step_s = delay_s / self._steps
        self._steps_left = self._steps
        self._delayed = self._call_later(self._step_s, self._step)

    def cancel(self) -> None:
        """Do not call."""
        self._delayed.cancel()
