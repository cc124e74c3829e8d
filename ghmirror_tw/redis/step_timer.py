"""Timeouts that pass in steps, so that a reactor that was blocked does not end them.

However long the reactor was blocked, each timeout advances by one step. So the replies that have
arrived in the meantime are read before it ends. One reactor timer serves all timeouts of a
connection: a timer for each command would cost more than the rest of sending it.
"""

from __future__ import annotations

from typing import Any, Protocol

from attrs import define, field


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
    _timer: Any = field(init=False, default=None)
    _due: float = field(init=False, default=0.0)

    def schedule(self, timeout: SteppedTimeout, delay_s: float) -> None:
        """Call the next step of *timeout* in *delay_s* seconds."""
        timeout.due = due = self.reactor.seconds() + delay_s
        self._timeouts[timeout] = None
        if self._timer is None or due < self._due:
            self._set_timer(due, delay_s)

    def cancel(self, timeout: SteppedTimeout) -> None:
        """Call no more steps of *timeout*."""
        self._timeouts.pop(timeout, None)

    def close(self) -> None:
        """Call no more steps."""
        self._timeouts.clear()
        self._cancel_timer()

    def _set_timer(self, due: float, delay_s: float) -> None:
        self._cancel_timer()
        self._due = due
        self._timer = self.reactor.callLater(delay_s, self._call_steps)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _call_steps(self) -> None:
        self._timer = None
        now = self.reactor.seconds()
        for timeout in [each for each in self._timeouts if each.due <= now]:
            if timeout in self._timeouts:
                del self._timeouts[timeout]
                timeout.step()
        if self._timeouts:
            due = min(each.due for each in self._timeouts)
            self._set_timer(due, max(due - self.reactor.seconds(), 0.0))
