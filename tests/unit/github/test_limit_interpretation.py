"""The interpretation of 403 and 429."""

from __future__ import annotations

import json
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.github.limit_interpretation import Interpretation, interpretation_of
from ghmirror_tw.github.reported_limit import (
    CONTENT_CREATION,
    EVERYTHING,
    LONGEST_S,
    Limit,
    LimitKind,
)
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request

NOW = 1_800_000_000.0


NOTHING_LEFT = (b"x-ratelimit-remaining", b"0")


SENTENCE = b'{"message": "You have exceeded a secondary rate limit. Please wait."}'


ABUSE = b'{"message": "You have triggered an abuse detection mechanism."}'


CREATION = (
    b'{"message": "You have exceeded a secondary rate limit and have been temporarily blocked from '
    b'content creation. Please retry your request again later."}'
)


LOGIN = b'{"message": "Maximum number of login attempts exceeded. Please try again later."}'


PRIMARY = b'{"message": "API rate limit exceeded for installation ID 1. If you reach out..."}'


ALREADY = b'{"message": "API rate limit already exceeded for user ID 1."}'


REFUSAL = b'{"message": "Resource not accessible by integration", "status": "403"}'


SAML = b'{"message": "Resource protected by organization SAML enforcement. You must grant ..."}'


UNKNOWN = b'{"message": "The moon is in the wrong house"}'


SEARCH = (b"x-ratelimit-resource", b"search")


def reset(value: float) -> tuple[bytes, bytes]:
    return (b"x-ratelimit-reset", b"%d" % value)


def retry_after(value: bytes) -> tuple[bytes, bytes]:
    return (b"retry-after", value)


def date(at: float) -> bytes:
    return formatdate(at, usegmt=True).encode()


def meant(
    status: int,
    *lines: tuple[bytes, bytes],
    content: bytes = b"",
    strikes: int = 0,
    target: bytes = b"/repos/o/r?x",
) -> Interpretation:
    request = Request(b"GET", target, Fields())
    return interpretation_of(request, status, Fields(lines), content, NOW, strikes)


def met(
    status: int,
    *lines: tuple[bytes, bytes],
    content: bytes = b"",
    strikes: int = 0,
    target: bytes = b"/repos/o/r?x",
) -> tuple[LimitKind, str, float] | None:
    """Return what limit was met and stops other requests: its kind, its scope, its seconds."""
    limit = meant(status, *lines, content=content, strikes=strikes, target=target).limit
    return None if limit is None else (limit.kind, limit.scope, limit.until - NOW)


def primary(seconds: float, bucket: str = "core") -> tuple[LimitKind, str, float]:
    return LimitKind.PRIMARY, bucket, seconds


def secondary(seconds: float, scope: str = EVERYTHING) -> tuple[LimitKind, str, float]:
    return LimitKind.SECONDARY, scope, seconds


@pytest.mark.parametrize("status", [200, 304, 401, 404, 422, 500, 503])
def test_only_403_and_429_report_limits(status: int) -> None:
    """A relayed count, a `Retry-After` of a 503, and GraphQL's 200 do not."""
    lines = (NOTHING_LEFT, reset(NOW + 60), retry_after(b"60"))
    graphql = b'{"errors":[{"type":"RATE_LIMITED"}]}'
    assert met(status, *lines, content=SENTENCE + graphql) is None
    assert not meant(status, *lines, content=REFUSAL).refuses


@pytest.mark.parametrize("status", [403, 429])
def test_a_primary_limit_ends_at_its_reset(status: int) -> None:
    """The reset precedes `Retry-After`; without both the limit lasts a minute."""
    lines = NOTHING_LEFT, retry_after(b"5")
    assert met(status, *lines, reset(NOW + 1800), content=PRIMARY) == primary(1800)
    assert met(status, *lines, content=ALREADY) == primary(5)
    assert met(status, NOTHING_LEFT) == primary(60)
    assert met(status, NOTHING_LEFT, reset(NOW + 1800)) == primary(1800)


def test_a_primary_limit_stops_one_resource() -> None:
    """The response names the resource; otherwise the path does."""
    assert met(403, NOTHING_LEFT, SEARCH) == primary(60, "search")
    assert met(403, NOTHING_LEFT, target=b"/search/code?q=x") == primary(60, "code_search")
    for word in (b"", b"Core\xff", b"x" * 65):
        assert met(403, NOTHING_LEFT, (b"x-ratelimit-resource", word)) == primary(60)


def test_a_reset_refers_to_the_date_of_the_response() -> None:
    """Where our clock is an hour ahead, GitHub's limit would seem to be over; it isn't."""
    theirs = NOW - 3600
    lines = (NOTHING_LEFT, (b"date", date(theirs)), reset(theirs + 600))
    assert met(403, *lines) == primary(600)
    assert met(403, (b"date", date(theirs)), retry_after(date(theirs + 90))) == secondary(90)


@pytest.mark.parametrize("value", [b"", b"-1", b"1e3", b"soon", b"9" * 16, b"0", b"1700000000"])
def test_an_invalid_reset_is_ignored(value: bytes) -> None:
    """So is a reset in the past."""
    assert met(403, NOTHING_LEFT, (b"x-ratelimit-reset", value)) == primary(60)


def test_the_duration_of_a_limit_is_bounded() -> None:
    """Decades are an hour, and nothing is a second."""
    assert met(403, NOTHING_LEFT, reset(NOW + 1e9)) == primary(LONGEST_S)
    assert met(429, retry_after(b"999999999999")) == secondary(LONGEST_S)
    assert met(429, retry_after(b"0")) == secondary(1)


@pytest.mark.parametrize("content", [SENTENCE, ABUSE, b"<p>" + ABUSE.upper() + b"</p>"])
def test_a_secondary_limit_is_known_by_its_sentence(content: bytes) -> None:
    """It lasts as long as `Retry-After`, even with an empty quota."""
    assert met(403, content=content) == secondary(60)
    assert met(403, retry_after(b"7"), content=content) == secondary(7)
    lines = (NOTHING_LEFT, reset(NOW + 1800), retry_after(b"7"))
    assert met(429, *lines, content=content) == secondary(7)


def test_a_secondary_limit_is_known_by_its_documentation() -> None:
    """In the way of clients, with any wording."""
    url = b'{"message": "Slow down", "documentation_url": "https://docs.github.com/x#%s"}'
    for end in (b"about-secondary-rate-limits", b"abuse-rate-limits"):
        assert met(403, content=url % end) == secondary(60)
    assert meant(403, content=url % b"errors").refuses


def test_a_secondary_limit_has_a_scope() -> None:
    """Creation of content, else the resource in the response, else the credential."""
    assert met(403, SEARCH, content=CREATION) == secondary(60, CONTENT_CREATION)
    assert met(403, SEARCH, content=SENTENCE) == secondary(60, "search")
    assert met(429, SEARCH) == secondary(60, "search")
    assert met(403, content=SENTENCE, target=b"/search/issues") == secondary(60)
    upload = (b"x-ratelimit-resource", b"code_scanning_upload")
    assert met(403, upload, content=SENTENCE) == secondary(60, "core")
    assert met(403, SEARCH, content=LOGIN) == secondary(60)


@pytest.mark.parametrize("left", [[], [(b"x-ratelimit-remaining", b"4999"), reset(NOW + 1800)]])
def test_a_limit_is_known_by_its_message(left: list[tuple[bytes, bytes]]) -> None:
    """The reset of a quota that is not empty does not count."""
    for content in (PRIMARY, ALREADY):
        assert met(403, *left, content=content) == primary(60)
        assert met(403, *left, content=content, strikes=2) == primary(240)
        assert not meant(403, *left, content=content).refuses
    assert met(403, *left, content=LOGIN) == secondary(60)


@pytest.mark.parametrize("content", [REFUSAL, SAML, UNKNOWN])
def test_a_refusal_with_an_empty_quota_is_both(content: bytes) -> None:
    """It refuses, and the quota is used up; its words are sent for nothing else."""
    lines = NOTHING_LEFT, reset(NOW + 1800), (b"x-ratelimit-limit", b"5000")
    assert meant(403, content=content) == Interpretation(None, refuses=True)
    meaning = meant(403, *lines, content=content)
    assert meaning.refuses
    assert met(403, *lines, content=content) == primary(1800)
    assert meaning.limit is not None
    _, fields, words = meaning.limit.response(NOW)
    assert fields.get(b"x-ratelimit-limit") == b"5000"
    assert json.loads(words)["message"] == "API rate limit exceeded"


def test_a_refusal_is_known_by_its_message() -> None:
    """GitHub's known words count for more than `Retry-After`; other words do not."""
    assert meant(403, retry_after(b"9"), content=REFUSAL) == Interpretation(None, refuses=True)
    assert met(403, retry_after(b"9"), content=UNKNOWN) == secondary(9)
    assert met(403, NOTHING_LEFT, retry_after(b"9")) == secondary(9)


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b'{"message": 1}', b"{", b"\xff", b'{"message": ""}', b"[" * 50_000]
)
def test_content_without_a_message_decides_nothing(content: bytes) -> None:
    """The fields have to do."""
    assert met(403, NOTHING_LEFT, content=content) == primary(60)
    assert meant(403, content=content) == Interpretation(None, refuses=True)


def test_a_secondary_limit_is_known_by_retry_after() -> None:
    """As seconds or as a date; a 429 needs neither."""
    assert met(403, retry_after(b"30")) == secondary(30)
    assert met(403, retry_after(date(NOW + 90))) == secondary(90)
    assert met(403, retry_after(b"Wed, 15 Jan 2027 08:01:30")) == secondary(90)
    assert met(429) == secondary(60)
    assert met(403) is None
    assert met(403, (b"x-ratelimit-remaining", b"17")) is None


@pytest.mark.parametrize(
    "value", [b"soon", b"-5", b"", b"1.5", b"\xff", date(NOW - 5), b"Wed, 99 Foo 2027 99:99:99 GMT"]
)
def test_an_invalid_retry_after_is_ignored(value: bytes) -> None:
    """That it is there still means that there is a limit."""
    assert met(403, retry_after(value)) == secondary(60)


def test_a_limit_without_a_hint_doubles() -> None:
    """With each consecutive limit, up to an hour; a hint of GitHub takes precedence."""
    waits = [limit[2] for n in range(9) if (limit := met(429, strikes=n))]
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert met(429, retry_after(b"9"), strikes=5) == secondary(9)
    assert met(429, strikes=-3) == secondary(60)


def test_the_repeated_response() -> None:
    """GitHub's own status, words and fields of limits; `Retry-After` is counted down."""
    lines = NOTHING_LEFT, reset(NOW + 90), (b"content-type", b"application/json")
    limit = meant(429, *lines, (b"date", b"now"), retry_after(b"90"), content=SENTENCE).limit
    assert limit is not None
    status, fields, content = limit.response(NOW + 30.5)
    assert (status, content) == (429, SENTENCE)
    assert dict(fields) == dict(lines) | {b"retry-after": b"60"}
    assert limit.response(NOW + 100)[1].get(b"retry-after") == b"1"


def test_retry_after_is_repeated_only_if_github_sent_it() -> None:
    """On a primary limit, clients would sleep for an hour that would have failed at once."""
    for content in (PRIMARY, SENTENCE, b""):
        limit = meant(403, NOTHING_LEFT, reset(NOW + 90), content=content).limit
        assert limit is not None
        assert limit.response(NOW)[1].get(b"retry-after") is None


@pytest.mark.parametrize(
    ("limit", "message", "url"),
    [
        (Limit(LimitKind.PRIMARY, "core", NOW), "API rate limit exceeded", "for-the-rest-api"),
        (
            Limit(LimitKind.SECONDARY, "", NOW),
            "secondary rate limit",
            "#about-secondary-rate-limits",
        ),
        (
            Limit(LimitKind.SECONDARY, CONTENT_CREATION, NOW, 429),
            "blocked from content creation",
            "#about-secondary-rate-limits",
        ),
    ],
)
def test_the_usual_content_without_content_of_github(limit: Limit, message: str, url: str) -> None:
    """In which clients know the kind: by the message, or the end of the URL."""
    status, fields, content = limit.response(NOW)
    error = json.loads(content)
    assert message in error["message"]
    assert error["documentation_url"].endswith(url)
    assert error["status"] == str(status) == str(limit.status)
    assert fields.get(b"content-type") == b"application/json; charset=utf-8"


def test_long_values_are_not_repeated() -> None:
    """Neither a page nor a field: the record is stored for each limited credential."""
    page = b"<html>" + b" " * 2000 + ABUSE
    limit = meant(403, (b"x-ratelimit-limit", b"5" * 600), content=page).limit
    assert limit is not None
    assert (limit.fields, limit.content) == ((), b"")


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
def test_any_response_has_a_bounded_limit(
    status: int, lines: list[tuple[bytes, bytes]], content: bytes, now: float, strikes: int
) -> None:
    """No response raises an error, has an endless limit, or permits the next request at once."""
    request = Request(b"GET", b"/x", Fields())
    meaning = interpretation_of(request, status, Fields(tuple(lines)), content, now, strikes)
    limit = meaning.limit
    assert (limit is not None or meaning.refuses) is (status in {403, 429})
    if limit is not None:
        assert 1 <= round(limit.until - now, 3) <= LONGEST_S
        assert limit.scope or limit.kind is LimitKind.SECONDARY
        limit.response(now)
