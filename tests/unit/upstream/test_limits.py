"""Who must not ask GitHub now."""

from __future__ import annotations

import pytest

from ghmirror_tw.github.rate_limits import CONTENT_CREATION, EVERYTHING, Limit, LimitKind
from ghmirror_tw.http.cache_status import Outcome
from ghmirror_tw.upstream.limits import ActiveLimits, RateLimitedError
from ghmirror_tw.upstream.response import BufferedContent

CORE, SEARCH = (EVERYTHING, "core"), (EVERYTHING, "search")


def primary(until: float, bucket: str = "core") -> Limit:
    return Limit(LimitKind.PRIMARY, bucket, until)


def secondary(until: float) -> Limit:
    return Limit(LimitKind.SECONDARY, "", until)


def met(
    stops: ActiveLimits, limit: Limit, *, scopes: tuple[str, ...] = CORE, now: float = 0.0
) -> None:
    """Have somebody ask, and be told of a limit."""
    entry = stops.enter("a", scopes, now)
    stops.left(entry)
    stops.met(entry, limit)


def strikes(stops: ActiveLimits, credential: str = "a") -> int:
    return stops.enter(credential, ("another",), 1e9).strikes


def test_a_primary_limit_stops_one_bucket_of_one_credential() -> None:
    """Until its end; other buckets and other credentials go on."""
    stops = ActiveLimits()
    met(stops, primary(10.0))
    with pytest.raises(RateLimitedError):
        stops.enter("a", CORE, 9.9)
    stops.enter("a", SEARCH, 9.9)
    stops.enter("b", CORE, 9.9)
    assert stops.is_unsettled("a", CORE)
    assert not stops.is_unsettled("a", SEARCH)
    stops.enter("a", CORE, 10.0)


def test_a_secondary_limit_stops_a_credential() -> None:
    """Whatever it asks for."""
    stops = ActiveLimits()
    met(stops, secondary(10.0), scopes=SEARCH)
    for scopes in (CORE, SEARCH, (EVERYTHING,)):
        with pytest.raises(RateLimitedError):
            stops.enter("a", scopes, 9.9)
    stops.enter("b", CORE, 9.9)


def test_what_creates_content_has_a_limit_of_its_own() -> None:
    """Reading goes on."""
    stops = ActiveLimits()
    met(stops, Limit(LimitKind.SECONDARY, CONTENT_CREATION, 10.0))
    with pytest.raises(RateLimitedError):
        stops.enter("a", (*CORE, CONTENT_CREATION), 9.9)
    stops.enter("a", CORE, 9.9)


def test_githubs_own_words_are_said_again() -> None:
    """With the time that is left, a second at least, where GitHub sent one."""
    stops = ActiveLimits()
    fields = ((b"x-ratelimit-limit", b"y"), (b"retry-after", b"10"))
    met(stops, Limit(LimitKind.PRIMARY, "core", 10.0, 429, fields, b"{}"))
    stop = stops.now_stopped("a", CORE, 9.0)
    assert stop is not None
    for now, left in ((1.5, b"9"), (9.9, b"1"), (11.0, b"1")):
        again = stop.again(now)
        assert (again.status, again.body, again.fields.get(b"x-ratelimit-limit")) == (
            429,
            BufferedContent(b"{}"),
            b"y",
        )
        assert again.fields.get(b"retry-after") == left
        assert (again.outcome, again.asked, again.detail) == (Outcome.ERROR, None, "primary-limit")


def test_after_the_end_one_tries() -> None:
    """The others wait for what comes of it: a good answer, another limit, or none."""
    stops = ActiveLimits()
    met(stops, primary(10.0))
    trial = stops.enter("a", CORE, 10.0)
    with pytest.raises(RateLimitedError):
        stops.enter("a", CORE, 10.1)
    stops.left(trial)
    trial = stops.enter("a", CORE, 10.2)
    stops.left(trial)
    stops.met(trial, primary(20.0))
    with pytest.raises(RateLimitedError):
        stops.enter("a", CORE, 19.9)
    trial = stops.enter("a", CORE, 20.0)
    stops.left(trial)
    stops.passed(trial)
    assert stops.enter("a", CORE, 20.1).over == ()
    stops.enter("a", CORE, 20.1)


def test_an_answer_from_before_a_limit_does_not_end_it() -> None:
    """Its question was put when nobody knew; nor does it end the strikes."""
    stops = ActiveLimits()
    early = stops.enter("a", CORE, 0.0)
    met(stops, secondary(10.0))
    stops.left(early)
    stops.passed(early)
    with pytest.raises(RateLimitedError):
        stops.enter("a", CORE, 9.9)
    assert strikes(stops) == 1


def test_strikes_are_counted_in_a_row() -> None:
    """Only of secondary limits; many in flight are one; something that is answered ends it."""
    stops = ActiveLimits()
    for number in (1, 2, 3):
        entry = stops.enter("a", CORE, 100.0 * number)
        stops.left(entry)
        stops.met(entry, secondary(100.0 * number + 10))
        trial = stops.enter("a", CORE, 100.0 * number + 20)
        stops.left(trial)
        assert trial.strikes == number
    stops.passed(trial)
    assert strikes(stops) == 0
    first, second = (stops.enter("c", CORE, 0.0) for _ in (1, 2))
    for entry in (first, second):
        stops.met(entry, secondary(10.0))
    assert strikes(stops, "c") == 1


def test_a_later_end_is_kept() -> None:
    """Of two answers that tell of a limit."""
    stops = ActiveLimits()
    first, second = (stops.enter("a", CORE, 0.0) for _ in (1, 2))
    stops.met(first, secondary(30.0))
    stops.met(second, secondary(20.0))
    with pytest.raises(RateLimitedError):
        stops.enter("a", CORE, 29.9)


def test_what_others_have_met_counts_too() -> None:
    """If it is not over, and later than what is known; the words are made here."""
    stops = ActiveLimits()
    stops.learned("a", (primary(10.0),), 10.0)
    stops.enter("a", CORE, 10.0)
    stops.learned("a", (secondary(30.0),), 10.0)
    with pytest.raises(RateLimitedError) as caught:
        stops.enter("a", CORE, 10.0)
    answer = caught.value.stop.again(10.0)
    assert answer.status == 403
    assert isinstance(answer.body, BufferedContent)
    assert b"secondary rate limit" in answer.body.content
    stops.learned("a", (secondary(25.0),), 10.0)
    with pytest.raises(RateLimitedError):
        stops.enter("a", CORE, 29.0)


def test_what_is_remembered_is_bounded() -> None:
    """The oldest goes first."""
    stops = ActiveLimits()
    stops._stops.most = stops._strikes.most = 2
    entries = [stops.enter(credential, CORE, 0.0) for credential in "abc"]
    for entry in entries:
        stops.met(entry, secondary(10.0))
    stops.enter("a", CORE, 1.0)
    assert [strikes(stops, credential) for credential in "abc"] == [0, 1, 1]
