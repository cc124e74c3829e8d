"""Timeouts that pass in steps, so that a reactor that was blocked does not end them.

However long the reactor was blocked, each timeout advances by one step. So the replies that have
arrived in the meantime are read before it ends. One reactor timer serves all timeouts of a
connection: a timer for each command would cost more than the rest of sending it.
"""

from __future__ import annotations

from math import inf
from typing import Any, Protocol

from attrs import define, field

from ghmirror_tw.runtime.restartable_timer import RestartableTimer


class SteppedTimeout(Protocol):
    """A timeout that consists of steps."""

    #: When its next step is due, by the reactor's clock.
    due: float

    def step(self) -> None:
        """Advance by one step: schedule the next one, or end."""


@define(eq=False)
class StepTimer:
    """Calls `SteppedTimeout.step` of each timeout when its next step is due."""

    reactor: Any
    _timeouts: dict[SteppedTimeout, None] = field(init=False, factory=dict)
    _timer: RestartableTimer = field(init=False)
    #: When the timer is due; infinite while it is stopped.
    _due: float = field(init=False, default=inf)

    def __attrs_post_init__(self) -> None:
        self._timer = RestartableTimer(self.reactor, self._call_steps)

    def schedule(self, timeout: SteppedTimeout, delay_s: float) -> None:
        """Call the next step of *timeout* in *delay_s* seconds."""
        timeout.due = due = self.reactor.seconds() + delay_s
        self._timeouts[timeout] = None
        if due < self._due:
            self._due = due
            self._timer.restart(delay_s)

    def cancel(self, timeout: SteppedTimeout) -> None:
        """Call no more steps of *timeout*."""
        self._timeouts.pop(timeout, None)

    def close(self) -> None:
        """Call no more steps."""
        self._timeouts.clear()
        self._due = inf
        self._timer.stop()

    def _call_steps(self) -> None:
        self._due = inf
        now = self.reactor.seconds()
        for timeout in [each for each in self._timeouts if each.due <= now]:
            if timeout in self._timeouts:
                del self._timeouts[timeout]
                timeout.step()
        if self._timeouts:
            self._due = min(each.due for each in self._timeouts)
            self._timer.restart(max(self._due - self.reactor.seconds(), 0.0))
