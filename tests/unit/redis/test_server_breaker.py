"""When a server is left alone, and when it is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.redis.server_breaker import FAILURES, FIRST_DELAY_S, LAST_DELAY_S, Breaker


def closed_breaker(at: float = 0.0, jitter: float = 1.0) -> Breaker:
    """Give one that has had a good trial."""
    breaker = Breaker(lambda: jitter)
    breaker.tried(at, None)
    assert breaker.closed
    return breaker


def test_open_at_first() -> None:
    """Nothing is sent before a trial was good, however well other things go."""
    breaker = Breaker(lambda: 0.5)
    breaker.good()
    assert not breaker.closed
    assert breaker.trial_at <= 0


def test_failures_in_a_row_open_it() -> None:
    """One success between them, and they are counted anew."""
    breaker = closed_breaker()
    for _ in range(3):
        assert [breaker.bad(1, "late") for _ in range(FAILURES - 1)] == [False] * (FAILURES - 1)
        breaker.good()
    for _ in range(FAILURES - 1):
        assert breaker.closed
        assert not breaker.bad(1, "late")
    assert breaker.bad(1, "late")
    assert not breaker.closed
    assert breaker.why == "late"


def test_only_a_trial_closes_it() -> None:
    """A late success of something sent before closes nothing; a bad trial neither."""
    breaker = closed_breaker()
    assert breaker.trip(1, "gone")
    assert not breaker.trip(1, "gone")
    breaker.good()
    assert not breaker.closed
    breaker.tried(2, "still gone")
    assert not breaker.closed
    assert breaker.why == "still gone"
    breaker.tried(3, None)
    assert breaker.closed


def test_a_failure_after_a_trial_is_the_first_one() -> None:
    """What failed before it closed is forgotten."""
    breaker = closed_breaker()
    for _ in range(FAILURES):
        breaker.bad(1, "late")
    breaker.tried(2, None)
    assert not breaker.bad(3, "late")
    assert breaker.closed


def test_trials_become_rarer() -> None:
    """They double up to a few seconds, and start over once it has worked for a while."""
    breaker = closed_breaker()
    now = 100.0
    breaker.trip(now, "gone")
    delays = []
    for _ in range(10):
        delays.append(breaker.trial_at - now)
        now = breaker.trial_at
        breaker.tried(now, "gone")
    assert abs(delays[0] - FIRST_DELAY_S) < 1e-6
    assert delays == sorted(delays)
    assert abs(delays[-1] - LAST_DELAY_S) < 1e-6
    breaker.tried(now, None)
    breaker.trip(now + 1, "gone again")
    assert breaker.trial_at - now - 1 > LAST_DELAY_S - 1e-6
    breaker.tried(now + 2, None)
    breaker.trip(now + 100, "gone again")
    assert abs(breaker.trial_at - now - 100 - FIRST_DELAY_S) < 1e-6


def test_a_new_connection_is_tried_at_once() -> None:
    """Who can be reached again need not wait; who works is not tried."""
    breaker = closed_breaker()
    breaker.trip(1, "gone")
    breaker.reached(1.01)
    assert breaker.trial_at == 1.01


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 20))
def test_replicas_spread(jitter: float, failures: int) -> None:
    """The next trial is somewhere in the second half of the delay."""
    breaker = closed_breaker(jitter=jitter)
    breaker.trip(50, "gone")
    for _ in range(failures):
        breaker.tried(60, "gone")
    delay_s = min(FIRST_DELAY_S * 2**failures, LAST_DELAY_S)
    assert delay_s / 2 - 1e-6 <= breaker.trial_at - 60 <= delay_s + 1e-6
