"""Interpretation of a 403 or 429: the rate limit that it reports (GitHub: rate limits).

Only these statuses can report a rate limit. The message decides, then `Retry-After`. An empty quota
(`X-RateLimit-Remaining: 0`) decides only without both, since GitHub also refuses requests for other
reasons while the quota is empty.

GraphQL uses the same statuses. It also reports a primary limit in a 200, with an error of the type
``RATE_LIMITED``: that response is forwarded and never stored.
"""

from __future__ import annotations

import json
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from attrs import frozen

from ghmirror_tw.github.rate_limit_resources import named_resource, resource_of
from ghmirror_tw.github.reported_limit import (
    CONTENT_CREATION,
    EVERYTHING,
    LONGEST_S,
    Limit,
    LimitKind,
)
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from ghmirror_tw.runtime.whole_numbers import whole_number

#: Statuses that may report a rate limit.
MAY_BE_LIMITED: Final = frozenset({403, 429})

#: The duration of a limit without a hint from GitHub, in seconds; it doubles each time.
DEFAULT_PAUSE_S: Final = 60.0
_SHORTEST_S: Final = 1.0
_MOST_DOUBLINGS: Final = 6

#: No time is later than this, in seconds.
_MOST_SECONDS: Final = 10**15 - 1
_PRIMARY_MESSAGE: Final = re.compile(r"rate limit (?:already )?exceeded|rate limit reached")
_CONTENT_MESSAGE: Final = "blocked from content creation"
_LOGIN_MESSAGE: Final = "login attempts exceeded"
_SECONDARY_MESSAGES: Final = (
    *("secondary rate limit", "abuse detection", _CONTENT_MESSAGE, _LOGIN_MESSAGE),
)

#: The ends of URLs to the documentation of secondary limits, in old and new responses.
_SECONDARY_ENDS: Final = ("secondary-rate-limits", "abuse-rate-limits")

#: Parts of messages that refuse a request, also where the fields report a rate limit.
_REFUSALS: Final = (
    *("not accessible by", "saml", "must have admin", "bad credentials", "not found"),
    *("forbids access", "ip allow list"),
)

#: Fields of a limited response that are repeated to clients while the limit lasts.
_REPEATED_FIELDS: Final = frozenset(
    {
        *(b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset"),
        *(b"x-ratelimit-used", b"x-ratelimit-resource", b"retry-after", b"content-type"),
        *(b"x-oauth-scopes", b"x-accepted-oauth-scopes", b"x-oauth-client-id"),
        *(b"x-accepted-github-permissions", b"x-github-sso", b"x-github-media-type"),
        b"x-github-api-version-selected",
    }
)

_LONGEST_VALUE: Final = 512
_LONGEST_CONTENT: Final = 1024


@frozen
class Interpretation:
    """The interpretation of a response.

    *refuses*: GitHub refuses this request permanently. With an empty quota it may report a *limit*
    as well: that applies to other requests, and this response is a refusal all the same.
    """

    limit: Limit | None
    refuses: bool


def interpretation_of(  # noqa: PLR0913, PLR0917 - a whole response, and its time
    request: Request, status: int, fields: Fields, content: bytes, now: float, strikes: int
) -> Interpretation:
    """Return whether a response refuses, and which limit it reports.

    *content* is without coding, or its beginning. *strikes* is the number of consecutive limits of
    this credential before this response. Malformed parts count as absent.
    """
    if status not in MAY_BE_LIMITED:
        return Interpretation(None, refuses=False)
    message, documented = _message(content)
    kind, refuses = _kind(status, fields, message, documented=documented)
    if kind is None:
        return Interpretation(None, refuses=refuses)
    pause_s, hinted = _duration(kind, fields, now, strikes)
    scope = _scope(kind, request, fields, message)
    kept = fields.end_to_end().only(_REPEATED_FIELDS)
    repeated_fields = tuple([line for line in kept if len(line[1]) <= _LONGEST_VALUE])
    # The content of a refusal concerns one target, and must not be sent for another.
    repeated = b"" if refuses or not message or len(content) > _LONGEST_CONTENT else content
    limit = Limit(kind, scope, now + pause_s, status, repeated_fields, repeated, hinted)
    return Interpretation(limit, refuses=refuses)


def _message(content: bytes) -> tuple[str, bool]:
    """Return the message in lower case, and whether it is GitHub's: that of an error in JSON.

    Content that is not JSON is the message itself. A URL to the documentation of secondary limits
    counts as part of the message.
    """
    try:
        error = json.loads(content)
        message, url = error["message"].lower(), error.get("documentation_url")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return content.decode("latin-1").lower(), False
    if isinstance(url, str) and url.lower().endswith(_SECONDARY_ENDS):
        return f"{message} (secondary rate limit)", True
    return message, bool(message)


def _kind(
    status: int, fields: Fields, message: str, *, documented: bool
) -> tuple[LimitKind | None, bool]:
    """Return which limit was met, if any, and whether the response is a refusal.

    *documented*: the message is GitHub's own; it refuses unless it names a limit.
    """
    if any(words in message for words in _SECONDARY_MESSAGES):
        return LimitKind.SECONDARY, False
    if _PRIMARY_MESSAGE.search(message):
        return LimitKind.PRIMARY, False
    used_up = LimitKind.PRIMARY if fields.get(b"x-ratelimit-remaining") == b"0" else None
    if status == 403:  # noqa: PLR2004
        retries = fields.get(b"retry-after") is not None
        # Content may be missing (HEAD) or no JSON; a field shows that authorization is missing.
        named = any(words in message for words in _REFUSALS) or _requires_sso(fields)
        if named or (documented and not retries):
            return used_up, True
        if not retries:
            return used_up, used_up is None
        return LimitKind.SECONDARY, False
    return used_up or LimitKind.SECONDARY, False


def _requires_sso(fields: Fields) -> bool:
    """Return whether an organization refuses a credential without single sign-on (GitHub: SAML)."""
    return (fields.get(b"x-github-sso") or b"").startswith(b"required")


def _scope(kind: LimitKind, request: Request, fields: Fields, message: str) -> str:
    """Return the scope of a limit."""
    if kind is LimitKind.PRIMARY:
        return resource_of(request, fields)
    if _CONTENT_MESSAGE in message:
        return CONTENT_CREATION
    if _LOGIN_MESSAGE in message:
        return EVERYTHING
    return named_resource(fields) or EVERYTHING


def _duration(kind: LimitKind, fields: Fields, now: float, strikes: int) -> tuple[float, bool]:
    """Return the duration of a limit in seconds, and whether the response has it.

    `X-RateLimit-Reset` of a quota that is not empty does not concern the limit.
    """
    pause_s = retry_after(fields, now)
    if kind is LimitKind.PRIMARY and fields.get(b"x-ratelimit-remaining") in {b"0", None}:
        reset, sent_at = _seconds(fields.get(b"x-ratelimit-reset")), _sent_at(fields, now)
        if reset is not None and reset > sent_at:
            pause_s = _bounded(reset - sent_at)
    if pause_s is not None:
        return pause_s, True
    return _bounded(DEFAULT_PAUSE_S * 2 ** min(max(strikes, 0), _MOST_DOUBLINGS)), False


def retry_after(fields: Fields, now: float) -> float | None:
    """Return the seconds until a retry (RFC 9110, section 10.2.3), or None.

    At least one second, and at most `LONGEST_S`.
    """
    value = fields.get(b"retry-after")
    seconds = _seconds(value)
    if seconds is not None:
        return _bounded(seconds)
    at, sent_at = _date(value), _sent_at(fields, now)
    return _bounded(at - sent_at) if at is not None and at > sent_at else None


def _sent_at(fields: Fields, now: float) -> float:
    """Return the time of a response by the clock of the sender, if it has `Date`.

    The clock of this machine may be wrong, and other fields refer to the sender's.
    """
    return _date(fields.get(b"date")) or now


def _seconds(value: bytes | None) -> float | None:
    """Return a number of seconds, which has no sign and no fraction."""
    seconds = whole_number(value, _MOST_SECONDS)
    return None if seconds is None else float(seconds)


def _date(value: bytes | None) -> float | None:
    """Return a time as seconds since the epoch (RFC 9110, section 5.6.7), or None."""
    if value is None:
        return None
    try:
        at = parsedate_to_datetime(value.decode("ascii"))
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, _SHORTEST_S), LONGEST_S)
