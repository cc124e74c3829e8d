"""Negative responses: a 404, a 410 or a 301 that is repeated for a short time.

RFC 9111, section 4.2.2, allows a cache to repeat them, as it allows for a 200. Here the condition
is stricter, and that of a fresh response (see `epochs`): GitHub sent the response to this very
credential, which has not written since, and no later response shows anything else.
"""

from __future__ import annotations

from typing import Final

from ghmirror_tw.caching.records import Known
from ghmirror_tw.caching.storability import SHORT_LIVED
from ghmirror_tw.caching.vary import fields_beyond_key
from ghmirror_tw.http.fields import CONTENT_FIELDS, Fields

#: Longer content is not repeated, in bytes: GitHub's is a few hundred.
MOST_CONTENT_BYTES: Final = 16 * 1024
_STATUSES: Final = frozenset({301, 404, 410})
_CODINGS: Final = frozenset({b"", b"gzip"})
#: Fields with URLs. A URL with a token is a credential, and no credential is stored.
_URL_FIELDS: Final = (b"location", b"link")
#: The fields that are repeated. Those of a quota and of one request are not.
_REPEATED_FIELDS: Final = CONTENT_FIELDS | {
    *_URL_FIELDS,
    *(b"x-oauth-scopes", b"x-github-sso", b"x-poll-interval"),
}


def is_repeatable(status: int, fields: Fields, content: bytes, coding: bytes) -> bool:
    """Return whether a response of GitHub may be repeated: one without a validator.

    What has a validator could be validated, and GitHub sends none with these.
    """
    return (
        status in _STATUSES
        and len(content) <= MOST_CONTENT_BYTES
        and coding in _CODINGS
        and fields.get(b"etag") is None
        and fields.get(b"last-modified") is None
        and b"no-store" not in fields.listed(b"cache-control")
        and b"*" not in fields.listed(b"vary")
        and not fields_beyond_key(fields)
        and not any(SHORT_LIVED.search(fields.combined(name) or b"") for name in _URL_FIELDS)
    )


def repeated_fields(fields: Fields) -> Fields:
    """Return those of the *fields* of a response that are repeated with it."""
    return fields.end_to_end().only(_REPEATED_FIELDS)


def found_by_others(known: Known) -> tuple[tuple[str, float], ...]:
    """Return the 200s of the key that the recency list shows, each by its digest and its time."""
    return tuple([(entry.digest, entry.received_at) for entry in known.entries])


def may_repeat(known: Known, now: float, negative_for_s: float, *, validate: bool) -> bool:
    """Return whether the stored negative response may be repeated to the credential.

    It may for *negative_for_s* after it was received, under the epoch of that time, and while the
    recency list shows no 200 that was not known then. A list that Redis has evicted shows none: the
    response is GitHub's own to this credential, and ends with its time. *validate*: the request
    wants a validation.
    Times of other replicas are compared for equality only, since clocks differ.
    """
    negative = known.negative
    if negative is None or validate or negative.epoch != known.epoch:
        return False
    if not 0.0 <= now - negative.received_at < negative_for_s:
        return False
    return set(found_by_others(known)) <= set(negative.found)
