"""The decision for a storable request: a step from stored state, request and state of GitHub."""

from __future__ import annotations

from typing import Final

import pytest
from attrs import evolve

from ghmirror_tw.caching import decision
from ghmirror_tw.caching.decision import (
    AVAILABLE,
    AcquireLock,
    CheckCredential,
    DecisionFacts,
    LockScope,
    ReadPrimary,
    Reject,
    RepeatNegative,
    ServeFresh,
    ServeStale,
    Step,
    UpstreamState,
    Validate,
    lock_scope,
    next_step,
)
from ghmirror_tw.caching.records import Known, NegativeResponse
from ghmirror_tw.caching.timeout_backoff import TimeoutBackoff
from ghmirror_tw.github.reported_limit import LimitKind
from ghmirror_tw.http.fields import Fields
from tests.unit.caching.decision_inputs import (
    EPOCH,
    FRESH_FOR_S,
    FROM_THE_FUTURE,
    GET,
    HEAD,
    INTERNAL,
    LAGGING,
    NO_CACHE,
    NOTHING,
    NOW,
    OF_OTHERS,
    OLD,
    RECENT,
    REFUSED,
    UNKNOWN,
    UNSTORABLE,
    WRITTEN_SINCE,
)

NEGATIVE: Final = Known(
    epoch=EPOCH,
    refused_at=NOW - 6,
    negative=NegativeResponse(NOW - 6, NOW - 5, EPOCH, 404, Fields(), b""),
)

# The state of GitHub.
OFFLINE: Final = UpstreamState(offline=True)
LIMITED: Final = UpstreamState(limit=LimitKind.PRIMARY)
LIMITED_OFFLINE: Final = UpstreamState(limit=LimitKind.SECONDARY, offline=True)
SLOW_ONCE: Final = UpstreamState(backoff=TimeoutBackoff(1, NOW - 1, NOW + 9.5))
SLOW: Final = UpstreamState(backoff=TimeoutBackoff(2, NOW - 1, NOW + 4.5))
SLOW_BEFORE: Final = UpstreamState(backoff=TimeoutBackoff(2, NOW - 10, NOW))
SLOW_AND_LIMITED: Final = evolve(SLOW, limit=LimitKind.PRIMARY)
SLOW_AND_OFFLINE: Final = evolve(SLOW, offline=True)

VALIDATE: Final = Validate(stale_if_error=True, stale_while_waiting=True)
VALIDATE_UNGRANTED: Final = Validate(stale_if_error=True)
ONLY_VALIDATE: Final = Validate()

#: What is stored, the request, the state of GitHub, the steps tried before, and the next step.
CASES: Final[list[tuple[Known, DecisionFacts, UpstreamState, tuple[type[Step], ...], Step]]] = [
    # Fresh responses: RFC 9111, section 4.2.
    (RECENT, GET, AVAILABLE, (), ServeFresh()),
    (RECENT, HEAD, AVAILABLE, (), ServeFresh()),
    (RECENT, INTERNAL, AVAILABLE, (), ServeFresh()),
    (RECENT, UNKNOWN, AVAILABLE, (), ServeFresh()),
    (RECENT, GET, OFFLINE, (), ServeFresh()),
    (RECENT, GET, LIMITED, (), ServeFresh()),
    (RECENT, NO_CACHE, AVAILABLE, (), ONLY_VALIDATE),
    (OLD, GET, AVAILABLE, (), VALIDATE),
    (FROM_THE_FUTURE, GET, AVAILABLE, (), VALIDATE),
    (WRITTEN_SINCE, GET, AVAILABLE, (), VALIDATE_UNGRANTED),
    (LAGGING, GET, AVAILABLE, (), ReadPrimary()),
    (LAGGING, GET, AVAILABLE, (ReadPrimary,), VALIDATE),
    (RECENT, GET, AVAILABLE, (ReadPrimary,), ServeFresh()),
    (RECENT, GET, AVAILABLE, (ServeFresh,), VALIDATE),
    # Negative responses: RFC 9111, section 4.2.2.
    (NEGATIVE, GET, AVAILABLE, (), RepeatNegative()),
    (NEGATIVE, HEAD, LIMITED, (), RepeatNegative()),
    (NEGATIVE, UNKNOWN, OFFLINE, (), RepeatNegative()),
    (NEGATIVE, NO_CACHE, AVAILABLE, (), ONLY_VALIDATE),
    (NEGATIVE, INTERNAL, AVAILABLE, (), ONLY_VALIDATE),
    (evolve(NEGATIVE, current=False), GET, AVAILABLE, (), ReadPrimary()),
    (evolve(NEGATIVE, current=False), GET, AVAILABLE, (ReadPrimary,), VALIDATE_UNGRANTED),
    (evolve(NEGATIVE, epoch=b"after it"), GET, AVAILABLE, (), VALIDATE_UNGRANTED),
    # Credentials that GitHub has not accepted yet.
    (NOTHING, UNKNOWN, AVAILABLE, (), CheckCredential()),
    (OLD, UNKNOWN, OFFLINE, (), CheckCredential()),
    (OLD, UNKNOWN, OFFLINE, (CheckCredential,), ServeStale("offline", may_probe=True)),
    (NOTHING, UNKNOWN, AVAILABLE, (CheckCredential,), VALIDATE_UNGRANTED),
    # The lock of the fleet.
    (NOTHING, GET, AVAILABLE, (), AcquireLock(LockScope.KEY)),
    (NOTHING, NO_CACHE, AVAILABLE, (), AcquireLock(LockScope.KEY)),
    (OF_OTHERS, GET, AVAILABLE, (), AcquireLock(LockScope.CREDENTIAL)),
    (NOTHING, GET, AVAILABLE, (AcquireLock,), VALIDATE_UNGRANTED),
    (NOTHING, NO_CACHE, AVAILABLE, (AcquireLock,), ONLY_VALIDATE),
    (NOTHING, GET, LIMITED, (), VALIDATE_UNGRANTED),
    (NOTHING, HEAD, AVAILABLE, (), VALIDATE_UNGRANTED),
    (NOTHING, INTERNAL, AVAILABLE, (), ONLY_VALIDATE),
    (REFUSED, GET, AVAILABLE, (), VALIDATE_UNGRANTED),
    (UNSTORABLE, GET, AVAILABLE, (), VALIDATE_UNGRANTED),
    # Stale responses at once: RFC 9111, section 4.2.4.
    (OLD, GET, OFFLINE, (), ServeStale("offline", may_probe=True)),
    (OLD, GET, LIMITED, (), ServeStale("primary-limit")),
    (OLD, GET, LIMITED_OFFLINE, (), ServeStale("secondary-limit")),
    (OLD, NO_CACHE, OFFLINE, (), ONLY_VALIDATE),
    (OLD, NO_CACHE, LIMITED, (), ONLY_VALIDATE),
    (OLD, INTERNAL, OFFLINE, (), ONLY_VALIDATE),
    (WRITTEN_SINCE, GET, OFFLINE, (), VALIDATE_UNGRANTED),
    (OLD, GET, OFFLINE, (ServeStale,), VALIDATE),
    (OLD, GET, LIMITED, (ServeStale,), VALIDATE),
    # The backoff of a key that times out.
    (OLD, GET, SLOW_ONCE, (), ServeStale("timeout")),
    (OLD, GET, SLOW, (), ServeStale("timeout")),
    (OLD, GET, SLOW_ONCE, (ServeStale,), VALIDATE),
    (OLD, GET, SLOW, (ServeStale,), Reject(5)),
    (OLD, GET, SLOW_BEFORE, (), evolve(VALIDATE, probes_backoff=True)),
    (REFUSED, GET, SLOW_ONCE, (), VALIDATE_UNGRANTED),
    (REFUSED, GET, SLOW, (), Reject(5)),
    (OLD, NO_CACHE, SLOW, (), ONLY_VALIDATE),
    (OLD, GET, SLOW_AND_LIMITED, (), ServeStale("primary-limit")),
    (OLD, GET, SLOW_AND_LIMITED, (ServeStale,), VALIDATE),
    (OLD, GET, SLOW_AND_OFFLINE, (ServeStale,), Reject(5)),
]


@pytest.mark.parametrize(("known", "facts", "upstream", "tried", "step"), CASES)
def test_next_step(
    known: Known,
    facts: DecisionFacts,
    upstream: UpstreamState,
    tried: tuple[type[Step], ...],
    step: Step,
) -> None:
    """Each case has one step."""
    values = {"fresh_for_s": FRESH_FOR_S, "negative_for_s": FRESH_FOR_S}
    assert next_step(facts, known, upstream, NOW, **values, tried=tried) == step


def test_without_fresh_for_every_request_is_validated() -> None:
    """That is the default: only GitHub knows whether a response is current."""
    step = next_step(GET, RECENT, AVAILABLE, NOW, fresh_for_s=0.0)
    assert step == VALIDATE


def test_no_lock_for_a_credential_that_is_not_accepted() -> None:
    """No other request waits for a made-up credential."""
    assert lock_scope(UNKNOWN, NOTHING) is None


def test_steps_are_those_of_the_module() -> None:
    """The table has every step."""
    steps = {type(case[-1]) for case in CASES}
    assert steps == set(decision.Step.__args__)
