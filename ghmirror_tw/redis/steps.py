"""How time passes for those who wait: in steps, by one timer for all of them."""

from __future__ import annotations

from typing import Any, Protocol

from attrs import define, field


class Waiting(Protocol):
    """Who waits for something, step by step."""

    #: When its next step is due, by the reactor's clock.
    due: float

    def step(self) -> None:
        """Let one step pass: wait for another one, or no more."""


@define(eq=False)
class Steps:
    """Lets steps pass for each who waits, when they are due, and not more than one at a time.

    Setting and stopping a timer for each of them would cost more than all the rest.
    """

    reactor: Any
    _waiting: dict[Waiting, None] = field(init=False, factory=dict)
    _timer: Any = field(init=False, default=None)
    _at: float = field(init=False, default=0.0)

    def wait(self, who: Waiting, for_s: float) -> None:
        """Let a step pass for *who* in *for_s* seconds."""
        who.due = due = self.reactor.seconds() + for_s
        self._waiting[who] = None
        if self._timer is None or due < self._at:
            self._set(due, for_s)

    def stop(self, who: Waiting) -> None:
        """Let no more steps pass for *who*."""
        self._waiting.pop(who, None)

    def close(self) -> None:
        """Let no more steps pass for anybody."""
        self._waiting.clear()
        self._stop_timer()

    def _set(self, due: float, wait_s: float) -> None:
        self._stop_timer()
        self._at = due
        self._timer = self.reactor.callLater(wait_s, self._pass)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pass(self) -> None:
        self._timer = None
        now = self.reactor.seconds()
        for who in [each for each in self._waiting if each.due <= now]:
            if who in self._waiting:
                del self._waiting[who]
                who.step()
        if self._waiting:
            due = min(each.due for each in self._waiting)
            self._set(due, max(due - self.reactor.seconds(), 0.0))
