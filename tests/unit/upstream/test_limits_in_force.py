"""Rate limits in force, and their probes."""

from __future__ import annotations

import pytest

from ghmirror_tw.github.reported_limit import CONTENT_CREATION, EVERYTHING, Limit, LimitKind
from ghmirror_tw.upstream.limits_in_force import RateLimitedError, RateLimitTable

CORE, SEARCH = (EVERYTHING, "core"), (EVERYTHING, "search")


def primary(until: float, bucket: str = "core") -> Limit:
    return Limit(LimitKind.PRIMARY, bucket, until)


def secondary(until: float) -> Limit:
    return Limit(LimitKind.SECONDARY, "", until)


def met(
    limits: RateLimitTable, limit: Limit, *, scopes: tuple[str, ...] = CORE, now: float = 0.0
) -> None:
    """Send a request, whose response reports a limit."""
    check = limits.check("a", scopes, now)
    limits.end_probe(check)
    limits.set(check, limit)


def strikes(limits: RateLimitTable, credential: str = "a") -> int:
    return limits.check(credential, ("another",), 1e9).strikes


def test_primary_limit_applies_to_one_bucket_of_one_credential() -> None:
    """Until its end; other buckets and credentials are not limited."""
    limits = RateLimitTable()
    met(limits, primary(10.0))
    with pytest.raises(RateLimitedError):
        limits.check("a", CORE, 9.9)
    limits.check("a", SEARCH, 9.9)
    limits.check("b", CORE, 9.9)
    assert limits.has_any("a", CORE)
    assert not limits.has_any("a", SEARCH)
    limits.check("a", CORE, 10.0)


def test_secondary_limit_applies_to_all_buckets_of_a_credential() -> None:
    """With any request."""
    limits = RateLimitTable()
    met(limits, secondary(10.0), scopes=SEARCH)
    for scopes in (CORE, SEARCH, (EVERYTHING,)):
        with pytest.raises(RateLimitedError):
            limits.check("a", scopes, 9.9)
    limits.check("b", CORE, 9.9)


def test_content_creation_has_a_limit_of_its_own() -> None:
    """Reads are not limited."""
    limits = RateLimitTable()
    met(limits, Limit(LimitKind.SECONDARY, CONTENT_CREATION, 10.0))
    with pytest.raises(RateLimitedError):
        limits.check("a", (*CORE, CONTENT_CREATION), 9.9)
    limits.check("a", CORE, 9.9)


def test_one_request_probes_after_the_end() -> None:
    """The others are rejected until its response: none, a limit, or no limit."""
    limits = RateLimitTable()
    met(limits, primary(10.0))
    trial = limits.check("a", CORE, 10.0)
    with pytest.raises(RateLimitedError):
        limits.check("a", CORE, 10.1)
    limits.end_probe(trial)
    trial = limits.check("a", CORE, 10.2)
    limits.end_probe(trial)
    limits.set(trial, primary(20.0))
    with pytest.raises(RateLimitedError):
        limits.check("a", CORE, 19.9)
    trial = limits.check("a", CORE, 20.0)
    limits.end_probe(trial)
    limits.clear(trial)
    assert limits.check("a", CORE, 20.1).ended == ()
    limits.check("a", CORE, 20.1)


def test_response_to_an_earlier_request_does_not_end_a_limit() -> None:
    """Nor does it reset the strikes."""
    limits = RateLimitTable()
    early = limits.check("a", CORE, 0.0)
    met(limits, secondary(10.0))
    limits.end_probe(early)
    limits.clear(early)
    with pytest.raises(RateLimitedError):
        limits.check("a", CORE, 9.9)
    assert strikes(limits) == 1


def test_strikes_count_secondary_limits_in_a_row() -> None:
    """Concurrent requests are one; a response without a limit resets them."""
    limits = RateLimitTable()
    for number in (1, 2, 3):
        check = limits.check("a", CORE, 100.0 * number)
        limits.end_probe(check)
        limits.set(check, secondary(100.0 * number + 10))
        trial = limits.check("a", CORE, 100.0 * number + 20)
        limits.end_probe(trial)
        assert trial.strikes == number
    limits.clear(trial)
    assert strikes(limits) == 0
    first, second = (limits.check("c", CORE, 0.0) for _ in (1, 2))
    for check in (first, second):
        limits.set(check, secondary(10.0))
    assert strikes(limits, "c") == 1


def test_later_end_wins() -> None:
    """Of two responses that report a limit."""
    limits = RateLimitTable()
    first, second = (limits.check("a", CORE, 0.0) for _ in (1, 2))
    limits.set(first, secondary(30.0))
    limits.set(second, secondary(20.0))
    with pytest.raises(RateLimitedError):
        limits.check("a", CORE, 29.9)


def test_limits_of_other_replicas_are_merged() -> None:
    """If they have not ended, and end later than those known."""
    limits = RateLimitTable()
    limits.merge("a", (primary(10.0),), 10.0)
    limits.check("a", CORE, 10.0)
    limits.merge("a", (secondary(30.0),), 10.0)
    with pytest.raises(RateLimitedError) as caught:
        limits.check("a", CORE, 10.0)
    assert caught.value.active.limit == secondary(30.0)
    limits.merge("a", (secondary(25.0),), 10.0)
    with pytest.raises(RateLimitedError):
        limits.check("a", CORE, 29.0)


def test_number_of_limits_is_bounded() -> None:
    """The oldest is evicted."""
    limits = RateLimitTable()
    limits.limits.most = limits.strikes.most = 2
    entries = [limits.check(credential, CORE, 0.0) for credential in "abc"]
    for check in entries:
        limits.set(check, secondary(10.0))
    limits.check("a", CORE, 1.0)
    assert [strikes(limits, credential) for credential in "abc"] == [0, 1, 1]
