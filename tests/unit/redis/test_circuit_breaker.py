"""When a circuit opens, when it is probed, and when it closes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from ghmirror_tw.redis.circuit_breaker import MAX_FAILURES, CircuitBreaker, CircuitState
from ghmirror_tw.runtime.jittered_backoff import FIRST_DELAY_S, LAST_DELAY_S


class Circuit:
    """A circuit breaker on a clock; the test decides about the results of its probes."""

    def __init__(self, jitter: float = 1.0) -> None:
        self.clock = Clock()
        self.probes: list[Deferred[str | None]] = []
        self.connected = True
        self.notified = 0
        self.breaker = CircuitBreaker(
            reactor=self.clock,
            probe=self.probe,
            may_probe=lambda: self.connected,
            on_probed=self.probed,
            random=lambda: jitter,
        )

    def probe(self) -> Deferred[str | None]:
        self.probes.append(Deferred())
        return self.probes[-1]

    def probed(self, breaker: CircuitBreaker) -> None:
        assert breaker is self.breaker
        self.notified += 1

    def next_probe(self, reason: str | None) -> float:
        """Wait for the next probe, end it, and return the delay before it."""
        began, number = self.clock.seconds(), len(self.probes)
        while len(self.probes) == number:
            self.clock.advance(0.01)
        assert self.breaker.state is CircuitState.HALF_OPEN
        self.probes[-1].callback(reason)
        return self.clock.seconds() - began

    @classmethod
    def closed(cls, jitter: float = 1.0) -> Circuit:
        circuit = cls(jitter)
        circuit.breaker.resume(at_once=True)
        circuit.next_probe(None)
        assert circuit.breaker.state is CircuitState.CLOSED
        return circuit


def test_it_is_open_at_first() -> None:
    """A success without a probe does not close it."""
    circuit = Circuit()
    circuit.breaker.note_success()
    assert circuit.breaker.state is CircuitState.OPEN
    assert not circuit.probes


def test_consecutive_failures_open_it() -> None:
    """A success between them resets the count."""
    breaker: Any = Circuit.closed().breaker
    for _ in range(3):
        assert not any(breaker.note_failure("late") for _ in range(MAX_FAILURES - 1))
        breaker.note_success()
    assert not any(breaker.note_failure("late") for _ in range(MAX_FAILURES - 1))
    assert breaker.is_closed
    assert breaker.note_failure("late")
    assert (breaker.state, breaker.reason) == (CircuitState.OPEN, "late")


def test_only_a_probe_closes_it() -> None:
    """A late success of an earlier request does not, and neither does a failed probe."""
    circuit = Circuit.closed()
    breaker: Any = circuit.breaker
    assert breaker.trip("gone")
    assert not breaker.trip("gone")
    breaker.note_success()
    assert breaker.state is CircuitState.OPEN
    circuit.next_probe("still gone")
    assert (breaker.state, breaker.reason) == (CircuitState.OPEN, "still gone")
    circuit.next_probe(None)
    assert circuit.breaker.state is CircuitState.CLOSED
    assert circuit.notified == 3


def test_failures_before_it_closed_do_not_count() -> None:
    """The next failure is the first one."""
    circuit = Circuit.closed()
    for _ in range(MAX_FAILURES):
        circuit.breaker.note_failure("late")
    circuit.next_probe(None)
    assert not circuit.breaker.note_failure("late")
    assert circuit.breaker.is_closed


def test_the_backoff_grows() -> None:
    """It doubles up to a few seconds, and begins anew after some time closed."""
    circuit = Circuit.closed()
    circuit.clock.advance(100.0)
    circuit.breaker.trip("gone")
    delays = [circuit.next_probe("gone") for _ in range(10)]
    assert abs(delays[0] - FIRST_DELAY_S) < 0.02
    assert delays == sorted(delays)
    assert abs(delays[-1] - LAST_DELAY_S) < 0.02
    circuit.next_probe(None)
    circuit.clock.advance(1.0)
    circuit.breaker.trip("gone again")
    assert circuit.next_probe(None) > LAST_DELAY_S - 0.02
    circuit.clock.advance(100.0)
    circuit.breaker.trip("gone again")
    assert circuit.next_probe(None) < FIRST_DELAY_S + 0.02


def test_a_new_connection_is_probed_at_once() -> None:
    """The backoff does not delay that; a closed circuit is not probed."""
    circuit = Circuit.closed()
    circuit.breaker.resume(at_once=True)
    circuit.clock.advance(10.0)
    assert len(circuit.probes) == 1
    circuit.connected = False
    circuit.breaker.trip("gone")
    circuit.clock.advance(10.0)
    assert len(circuit.probes) == 1
    circuit.breaker.trip("gone")
    circuit.connected = True
    circuit.breaker.resume(at_once=True)
    circuit.clock.advance(0.0)
    assert len(circuit.probes) == 2


def test_there_is_one_probe_at_a_time() -> None:
    """However often it is resumed."""
    circuit = Circuit()
    for _ in range(3):
        circuit.breaker.resume(at_once=True)
        circuit.clock.advance(1.0)
    assert len(circuit.probes) == 1
    assert circuit.breaker.state is CircuitState.HALF_OPEN


def test_a_probe_that_has_become_impossible_is_not_sent() -> None:
    """The connection was lost before it was due."""
    circuit = Circuit()
    circuit.breaker.resume()
    circuit.connected = False
    circuit.clock.advance(1.0)
    assert not circuit.probes
    assert circuit.breaker.state is CircuitState.OPEN


def test_a_stopped_breaker_ends_its_probe() -> None:
    """No timer is left, and the result of the probe is ignored."""
    circuit = Circuit()
    circuit.breaker.resume()
    circuit.clock.advance(0.0)
    (probe,) = circuit.probes
    probe.addErrback(lambda _: None)
    circuit.breaker.stop()
    circuit.breaker.resume(at_once=True)
    assert not circuit.clock.getDelayedCalls()
    assert circuit.notified == 0
    assert not circuit.breaker.is_closed


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 20))
def test_replicas_spread(jitter: float, failures: int) -> None:
    """The next probe is due in the second half of the delay."""
    circuit = Circuit.closed(jitter)
    circuit.breaker.trip("gone")
    for _ in range(failures):
        circuit.next_probe("gone")
    delay_s = min(FIRST_DELAY_S * 2**failures, LAST_DELAY_S)
    left_s = circuit.breaker.retry_at - circuit.clock.seconds()
    assert delay_s / 2 - 1e-6 <= left_s <= delay_s + 1e-6
