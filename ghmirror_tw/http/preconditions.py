"""Evaluation of a client's preconditions (RFC 9110, section 13)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from ghmirror_tw.http.entity_tags import if_none_match_matches
from ghmirror_tw.http.fields import Fields

#: The preconditions that the mirror evaluates, and does not forward.
PRECONDITIONS: Final = frozenset({b"if-none-match", b"if-modified-since"})
_MONTHS: Final = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_SHORT: Final = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG: Final = rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH: Final = rb"(?P<month>%s)" % b"|".join(_MONTHS)
_TIME: Final = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"

#: IMF-fixdate, rfc850-date and asctime-date (RFC 9110, section 5.6.7).
_DATES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rb"%s, (?P<day>\d\d) %s (?P<year>\d{4}) %s GMT" % (_SHORT, _MONTH, _TIME),
        rb"%s, (?P<day>\d\d)-%s-(?P<year>\d\d) %s GMT" % (_LONG, _MONTH, _TIME),
        rb"%s %s (?P<day>\d\d| \d) %s (?P<year>\d{4})" % (_SHORT, _MONTH, _TIME),
    )
)

#: Two-digit years from here on belong to the twentieth century, as in POSIX.
_PIVOT: Final = 69


def parse_http_date(value: bytes) -> int | None:
    """Return an HTTP-date in seconds since the epoch, or None if invalid.

    All three formats of RFC 9110, section 5.6.7, are parsed. A year of two digits is one of 1969 to
    2068, as in POSIX. That needs no clock, and agrees with the RFC for every change at GitHub.
    """
    for pattern in _DATES:
        found = pattern.fullmatch(value)
        if found is not None:
            break
    else:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:  # noqa: PLR2004
        year += 1900 if year >= _PIVOT else 2000
    month = _MONTHS.index(found["month"]) + 1
    day, hour, minute, second = (int(found[n]) for n in ("day", "hour", "minute", "second"))
    leap = second == 60  # noqa: PLR2004
    try:
        moment = datetime(year, month, day, hour, minute, second - leap, tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp()) + leap


def is_not_modified(fields: Fields, etag: bytes | None, last_modified: bytes | None) -> bool:
    """Return whether the response to a GET or HEAD with *fields* is 304 (RFC 9110, section 13.2.2).

    *etag* and *last_modified* are those of the current representation. `If-None-Match`, all its
    lines as one list, takes precedence. `If-Modified-Since` counts only as a single valid date, and
    only if the representation has a date, too (section 13.1.3).
    """
    if_none_match = fields.combined(b"if-none-match")
    if if_none_match is not None:
        return if_none_match_matches(if_none_match, etag)
    if last_modified is None:
        return False
    since = fields.get_all(b"if-modified-since")
    if len(since) != 1:
        return False
    client, current = parse_http_date(since[0]), parse_http_date(last_modified)
    return client is not None and current is not None and current <= client
