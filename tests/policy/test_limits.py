"""What a 403 or 429 says: which limit, of what, until when."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.policy.fields import Fields
from ghmirror_tw.policy.limits import (
    LONGEST_S,
    Limit,
    LimitKind,
    bucket_of,
    is_rate_limit,
    limit_of,
)
from ghmirror_tw.policy.messages import Question
from ghmirror_tw.policy.storing import refuses

NOW = 1_800_000_000.0
NOTHING_LEFT = (b"x-ratelimit-remaining", b"0")
SENTENCE = b'{"message": "You have exceeded a secondary rate limit. Please wait."}'
ABUSE = b'{"message": "You have triggered an abuse detection mechanism."}'


def reset(value: float) -> tuple[bytes, bytes]:
    return (b"x-ratelimit-reset", b"%d" % value)


def retry_after(value: bytes) -> tuple[bytes, bytes]:
    return (b"retry-after", value)


def date(at: float) -> bytes:
    return formatdate(at, usegmt=True).encode()


def met(
    status: int,
    *lines: tuple[bytes, bytes],
    content: bytes = b"",
    strikes: int = 0,
    target: bytes = b"/repos/o/r?x",
) -> Limit | None:
    question = Question(b"GET", target, Fields())
    return limit_of(question, status, Fields(lines), content, NOW, strikes)


def primary(seconds: float, bucket: str = "core") -> Limit:
    return Limit(LimitKind.PRIMARY, bucket, NOW + seconds)


def secondary(seconds: float) -> Limit:
    return Limit(LimitKind.SECONDARY, "", NOW + seconds)


@pytest.mark.parametrize(
    ("method", "path", "bucket"),
    [
        (b"GET", b"/repos/o/r", "core"),
        (b"GET", b"/", "core"),
        (b"GET", b"/search/code", "code_search"),
        (b"HEAD", b"/search/code/", "code_search"),
        (b"GET", b"/search/codes", "search"),
        (b"GET", b"/search/issues", "search"),
        (b"GET", b"/searching", "core"),
        (b"POST", b"/graphql", "graphql"),
        (b"POST", b"/app-manifests/c0de/conversions", "integration_manifest"),
        (b"POST", b"/repos/o/r/code-scanning/sarifs", "code_scanning_upload"),
        (b"GET", b"/repos/o/r/code-scanning/sarifs", "core"),
        (b"POST", b"/repos/o/r/actions/runners/registration-token", "actions_runner_registration"),
        (b"POST", b"/orgs/o/actions/runners/registration-token", "actions_runner_registration"),
        (b"GET", b"/orgs/o/actions/runners", "core"),
        (b"GET", b"/scim/v2/organizations/o/Users", "scim"),
        (b"POST", b"/repos/o/r/dependency-graph/snapshots", "dependency_snapshots"),
        (b"GET", b"/enterprises/e/audit-log", "audit_log"),
        (b"GET", b"/orgs/o/audit-log", "audit_log"),
        (b"GET", b"/repos/search/code", "core"),
    ],
)
def test_what_counts_to_what(method: bytes, path: bytes, bucket: str) -> None:
    """Each of GitHub's resources is known by its paths; the rest is core."""
    assert bucket_of(method, path) == bucket


@pytest.mark.parametrize("status", [200, 304, 401, 404, 422, 500, 503])
def test_only_a_403_or_429_means_limited(status: int) -> None:
    """A relayed count, a `Retry-After` of a 503, and GraphQL's 200 do not."""
    lines = (NOTHING_LEFT, reset(NOW + 60), retry_after(b"60"))
    graphql = b'{"errors":[{"type":"RATE_LIMITED"}]}'
    assert met(status, *lines, content=SENTENCE + graphql) is None
    assert not is_rate_limit(status, Fields(lines), SENTENCE)


@pytest.mark.parametrize("status", [403, 429])
def test_a_primary_limit_ends_at_its_reset(status: int) -> None:
    """Whatever `Retry-After` says; it says so where there is no reset, else it's a minute."""
    assert met(status, NOTHING_LEFT, reset(NOW + 1800), retry_after(b"5")) == primary(1800)
    assert met(status, NOTHING_LEFT, retry_after(b"5")) == primary(5)
    assert met(status, NOTHING_LEFT) == primary(60)


def test_a_primary_limit_stops_one_resource() -> None:
    """The answer says which; where it doesn't, or makes no sense, the path does."""
    named = (b"x-ratelimit-resource", b"search")
    assert met(403, NOTHING_LEFT, named) == primary(60, "search")
    assert met(403, NOTHING_LEFT, target=b"/search/code?q=x") == primary(60, "code_search")
    for word in (b"", b"Core\xff", b"x" * 65):
        assert met(403, NOTHING_LEFT, (b"x-ratelimit-resource", word)) == primary(60)


def test_a_reset_goes_by_the_clock_of_the_answer() -> None:
    """Where our clock is an hour ahead, GitHub's limit would seem to be over; it isn't."""
    theirs = NOW - 3600
    lines = (NOTHING_LEFT, (b"date", date(theirs)), reset(theirs + 600))
    assert met(403, *lines) == primary(600)
    assert met(403, (b"date", date(theirs)), retry_after(date(theirs + 90))) == secondary(90)


@pytest.mark.parametrize("value", [b"", b"-1", b"1e3", b"soon", b"9" * 16, b"0", b"1700000000"])
def test_a_reset_that_makes_no_sense_is_none(value: bytes) -> None:
    """What is no number, or past, counts as not said."""
    assert met(403, NOTHING_LEFT, (b"x-ratelimit-reset", value)) == primary(60)


def test_no_limit_lasts_for_ever_or_no_time_at_all() -> None:
    """Decades are an hour, and nothing is a second."""
    assert met(403, NOTHING_LEFT, reset(NOW + 1e9)) == primary(LONGEST_S)
    assert met(429, retry_after(b"999999999999")) == secondary(LONGEST_S)
    assert met(429, retry_after(b"0")) == secondary(1)


@pytest.mark.parametrize("content", [SENTENCE, ABUSE, SENTENCE.upper()])
def test_a_secondary_limit_is_known_by_its_sentence(content: bytes) -> None:
    """It stops all resources, for as long as `Retry-After` says, even with nothing left."""
    assert met(403, content=content) == secondary(60)
    assert met(403, retry_after(b"7"), content=content) == secondary(7)
    lines = (NOTHING_LEFT, reset(NOW + 1800), retry_after(b"7"))
    assert met(429, *lines, content=content) == secondary(7)


def test_a_secondary_limit_is_known_by_when_to_come_again() -> None:
    """`Retry-After` alone says it, as seconds or as a date; a 429 says it by itself."""
    assert met(403, retry_after(b"30")) == secondary(30)
    assert met(403, retry_after(date(NOW + 90))) == secondary(90)
    assert met(403, retry_after(b"Wed, 15 Jan 2027 08:01:30")) == secondary(90)
    assert met(429) == secondary(60)
    assert met(403) is None
    assert met(403, (b"x-ratelimit-remaining", b"17")) is None


@pytest.mark.parametrize(
    "value", [b"soon", b"-5", b"", b"1.5", b"\xff", date(NOW - 5), b"Wed, 99 Foo 2027 99:99:99 GMT"]
)
def test_a_retry_after_that_makes_no_sense_is_none(value: bytes) -> None:
    """That it is there still means that there is a limit."""
    assert met(403, retry_after(value)) == secondary(60)


def test_what_is_not_said_doubles() -> None:
    """With each strike in a row, to an hour at most; what is said is believed."""
    waits = [limit.until - NOW for n in range(9) if (limit := met(429, strikes=n))]
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert met(429, retry_after(b"9"), strikes=5) == secondary(9)
    assert met(429, strikes=-3) == secondary(60)


def test_what_is_limited_is_not_refused() -> None:
    """A refusal is what is no limit; the two never meet."""
    for content in (b"", SENTENCE, b"Must have admin rights"):
        for lines in ((), (NOTHING_LEFT,), (retry_after(b"1"),)):
            limited = met(403, *lines, content=content) is not None
            assert (refuses(403, Fields(lines), content) is None) is limited


def test_kinds_are_reasons() -> None:
    """As stale answers give them."""
    assert [kind.reason for kind in LimitKind] == ["primary-limit", "secondary-limit"]


NAMES = (b"x-ratelimit-remaining", b"x-ratelimit-reset", b"x-ratelimit-resource", b"retry-after")
VALUES = st.one_of(
    st.binary(max_size=40),
    st.integers(-(10**20), 10**20).map(lambda number: b"%d" % number),
    st.floats().map(lambda number: str(number).encode()),
    st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT").encode()),
)
LINES = st.lists(st.tuples(st.sampled_from((*NAMES, b"date")), VALUES), max_size=6)


@given(
    status=st.sampled_from([200, 403, 404, 429]),
    lines=LINES,
    content=st.one_of(st.binary(max_size=50), st.just(SENTENCE)),
    now=st.floats(0, 4e9),
    strikes=st.integers(-(10**9), 10**9),
)
def test_whatever_comes_is_bounded(
    status: int, lines: list[tuple[bytes, bytes]], content: bytes, now: float, strikes: int
) -> None:
    """No answer crashes it, stops anything for ever, or lets it ask again at once."""
    question = Question(b"GET", b"/x", Fields())
    limit = limit_of(question, status, Fields(tuple(lines)), content, now, strikes)
    assert (limit is not None) is is_rate_limit(status, Fields(tuple(lines)), content)
    if limit is not None:
        assert status in {403, 429}
        assert 1 <= round(limit.until - now, 3) <= LONGEST_S
        assert (limit.bucket == "") is (limit.kind is LimitKind.SECONDARY)
