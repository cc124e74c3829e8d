"""What GitHub says about its limits: which one was met, and until when (GitHub: rate limits).

A primary limit stops one resource of a credential, a secondary limit the credential altogether.
Only a 403 or 429 means limited. GraphQL says the same there; the 200 in which it tells of a
primary limit (an error of the type ``RATE_LIMITED``) is its own answer to a client that reads
it, is never stored, and passes on.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Final

from attrs import frozen

from ghmirror_tw.policy.fields import Fields
from ghmirror_tw.policy.messages import Question
from ghmirror_tw.policy.remembered import remembered

#: How long a limit lasts of which GitHub doesn't say it, in seconds; secondary ones double.
UNSAID_S: Final = 60.0
#: No limit lasts longer than GitHub's longest window; then there is a trial at least.
LONGEST_S: Final = 3600.0
_SHORTEST_S: Final = 1.0
_MOST_DOUBLINGS: Final = 6

CORE: Final = "core"
GRAPHQL: Final = "graphql"
_OWNED: Final = rb"/(?:repos/[^/]+/[^/]+|orgs/[^/]+|enterprises/[^/]+)"
#: Methods (None: any) and paths of what does not count as core, the first that fits.
_BUCKETS: Final = tuple(
    (methods, re.compile(path), bucket)
    for methods, path, bucket in (
        (None, rb"/search/code", "code_search"),
        (None, rb"/search/.*", "search"),
        (None, rb"/graphql", GRAPHQL),
        (b"POST", rb"/app-manifests/[^/]+/conversions", "integration_manifest"),
        (b"POST", rb"/repos/[^/]+/[^/]+/code-scanning/sarifs", "code_scanning_upload"),
        (b"POST", _OWNED + rb"/actions/runners/registration-token", "actions_runner_registration"),
        (None, rb"/scim/.*", "scim"),
        (b"POST", rb"/repos/[^/]+/[^/]+/dependency-graph/snapshots", "dependency_snapshots"),
        (None, rb"/(?:orgs|enterprises)/[^/]+/audit-log", "audit_log"),
    )
)
_RESOURCE: Final = re.compile(rb"[a-z0-9_]{1,64}")
_SECONDS: Final = re.compile(rb"[0-9]{1,15}")
_SENTENCES: Final = (b"secondary rate limit", b"abuse detection")


class LimitKind(Enum):
    """What a limit stops: one resource of a credential, or the credential."""

    PRIMARY = "primary"
    SECONDARY = "secondary"

    @property
    def reason(self) -> str:
        """What stale answers say of it."""
        return f"{self.value}-limit"


@frozen
class Limit:
    """A limit that was met, *until* a time in seconds since the epoch.

    *bucket*: GitHub's name of the resource; empty where all of them are stopped.
    """

    kind: LimitKind
    bucket: str
    until: float


def bucket_of(method: bytes, path: bytes) -> str:
    """Return to which resource's quota a question counts (GitHub: rate limits).

    *path* is without query and prefix. GitHub's own word, `X-RateLimit-Resource`, counts for more.
    """
    return _bucket_of(path, method)


@remembered
def _bucket_of(path: bytes, method: bytes) -> str:
    path = path.rstrip(b"/")
    for methods, shape, bucket in _BUCKETS:
        if methods in {None, method} and shape.fullmatch(path):
            return bucket
    return CORE


def resource_of(question: Question, fields: Fields) -> str:
    """Return to which resource's quota an answer says that it counts; else, what is known."""
    said = fields.get(b"x-ratelimit-resource")
    if said is not None and _RESOURCE.fullmatch(said):
        return said.decode("ascii")
    return bucket_of(question.method, question.path)


def is_rate_limit(status: int, fields: Fields, content: bytes) -> bool:
    """Tell whether a 403 or 429 says "not now" rather than "not you".

    *content* is without coding, or its beginning.
    """
    return _kind(status, fields, content) is not None


def limit_of(  # noqa: PLR0913, PLR0917 - an answer, whole, and when it came
    question: Question, status: int, fields: Fields, content: bytes, now: float, strikes: int
) -> Limit | None:
    """Return the limit that an answer tells of, or None.

    *content* is without coding, or its beginning. *strikes*: how many secondary limits in a row
    this credential has met before this one, without a good answer in between. What makes no
    sense counts as not said.
    """
    kind = _kind(status, fields, content)
    if kind is None:
        return None
    pause_s = retry_after(fields, now)
    if kind is LimitKind.PRIMARY:
        reset, sent_at = _seconds(fields.get(b"x-ratelimit-reset")), _sent_at(fields, now)
        if reset is not None and reset > sent_at:
            pause_s = _bounded(reset - sent_at)
        pause_s = UNSAID_S if pause_s is None else pause_s
        return Limit(kind, resource_of(question, fields), now + pause_s)
    if pause_s is None:
        pause_s = _bounded(UNSAID_S * 2 ** min(max(strikes, 0), _MOST_DOUBLINGS))
    return Limit(kind, "", now + pause_s)


def retry_after(fields: Fields, now: float) -> float | None:
    """Return for how many seconds not to come again (RFC 9110, section 10.2.3), or None.

    At least one, and at most as long as any limit of GitHub's lasts.
    """
    value = fields.get(b"retry-after")
    seconds = _seconds(value)
    if seconds is not None:
        return _bounded(seconds)
    at, sent_at = _date(value), _sent_at(fields, now)
    return _bounded(at - sent_at) if at is not None and at > sent_at else None


def _kind(status: int, fields: Fields, content: bytes) -> LimitKind | None:
    """Return which limit was met: GitHub's sentence says it, or what remains, or that there is.

    A secondary limit may be met with a quota that is used up as well; it stops more.
    """
    if status not in {403, 429}:
        return None
    text = content.lower()
    if any(sentence in text for sentence in _SENTENCES):
        return LimitKind.SECONDARY
    if fields.get(b"x-ratelimit-remaining") == b"0":
        return LimitKind.PRIMARY
    if status == 429 or fields.get(b"retry-after") is not None:  # noqa: PLR2004
        return LimitKind.SECONDARY
    return None


def _sent_at(fields: Fields, now: float) -> float:
    """Return when an answer was sent by the sender's own clock, where it shows it.

    Ours may be wrong, and what is counted from the sender's must end by the sender's.
    """
    return _date(fields.get(b"date")) or now


def _seconds(value: bytes | None) -> float | None:
    """Return a number of seconds, which has no sign and no fraction."""
    return float(value) if value is not None and _SECONDS.fullmatch(value) else None


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
