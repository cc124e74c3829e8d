"""Backoff for keys whose requests time out."""

from __future__ import annotations

import pytest

from ghmirror_tw.caching import timeout_backoff
from ghmirror_tw.caching.timeout_backoff import TimeoutBackoff, TimeoutBackoffs


def held(backoffs: TimeoutBackoffs, key: str, credential: str, now: float) -> TimeoutBackoff | None:
    """Return the backoff that delays a request; None: it is sent, as the probe if one is due."""
    backoff = backoffs.of(key, credential)
    if backoff is None or now < backoff.until:
        return backoff
    backoffs.begin_probe(key, now)
    return None


def test_first_timeout_admits_one_request_at_a_time() -> None:
    """The next request is the probe at once; others are delayed, but not for ever."""
    backoffs = TimeoutBackoffs()
    backoffs.note_timeout("a", "alice", 0.0, 0.0)
    assert held(backoffs, "a", "alice", 0.0) is None
    delayed = held(backoffs, "a", "alice", 9.9)
    assert delayed is not None
    assert not delayed.repeated
    assert held(backoffs, "b", "alice", 1.0) is None
    assert held(backoffs, "a", "alice", 10.0) is None


def test_pause_doubles() -> None:
    """From the second timeout in a row on, up to five minutes; a response ends it."""
    backoffs, now, pauses = TimeoutBackoffs(), 0.0, []
    for _ in range(20):
        backoffs.note_timeout("a", "alice", now, now)
        delayed = held(backoffs, "a", "alice", now)
        pauses.append(delayed.until - now if delayed else 0.0)
        now += 1000.0
    assert pauses[:4] == [0.0, 5.0, 10.0, 20.0]
    assert max(pauses) == pauses[-1] == 300.0
    delayed = held(backoffs, "a", "alice", now - 1000.0)
    assert delayed is not None
    assert delayed.repeated
    backoffs.note_response("a", "alice")
    backoffs.note_response("a", "alice")
    assert held(backoffs, "a", "alice", now) is None
    assert not backoffs.any_known


def test_concurrent_timeouts_count_once() -> None:
    """Their requests were sent before the first timeout."""
    backoffs = TimeoutBackoffs()
    for _ in range(5):
        backoffs.note_timeout("a", "alice", 0.0, 10.0)
        backoffs.note_timeout("a", "alice", 1.0, 11.0)
    assert held(backoffs, "a", "alice", 11.0) is None


def test_number_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that timed out least recently is evicted."""
    monkeypatch.setattr(timeout_backoff, "MAX_KEYS", 2)
    backoffs = TimeoutBackoffs()
    for key in "abc":
        for now in (0.0, 1.0):
            backoffs.note_timeout(key, "alice", now, now)
    assert [held(backoffs, key, "alice", 1.0) is not None for key in "abc"] == [False, True, True]


def test_timeouts_of_two_credentials_delay_all() -> None:
    """Timeouts of one delay only its own requests."""
    backoffs = TimeoutBackoffs()
    for now in (0.0, 1.0):
        backoffs.note_timeout("a", "alice", now, now)
    assert held(backoffs, "a", "alice", 1.0) is not None
    assert held(backoffs, "a", "bob", 1.0) is None
    backoffs.note_response("a", "bob")
    assert held(backoffs, "a", "alice", 1.0) is not None
    # It was sent before the last timeout, and is one more credential all the same.
    backoffs.note_timeout("a", "bob", 0.5, 2.0)
    assert held(backoffs, "a", "carol", 2.0) is not None
    backoffs.note_response("a", "carol")
    assert not backoffs.any_known


def test_a_probe_of_a_key_whose_backoff_has_ended_delays_no_request() -> None:
    """Another request may have had a response in time before the probe is sent."""
    backoffs = TimeoutBackoffs()
    backoffs.begin_probe("a", 1.0)
    assert not backoffs.any_known
