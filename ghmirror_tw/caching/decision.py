"""Decides the next step of a storable request, as a pure function of values (sans-IO).

`next_step` is a function of the request, the stored records, the state of GitHub, and the time. The
caller takes the step. Where a step does not lead to a response, the caller adds it to *tried* and
calls `next_step` again. The rules, in their order:

1. RFC 9111, section 4.2: within `fresh_for` of the last validation by this credential, the stored
   response is sent without a request to GitHub. The grant must permit that (`epochs`), and it must
   have been read where it is written: a lagging reader may not have the latest refusal.
   Under the same conditions a negative response is repeated within `negative_for` (section 4.2.2),
   if no 200 for another credential has followed (`negative_responses`).
2. A credential that GitHub has not accepted yet is checked first.
3. Where the fleet knows nothing of a key, one request goes first, and the others wait for it (RFC
   9111, section 4: collapsed requests). The first one holds a lock of the fleet.
4. RFC 9111, section 4.2.4: while GitHub is offline or a rate limit is in force, a stale response is
   sent at once. The same holds while the key is in backoff, after timeouts.
5. Otherwise the stored response is validated (RFC 9111, section 4.3). A stale response is sent on
   failure (RFC 5861, section 4), or when `stale_after` has passed (RFC 5861, section 3).

`no-cache` in a request (RFC 9111, section 5.2.1.4) leaves only rules 2, 3 and 5, without a stale
response. The mirror's own requests do not wait for others, either.

`validator_ladder` chooses the validators of step 5.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from math import ceil
from typing import Final, TypeAlias

from ghmirror_tw.caching.freshness import is_fresh
from ghmirror_tw.caching.negative_responses import may_repeat
from ghmirror_tw.caching.records import Known
from ghmirror_tw.caching.timeout_backoff import TimeoutBackoff
from ghmirror_tw.github.reported_limit import LimitKind
from ghmirror_tw.runtime.frozen_values import frozen_value


@frozen_value
class DecisionFacts:
    """What `next_step` needs to know of a request.

    *requires_validation*: only GitHub's confirmation will do. *internal*: the mirror's own request.
    *accepted*: GitHub has accepted the credential. *by_date*: its path is validated by date.
    """

    requires_validation: bool = False
    internal: bool = False
    head: bool = False
    accepted: bool = True
    by_date: bool = False


@frozen_value
class UpstreamState:
    """The state of GitHub for one request: a rate limit in force, offline, a backoff of the key."""

    limit: LimitKind | None = None
    offline: bool = False
    backoff: TimeoutBackoff | None = None


AVAILABLE: Final = UpstreamState()


# Steps.


class LockScope(Enum):
    """The scope of a lock in the fleet: all requests for a key, or those of one credential."""

    KEY = "key"
    CREDENTIAL = "credential"


@frozen_value
class ReadPrimary:
    """Read the records again where they are written."""


@frozen_value
class ServeFresh:
    """Send the stored response, which is fresh."""


@frozen_value
class RepeatNegative:
    """Send the stored negative response again."""


@frozen_value
class CheckCredential:
    """Check the credential with GitHub."""


@frozen_value
class AcquireLock:
    """Acquire the lock of the fleet, or wait for its holder."""

    scope: LockScope


@frozen_value
class ServeStale:
    """Send the stored response, stale, without a request to GitHub.

    *reason* as in `Cache-Status`. *may_probe*: a probe may be due, to see whether GitHub is back.
    """

    reason: str
    may_probe: bool = False


@frozen_value
class Reject:
    """Send the mirror's own 503: the key is in backoff, and has no stale response."""

    retry_after_s: int


@frozen_value
class Validate:
    """Send a request to GitHub, conditional where there is a validator.

    *stale_if_error*: a stale response may replace a failure. *stale_while_waiting*: it may replace
    a response that takes longer than `stale_after`. *probes_backoff*: the backoff of the key has
    ended, and this request is its probe.
    """

    stale_if_error: bool = False
    stale_while_waiting: bool = False
    probes_backoff: bool = False


Step: TypeAlias = (
    ReadPrimary
    | ServeFresh
    | RepeatNegative
    | CheckCredential
    | AcquireLock
    | ServeStale
    | Reject
    | Validate
)


def next_step(  # noqa: PLR0913 - each is a fact of its own
    facts: DecisionFacts,
    known: Known,
    upstream: UpstreamState,
    now: float,
    *,
    fresh_for_s: float,
    negative_for_s: float = 0.0,
    tried: Collection[type[Step]] = (),
) -> Step:
    """Return the next step for a request; steps that were *tried* are not returned again."""
    hit = _hit(facts, known, now, fresh_for_s, negative_for_s)
    if hit is not None and type(hit) not in tried:
        if known.current:
            return hit
        if ReadPrimary not in tried:
            return ReadPrimary()
    if not facts.accepted and CheckCredential not in tried:
        return CheckCredential()
    scope = lock_scope(facts, known)
    if scope is not None and upstream.limit is None and AcquireLock not in tried:
        return AcquireLock(scope)
    if facts.internal or facts.requires_validation:
        return Validate()
    return _stale_or_validate(known, upstream, now, may_be_stale=ServeStale not in tried)


def _hit(
    facts: DecisionFacts, known: Known, now: float, fresh_for_s: float, negative_for_s: float
) -> ServeFresh | RepeatNegative | None:
    """Return the step that needs no request to GitHub, if there is one.

    The mirror's own requests need GitHub's negative response of now.
    """
    validate = facts.requires_validation
    if may_repeat(known, now, negative_for_s, validate=validate or facts.internal):
        return RepeatNegative()
    return ServeFresh() if is_fresh(known, now, fresh_for_s, validate=validate) else None


def _stale_or_validate(
    known: Known, upstream: UpstreamState, now: float, *, may_be_stale: bool
) -> Step:
    permitted, backoff, due = known.permits, upstream.backoff, False
    may_be_stale = may_be_stale and permitted
    if may_be_stale and upstream.limit is not None:
        return ServeStale(upstream.limit.reason)
    if may_be_stale and upstream.offline:
        return ServeStale("offline", may_probe=True)
    if backoff is not None and upstream.limit is None:
        due = now >= backoff.until
        if not due and may_be_stale:
            return ServeStale("timeout")
        if not due and backoff.repeated:
            return Reject(ceil(backoff.until - now))
    return Validate(stale_if_error=True, stale_while_waiting=permitted, probes_backoff=due)


def lock_scope(facts: DecisionFacts, known: Known) -> LockScope | None:
    """Return the scope of the lock that a request needs, or None where it needs none.

    A credential that GitHub has not accepted acquires none: no other request waits for it.
    """
    if not facts.accepted or facts.head or facts.internal:
        return None
    if known.grant is not None or known.refused or known.unstorable:
        return None
    return LockScope.CREDENTIAL if known.entries else LockScope.KEY
