"""Evidence that concerns all clients needs several credentials or operations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.runtime.independent_evidence import Evidence, Observation, Quorum

OUTAGE = Quorum(keys=3, credentials=2, observations=5, operations=2)
SWITCH = Quorum(keys=3, credentials=2, window_s=600.0)


def evidence(quorum: Quorum, *seen: tuple[str, str, str]) -> Evidence:
    """Return evidence of *seen*: keys, credentials and operations."""
    made = Evidence(quorum)
    for key, credential, operation in seen:
        made.add(Observation(key, credential, operation), 1.0)
    return made


def test_quorum_of_credentials_and_keys() -> None:
    """Each alone is not enough, however often."""
    assert not evidence(SWITCH, *[("/a", "alice", "")] * 9).is_enough(1.0)
    assert not evidence(SWITCH, *[(f"/{n}", "alice", "") for n in range(9)]).is_enough(1.0)
    assert not evidence(SWITCH, *[("/a", f"{n}", "") for n in range(9)]).is_enough(1.0)
    both = [("/a", "alice", ""), ("/b", "alice", ""), ("/c", "bob", "")]
    assert evidence(SWITCH, *both).is_enough(1.0)


def test_operations_replace_credentials() -> None:
    """Only where the quorum has them."""
    seen = [("/a", "alice", "GET /a"), ("/b", "alice", "GET /a"), ("/c", "alice", "GET /c")]
    assert not evidence(SWITCH, *seen).is_enough(1.0)
    assert not evidence(OUTAGE, *seen).is_enough(1.0)
    assert evidence(OUTAGE, *seen, *seen[:2]).is_enough(1.0)
    one = [(f"/{n}", "alice", "GET /a") for n in range(9)]
    assert not evidence(OUTAGE, *one).is_enough(1.0)


def test_observations_expire() -> None:
    """A repeated observation is as young as its last time."""
    made = evidence(SWITCH, ("/a", "alice", ""), ("/b", "bob", ""))
    made.add(Observation("/b", "bob"), 500.0)
    made.add(Observation("/c", "bob"), 600.5)
    assert made.is_enough(600.9)
    assert not made.is_enough(601.0)
    assert made.count == 3


def test_clear_removes_all_observations() -> None:
    """After an observation of the contrary."""
    made = evidence(SWITCH, ("/a", "alice", ""), ("/b", "alice", ""), ("/c", "bob", ""))
    made.clear()
    assert (made.is_enough(1.0), made.count) == (False, 0)


@given(st.integers(0, 300), st.integers(0, 300))
def test_one_credential_evicts_no_observations_of_others(before: int, after: int) -> None:
    """However many it has, before or after."""
    flood = [(f"/{n}", "mallory", "") for n in range(before + after)]
    made = evidence(SWITCH, *flood[:before], ("/a", "alice", ""), *flood[before:])
    assert len(made.seen) <= 64
    assert made.is_enough(1.0) is (before + after >= 2)
