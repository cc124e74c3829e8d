"""A timeout of a connection that is restarted often and rarely expires."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.protocols.policies import TimeoutMixin


class LazyTimeoutMixin(TimeoutMixin):
    """Does what `TimeoutMixin` does, but moves a deadline instead of a delayed call.

    One delayed call stays scheduled. If it fires before the deadline, it is scheduled anew. To
    start and stop the timeout takes 0.3 microseconds instead of 1.3, once for each request, and
    leaves no cancelled call in the reactor's heap.
    """

    factory: Any
    #: When the timeout expires, in seconds of the reactor's clock; None: never.
    _deadline: float | None = None
    _delayed_call: IDelayedCall | None = None

    def setTimeout(self, period: float | None) -> float | None:
        """Expire in *period* seconds from now, or never."""
        before, self.timeOut = self.timeOut, period  # type: ignore[assignment]
        if period is None:
            self._deadline = None
        else:
            self._deadline = self.factory.reactor.seconds() + period
            self._check_in(period, self._deadline)
        return before

    def resetTimeout(self) -> None:
        """Restart the timeout, unless it is stopped or has expired."""
        if self._deadline is not None:
            self.setTimeout(self.timeOut)

    def suspend_timeout(self) -> None:
        """Stop the timeout, but remember its period."""
        self._deadline = None

    def cancel_timeout(self) -> None:
        """Cancel the delayed call, at the end of the connection."""
        call, self._delayed_call = self._delayed_call, None
        if call is not None:
            call.cancel()

    def _check_in(self, seconds: float, deadline: float) -> None:
        if self._delayed_call is not None:
            if self._delayed_call.getTime() <= deadline:
                return
            self._delayed_call.cancel()
        self._delayed_call = self.callLater(seconds, self._check)

    def _check(self) -> None:
        self._delayed_call = None
        if self._deadline is None:
            return
        left = self._deadline - self.factory.reactor.seconds()
        if left > 0:
            self._check_in(left, self._deadline)
        else:
            self._deadline = None
            self.timeoutConnection()
