"""A circuit breaker: it stops requests to a server that fails, until a probe succeeds.

https://martinfowler.com/bliki/CircuitBreaker.html. CLOSED: requests are sent. OPEN: none is sent
until the backoff has passed. HALF_OPEN: a probe is under way, and its result decides. Only a probe
closes the circuit: a late success of an earlier request does not.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred

from ghmirror_tw.runtime.jittered_backoff import JitteredBackoff
from ghmirror_tw.runtime.restartable_timer import RestartableTimer

#: So many consecutive failures open the circuit.
MAX_FAILURES: Final = 3
#: After so many seconds closed, the backoff begins anew.
_STABLE_S: Final = 10.0


class CircuitState(Enum):
    """Whether requests may be sent."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@define(eq=False, kw_only=True)
class CircuitBreaker:
    """The circuit of one kind of requests to one server; it is open at first.

    *probe* sends a request, and fires with the reason of its failure or with None. *may_probe*
    returns whether it can be sent now. *on_probed* is called with the breaker after each probe.
    *random* gives numbers from 0 to 1.
    """

    reactor: Any
    probe: Callable[[], Deferred[str | None]]
    may_probe: Callable[[], bool]
    on_probed: Callable[[CircuitBreaker], object]
    random: Callable[[], float]
    state: CircuitState = field(default=CircuitState.OPEN, init=False)
    #: Why it opened, or why the last probe failed: a sentence without secrets.
    reason: str = field(default="not connected yet", init=False)
    #: When the next probe is due, by the reactor's clock.
    retry_at: float = field(default=0.0, init=False)
    _backoff: JitteredBackoff = field(init=False)
    _failures: int = field(default=0, init=False)
    _closed_at: float = field(default=float("-inf"), init=False)
    _timer: RestartableTimer = field(init=False)
    _probing: Deferred[str | None] | None = field(default=None, init=False)
    _stopped: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._backoff = JitteredBackoff(self.random)
        self._timer = RestartableTimer(self.reactor, self._send_probe)

    @property
    def is_closed(self) -> bool:
        """Whether requests may be sent."""
        return self.state is CircuitState.CLOSED

    def note_success(self) -> None:
        """Note a success: the failures before it no longer count."""
        self._failures = 0

    def note_failure(self, reason: str) -> bool:
        """Note a failure; return whether it opened the circuit."""
        if not self.is_closed:
            return False
        self._failures += 1
        return self._failures >= MAX_FAILURES and self.trip(reason)

    def trip(self, reason: str) -> bool:
        """Open the circuit; return whether it was closed."""
        was_closed = self.is_closed
        self.reason = reason
        if was_closed:
            self.state = CircuitState.OPEN
            if self.reactor.seconds() - self._closed_at >= _STABLE_S:
                self._backoff.reset()
            self._back_off()
            self.resume()
        return was_closed

    def resume(self, *, at_once: bool = False) -> None:
        """Schedule the next probe, if it can be sent; *at_once*: without waiting for the backoff.

        To be called when *may_probe* has become true.
        """
        if at_once and not self.is_closed:
            self.retry_at = self.reactor.seconds()
        if self.state is CircuitState.OPEN and not self._stopped and self.may_probe():
            self._timer.restart(max(0.0, self.retry_at - self.reactor.seconds()))
        else:
            self._timer.stop()

    def stop(self) -> None:
        """Send no more probes."""
        self._stopped = True
        self._timer.stop()
        if self._probing is not None:
            self._probing.cancel()

    def _send_probe(self) -> None:
        if self.may_probe():
            self.state = CircuitState.HALF_OPEN
            self._probing = probing = self.probe()
            probing.addCallback(self._probed)

    def _probed(self, reason: str | None) -> None:
        self._probing = None
        if self._stopped:
            return
        if reason is None:
            self.state = CircuitState.CLOSED
            self._closed_at = self.reactor.seconds()
            self._failures = 0
        else:
            self.state = CircuitState.OPEN
            self.reason = reason
            self._back_off()
        self.resume()
        self.on_probed(self)

    def _back_off(self) -> None:
        self.retry_at = self.reactor.seconds() + self._backoff.next_s()
