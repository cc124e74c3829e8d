"""A timer that lets the reactor read once more before it calls.

A turn of Twisted's reactor calls timers first and reads afterwards. After a turn that took long, a
response may have been received before its timeout, and not been read yet. Such a response counts,
above all if it is a refusal: no stale response may follow it.
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
    """Calls *call* in *delay_s* seconds, and one turn of the reactor."""

    call_later: CallLater
    delay_s: float
    call: Callable[[], object]
    _delayed: IDelayedCall = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._delayed = self.call_later(self.delay_s, self._read_first)

    def _read_first(self) -> None:
        self._delayed = self.call_later(0.0, self.call)

    def active(self) -> bool:
        """Tell whether the timer has neither called nor been cancelled."""
        return bool(self._delayed.active())

    def reset(self, delay_s: float) -> None:
        """Begin the delay again."""
        self._delayed.cancel()
        self._delayed = self.call_later(delay_s, self._read_first)

    def cancel(self) -> None:
        """Do not call."""
        self._delayed.cancel()
