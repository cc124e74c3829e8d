"""Who must not ask GitHub now."""

from __future__ import annotations

import pytest

from ghmirror_tw import stops as stops_module
from ghmirror_tw.answers import Answer, Whole
from ghmirror_tw.policy.cache_status import Outcome
from ghmirror_tw.policy.fields import Fields
from ghmirror_tw.policy.limits import Limit, LimitKind
from ghmirror_tw.stops import Stopped, Stops

SAID = Answer(429, Fields(((b"x", b"y"),)), Outcome.PASS, Whole(b"{}"), asked=429)


def primary(until: float, bucket: str = "core") -> Limit:
    return Limit(LimitKind.PRIMARY, bucket, until)


def secondary(until: float) -> Limit:
    return Limit(LimitKind.SECONDARY, "", until)


def met(stops: Stops, limit: Limit, *, bucket: str = "core", now: float = 0.0) -> None:
    """Have somebody ask, and be told of a limit."""
    entry = stops.enter("a", bucket, now)
    stops.left(entry)
    stops.met(entry, limit, SAID)


def strikes(stops: Stops, credential: str = "a") -> int:
    return stops.enter(credential, "another", 1e9).strikes


def test_a_primary_limit_stops_one_bucket_of_one_credential() -> None:
    """Until its end; other buckets and other credentials go on."""
    stops = Stops()
    met(stops, primary(10.0))
    with pytest.raises(Stopped):
        stops.enter("a", "core", 9.9)
    stops.enter("a", "search", 9.9)
    stops.enter("b", "core", 9.9)
    assert stops.is_unsettled("a", "core")
    assert not stops.is_unsettled("a", "search")
    stops.enter("a", "core", 10.0)


def test_a_secondary_limit_stops_a_credential() -> None:
    """Whatever it asks for."""
    stops = Stops()
    met(stops, secondary(10.0), bucket="search")
    for bucket in ("core", "search", ""):
        with pytest.raises(Stopped):
            stops.enter("a", bucket, 9.9)
    stops.enter("b", "core", 9.9)


def test_githubs_own_words_are_said_again() -> None:
    """With the time that is left, a second at least."""
    stops = Stops()
    met(stops, primary(10.0))
    stop = stops.now_stopped("a", "core", 9.0)
    assert stop is not None
    for now, left in ((1.5, b"9"), (9.9, b"1"), (11.0, b"1")):
        again = stop.again(now)
        assert (again.status, again.body, again.fields.get(b"x")) == (429, SAID.body, b"y")
        assert again.fields.get(b"retry-after") == left
        assert (again.outcome, again.asked, again.detail) == (Outcome.ERROR, None, "primary-limit")


def test_after_the_end_one_tries() -> None:
    """The others wait for what comes of it: a good answer, another limit, or none."""
    stops = Stops()
    met(stops, primary(10.0))
    trial = stops.enter("a", "core", 10.0)
    with pytest.raises(Stopped):
        stops.enter("a", "core", 10.1)
    stops.left(trial)
    trial = stops.enter("a", "core", 10.2)
    stops.left(trial)
    stops.met(trial, primary(20.0), SAID)
    with pytest.raises(Stopped):
        stops.enter("a", "core", 19.9)
    trial = stops.enter("a", "core", 20.0)
    stops.left(trial)
    stops.passed(trial)
    assert stops.enter("a", "core", 20.1).over == ()
    stops.enter("a", "core", 20.1)


def test_an_answer_from_before_a_limit_does_not_end_it() -> None:
    """Its question was put when nobody knew; nor does it end the strikes."""
    stops = Stops()
    early = stops.enter("a", "core", 0.0)
    met(stops, secondary(10.0))
    stops.left(early)
    stops.passed(early)
    with pytest.raises(Stopped):
        stops.enter("a", "core", 9.9)
    assert strikes(stops) == 1


def test_strikes_are_counted_in_a_row() -> None:
    """Only of secondary limits; many in flight are one; something that is answered ends it."""
    stops = Stops()
    for number in (1, 2, 3):
        entry = stops.enter("a", "core", 100.0 * number)
        stops.left(entry)
        stops.met(entry, secondary(100.0 * number + 10), SAID)
        trial = stops.enter("a", "core", 100.0 * number + 20)
        stops.left(trial)
        assert trial.strikes == number
    stops.passed(trial)
    assert strikes(stops) == 0
    first, second = (stops.enter("c", "core", 0.0) for _ in (1, 2))
    for entry in (first, second):
        stops.met(entry, secondary(10.0), SAID)
    assert strikes(stops, "c") == 1


def test_a_later_end_is_kept() -> None:
    """Of two answers that tell of a limit."""
    stops = Stops()
    first, second = (stops.enter("a", "core", 0.0) for _ in (1, 2))
    stops.met(first, secondary(30.0), SAID)
    stops.met(second, secondary(20.0), SAID)
    with pytest.raises(Stopped):
        stops.enter("a", "core", 29.9)


def test_what_others_have_met_counts_too() -> None:
    """If it is not over, and later than what is known; the words are made here."""
    stops = Stops()
    stops.told("a", primary(10.0), 10.0)
    stops.enter("a", "core", 10.0)
    stops.told("a", secondary(30.0), 10.0)
    with pytest.raises(Stopped) as caught:
        stops.enter("a", "core", 10.0)
    answer = caught.value.stop.again(10.0)
    assert answer.status == 403
    assert isinstance(answer.body, Whole)
    assert b"secondary rate limit" in answer.body.content
    stops.told("a", secondary(25.0), 10.0)
    with pytest.raises(Stopped):
        stops.enter("a", "core", 29.0)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes first."""
    monkeypatch.setattr(stops_module, "_MOST", 2)
    stops = Stops()
    entries = [stops.enter(credential, "core", 0.0) for credential in "abc"]
    for entry in entries:
        stops.met(entry, secondary(10.0), SAID)
    stops.enter("a", "core", 1.0)
    assert [strikes(stops, credential) for credential in "abc"] == [0, 1, 1]
