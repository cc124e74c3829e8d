"""Evaluation of preconditions (RFC 9110, section 13.2.2)."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.preconditions import PRECONDITIONS, is_not_modified, parse_http_date

MODIFIED = b"Sun, 06 Nov 1994 08:49:37 GMT"
LATER = b"Sun, 06 Nov 1994 08:49:38 GMT"
EARLIER = b"Sun, 06 Nov 1994 08:49:36 GMT"

moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)


def expected(*lines: tuple[bytes, bytes]) -> Fields:
    return Fields(lines)


@pytest.mark.parametrize(
    "value",
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
    ],
)
def test_the_three_formats_of_a_date(value: bytes) -> None:
    """The three examples of RFC 9110, section 5.6.7, are one moment."""
    assert parse_http_date(value) == 784111777


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"784111777",
        b"1994-11-06T08:49:37Z",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 +0000",
        b"sun, 06 nov 1994 08:49:37 gmt",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:00:00 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT\n",
    ],
)
def test_invalid_dates(value: bytes) -> None:
    """Anything but the three formats, and any date that never was, is no date."""
    assert parse_http_date(value) is None


def test_a_leap_second_is_a_second() -> None:
    """The sixtieth second of a minute is the first of the next."""
    assert parse_http_date(b"Sat, 31 Dec 2016 23:59:60 GMT") == parse_http_date(
        b"Sun, 01 Jan 2017 00:00:00 GMT"
    )


def test_two_digit_years_span_1969_to_2068() -> None:
    """A year of two digits is read as POSIX reads it."""
    assert parse_http_date(b"Sunday, 01-Jan-68 00:00:00 GMT") == parse_http_date(
        b"Sun, 01 Jan 2068 00:00:00 GMT"
    )
    assert parse_http_date(b"Sunday, 01-Jan-69 00:00:00 GMT") == parse_http_date(
        b"Sun, 01 Jan 1969 00:00:00 GMT"
    )


@given(moments)
def test_dates_are_parsed(moment: datetime) -> None:
    """IMF-fixdate and asctime-date name the moment they were made of."""
    seconds = int(moment.timestamp())
    year = moment.strftime("%Y").zfill(4)
    assert parse_http_date(moment.strftime(f"%a, %d %b {year} %H:%M:%S GMT").encode()) == seconds
    assert parse_http_date(moment.strftime(f"%a %b %e %H:%M:%S {year}").encode()) == seconds


@given(st.binary(max_size=40))
def test_any_bytes_are_a_date_or_none(value: bytes) -> None:
    """No value makes the parser fail."""
    assert parse_http_date(value) is None


def test_without_preconditions_content_is_sent() -> None:
    """A request without a precondition does not get a 304."""
    assert not is_not_modified(expected(), b'"a"', MODIFIED)


def test_if_none_match_decides_by_weak_comparison() -> None:
    """A weak tag matches the strong one, in a list too."""
    assert is_not_modified(expected((b"If-None-Match", b'"x", W/"a"')), b'"a"', None)
    assert not is_not_modified(expected((b"If-None-Match", b'"b"')), b'"a"', None)


def test_repeated_if_none_match_is_one_list() -> None:
    """A tag on a second line counts like one on the first."""
    assert is_not_modified(
        expected((b"If-None-Match", b'"b"'), (b"If-None-Match", b'"a"')), b'"a"', None
    )


@pytest.mark.parametrize("value", [b'"b"', b"", b"malformed"])
def test_if_none_match_wins_over_if_modified_since(value: bytes) -> None:
    """With `If-None-Match`, matching or not, a date is not even looked at."""
    fields = expected((b"If-Modified-Since", LATER), (b"If-None-Match", value))
    assert not is_not_modified(fields, b'"a"', MODIFIED)
    matching = expected((b"If-Modified-Since", EARLIER), (b"If-None-Match", b'"a"'))
    assert is_not_modified(matching, b'"a"', MODIFIED)


@pytest.mark.parametrize(
    ("since", "unchanged"), [(EARLIER, False), (MODIFIED, True), (LATER, True), (b"today", False)]
)
def test_if_modified_since_compares_dates(since: bytes, unchanged: bool) -> None:
    """Unmodified since its own date or a later one; invalid dates do not count."""
    assert is_not_modified(expected((b"If-Modified-Since", since)), b'"a"', MODIFIED) is unchanged


def test_if_modified_since_needs_one_date_on_each_side() -> None:
    """Two dates of the client's, none of GitHub's or an invalid one, decide nothing."""
    once, twice = expected((b"If-Modified-Since", LATER)), [(b"If-Modified-Since", LATER)] * 2
    assert not is_not_modified(expected(*twice), None, MODIFIED)
    assert not is_not_modified(once, None, None)
    assert not is_not_modified(once, None, b"yesterday")


@given(moments, moments)
def test_if_modified_since_is_an_order(modified: datetime, since: datetime) -> None:
    """The response is 304 exactly if the representation is no newer than the date."""
    last_modified, date = (
        m.strftime(f"%a, %d %b {m.year:04} %H:%M:%S GMT").encode() for m in (modified, since)
    )
    fields = expected((b"If-Modified-Since", date))
    assert is_not_modified(fields, None, last_modified) is (modified <= since)


def test_the_evaluated_preconditions() -> None:
    """Only these two are not forwarded."""
    assert {b"if-none-match", b"if-modified-since"} == PRECONDITIONS
