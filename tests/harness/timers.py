"""A reactor whose long timers a test fires, so that no test waits for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.config.settings import Settings
from tests.harness.home import Home

#: A timer of at least so many seconds waits for an event that does not happen in a test.
LONG_S = 4.0
#: How long a mirror waits between two pieces of content.
IDLE_S = Settings().github.idle_timeout


@define(eq=False)
class Timers:
    """A reactor, and those of its timers that are long.

    *is_idle*: content is waited for. *made*: for how many seconds timers were made.
    """

    real: Any
    calls: list[IDelayedCall] = field(factory=list)
    is_idle: bool = False
    made: list[float] = field(factory=list)

    def callLater(self, seconds: float, call: Callable[..., Any], *more: Any) -> IDelayedCall:
        """Call it later, or when it is ended."""
        later: IDelayedCall = self.real.callLater(seconds, call, *more)
        self.made.append(seconds)
        if seconds >= LONG_S:
            self.calls.append(later)
        self.is_idle = self.is_idle or seconds == IDLE_S
        return later

    def end_shortest(self) -> None:
        """Advance to the first pending timer."""
        self.calls = [call for call in self.calls if call.active()]
        if self.calls:
            call = min(self.calls, key=lambda each: each.getTime())
            self.calls.remove(call)
            call.reset(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def with_timers(home: Home) -> Timers:
    """Start a mirror whose waits the test ends, while its clock is stopped."""
    home.move_on(0.0)
    timers = Timers(home.clock)
    parts = home.parts
    for part in (parts.mirror, parts.store, parts.resource, parts.client):
        part.reactor = timers
    return timers
