"""A timer that can be restarted with another delay, and stopped at any time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet.interfaces import IDelayedCall


@define(eq=False)
class RestartableTimer:
    """Calls *call* once the delay since the last `restart` has passed."""

    reactor: Any
    call: Callable[[], object]
    _delayed: IDelayedCall | None = None

    def restart(self, delay_s: float) -> None:
        """Start the timer, or begin its delay again."""
        if self._delayed is not None:
            self._delayed.reset(delay_s)
        else:
            self._delayed = self.reactor.callLater(delay_s, self._fire)

    def stop(self) -> None:
        """Stop the timer, if it is running."""
        delayed, self._delayed = self._delayed, None
        if delayed is not None:
            delayed.cancel()

    def _fire(self) -> None:
        self._delayed = None
        self.call()
