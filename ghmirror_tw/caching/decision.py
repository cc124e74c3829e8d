"""The decision what is done for a storable request, by values alone (sans-IO).

`next_step` is a function of the request, the stored records, the state of GitHub, and the time. The
caller takes the step. Where a step does not lead to a response, the caller adds it to *tried* and
calls `next_step` again. The rules, in their order:

1. RFC 9111, section 4.2: within `fresh_for` of the last validation by this credential, the stored
   response is sent without a request to GitHub. The grant must permit that (`epochs`), and it must
   have been read where it is written: a lagging reader may not have the latest refusal.
2. A credential that GitHub has not accepted yet is checked first.
3. Where the fleet knows nothing of a key, one request goes first, and the others wait for it (RFC
   9111, section 4: collapsed requests). The first one holds a lock of the fleet.
4. RFC 9111, section 4.2.4: while GitHub is offline or a rate limit is in force, a stale response is
   sent at once. The same holds while the key is in backoff, after timeouts.
5. Otherwise the stored response is validated (RFC 9111, section 4.3). A stale response is sent on
   failure (RFC 5861, section 4), or when `stale_after` has passed (RFC 5861, section 3).

`no-cache` in a request (RFC 9111, section 5.2.1.4) leaves only rules 2, 3 and 5, without a stale
response. The mirror's own requests do not wait for others, either.

Validators form a ladder. The first rung that has a validator is sent:

1. the `Last-Modified` date of the grant alone, where options name the path (`by_date`), and if a
   date is enough (`validating_date`);
2. the entity-tag of the grant, and those computed for representations that others brought;
3. the `Last-Modified` date of the grant;
4. the entity-tags of the client, where the store has nothing (one only, while lists are off);
5. the entity-tag that an empty list would have.

A 304 without an entity-tag does not show which of several validators it confirms. Then the request
is sent again with the first validator alone, and after that with none (`narrowed`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from math import ceil
from typing import Final, TypeAlias

from attrs import evolve, field, frozen

from ghmirror_tw.caching.forwarded_fields import canonical_request_fields
from ghmirror_tw.caching.freshness import is_fresh
from ghmirror_tw.caching.records import Entry, Grant, Known, Representation
from ghmirror_tw.caching.timeout_backoff import TimeoutBackoff
from ghmirror_tw.caching.validators import (
    EMPTY_DIGEST,
    Validator,
    ValidatorKind,
    candidates,
    client_validators,
    condition_fields,
    confirmed_validator,
    empty_list_tag,
    may_be_empty_list,
    may_have_candidates,
    validating_date,
)
from ghmirror_tw.github.entity_tag_trust import Sharing
from ghmirror_tw.github.page_parameters import page_number
from ghmirror_tw.github.rate_limits import LimitKind
from ghmirror_tw.http.request import Request


@frozen
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


@frozen
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


@frozen
class ReadPrimary:
    """Read the records again where they are written."""


@frozen
class ServeFresh:
    """Send the stored response, which is fresh."""


@frozen
class CheckCredential:
    """Check the credential with GitHub."""


@frozen
class AcquireLock:
    """Acquire the lock of the fleet, or wait for its holder."""

    scope: LockScope


@frozen
class ServeStale:
    """Send the stored response, stale, without a request to GitHub.

    *reason* as in `Cache-Status`. *may_probe*: a probe may be due, to see whether GitHub is back.
    """

    reason: str
    may_probe: bool = False


@frozen
class Reject:
    """Send the mirror's own 503: the key is in backoff, and has no stale response."""

    retry_after_s: int


@frozen
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
    ReadPrimary | ServeFresh | CheckCredential | AcquireLock | ServeStale | Reject | Validate
)


def next_step(  # noqa: PLR0913 - each is a fact of its own
    facts: DecisionFacts,
    known: Known,
    upstream: UpstreamState,
    now: float,
    *,
    fresh_for_s: float,
    tried: Collection[type[Step]] = (),
) -> Step:
    """Return the next step for a request; steps that were *tried* are not returned again."""
    if ServeFresh not in tried and is_fresh(
        known, now, fresh_for_s, validate=facts.requires_validation
    ):
        if known.current:
            return ServeFresh()
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


def _stale_or_validate(
    known: Known, upstream: UpstreamState, now: float, *, may_be_stale: bool
) -> Step:
    has_grant, backoff, due = known.permits, upstream.backoff, False
    may_be_stale = may_be_stale and has_grant
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
    return Validate(stale_if_error=True, stale_while_waiting=has_grant, probes_backoff=due)


def lock_scope(facts: DecisionFacts, known: Known) -> LockScope | None:
    """Return the scope of the lock that a request needs, or None where it needs none.

    A credential that GitHub has not accepted acquires none: no other request waits for it.
    """
    if not facts.accepted or facts.head or facts.internal:
        return None
    if known.grant is not None or known.refused or known.unstorable:
        return None
    return LockScope.CREDENTIAL if known.entries else LockScope.KEY


# The ladder of validators.


@frozen
class ConditionalRequest:
    """The validators of a conditional request: entity-tags or a date, and what they stand for.

    *stored* are the stored representations, by digest. *dated* is the grant whose date is sent.
    """

    validators: tuple[Validator, ...] = ()
    dated: Grant | None = None
    stored: Mapping[str, Representation] = field(factory=dict)

    @property
    def conditional(self) -> bool:
        """Whether there is a validator."""
        return bool(self.validators) or self.dated is not None

    def confirmed(self, etag: bytes | None) -> Validator | None:
        """Return the validator that a 304 confirms, or None where that is unclear."""
        if self.dated is not None:
            return Validator(b"", ValidatorKind.DATED, self.dated.digest)
        return confirmed_validator(self.validators, etag)

    def narrowed(self) -> ConditionalRequest:
        """Return the next rung: the first of several validators alone, so that a 304 is clear."""
        if len(self.validators) > 1:
            return evolve(self, validators=self.validators[:1])
        return UNCONDITIONAL

    def as_sent(self, request: Request) -> Request:
        """Return a request with these preconditions in place of the client's."""
        fields = request.fields.memoised(canonical_request_fields)
        preconditions = condition_fields(self.validators, self.dated)
        return Request(request.method, request.target, fields.plus(preconditions))


UNCONDITIONAL: Final = ConditionalRequest()


def shared_candidates(
    facts: DecisionFacts,
    known: Known,
    sharing: Sharing,
    login: Callable[[], str | None],
    now: float,
) -> tuple[Entry, ...]:
    """Return the entries of other credentials whose entity-tags are computed and sent.

    None for a credential that is not accepted: the time of the response would show whether
    something is stored. *login* returns the login of the credential, where known.
    """
    if not facts.accepted or not may_have_candidates(known) or not sharing.enabled(now):
        return ()
    if facts.by_date and known.grant is not None and validating_date(known, known.grant):
        return ()
    return candidates(known, login(), lists=sharing.lists_enabled(now), proven=sharing.proven)


def first_rung(  # noqa: PLR0913, PLR0917 - each is a fact of its own
    request: Request,
    facts: DecisionFacts,
    known: Known,
    stored: Mapping[str, Representation],
    computed: Mapping[str, bytes],
    sharing: Sharing,
    now: float,
) -> ConditionalRequest:
    """Return the first rung of the ladder that has a validator.

    *stored* and *computed* are representations and computed entity-tags, by digest.
    """
    grant = known.grant if known.grant is not None and known.grant.digest in stored else None
    if facts.by_date and grant is not None and validating_date(known, grant):
        return ConditionalRequest(dated=grant, stored=stored)
    validators = []
    if grant is not None and grant.etag is not None:
        validators.append(Validator(grant.etag, ValidatorKind.OWN, grant.digest))
    validators += [
        Validator(tag, ValidatorKind.COMPUTED, digest) for digest, tag in computed.items()
    ]
    if validators:
        return ConditionalRequest(tuple(validators), stored=stored)
    if grant is not None and grant.last_modified is not None:
        return ConditionalRequest(dated=grant, stored=stored)
    of_client = client_validators(request)
    if of_client:
        return ConditionalRequest(of_client if sharing.lists_enabled(now) else of_client[:1])
    if _may_be_empty(request, facts, known) and sharing.single.is_on(now):
        empty = Validator(empty_list_tag(request), ValidatorKind.EMPTY, EMPTY_DIGEST)
        return ConditionalRequest((empty,))
    return UNCONDITIONAL


def _may_be_empty(request: Request, facts: DecisionFacts, known: Known) -> bool:
    """Tell whether the entity-tag of an empty list is worth sending.

    A 304 to it is a guess at the client's response, except for the mirror's own proofs.
    """
    if known.grant is not None or known.entries or not may_be_empty_list(request):
        return False
    if facts.internal:
        return True
    return not facts.requires_validation and not facts.head and page_number(request.target) == 1
