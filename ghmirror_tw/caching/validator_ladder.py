"""The ladder of validators: the preconditions of a validation (RFC 9111, section 4.3.1).

The first rung that has a validator is sent:

1. the `Last-Modified` date of the grant alone, where `[cache] validate_by_date` names the path and
   `validating_date` permits it;
2. the entity-tag of the grant, and those computed for representations that others have received;
3. the `Last-Modified` date of the grant;
4. the entity-tags of the client, where the store has nothing (only the first, while `Sharing` has
   disabled lists of them);
5. the entity-tag that an empty list would have.

A 304 without an entity-tag does not show which of several validators it confirms. Then the request
is sent again with the first validator alone, and after that with none (`narrowed`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from attrs import evolve, field

from ghmirror_tw.caching.decision import DecisionFacts
from ghmirror_tw.caching.forwarded_fields import canonical_request_fields
from ghmirror_tw.caching.records import Entry, Grant, Known, Representation
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
from ghmirror_tw.github.page_parameters import page_number
from ghmirror_tw.github.sharing_circuit_breakers import Sharing
from ghmirror_tw.http.request import Request
from ghmirror_tw.runtime.frozen_values import frozen_value


@frozen_value
class ConditionalRequest:
    """The validators of a conditional request: entity-tags or a date, and what they stand for.

    *stored* are the stored representations, by digest. *dated* is the grant whose date is sent.
    """

    validators: tuple[Validator, ...] = ()
    dated: Grant | None = None
    stored: Mapping[str, Representation] = field(factory=dict)

    @property
    def has_validator(self) -> bool:
        """Whether there is a validator."""
        return bool(self.validators) or self.dated is not None

    def confirmed(self, etag: bytes | None) -> Validator | None:
        """Return the validator that a 304 confirms, or None where that is unclear."""
        if self.dated is not None:
            return Validator(b"", ValidatorKind.DATED, self.dated.digest)
        return confirmed_validator(self.validators, etag)

    def narrowed(self) -> ConditionalRequest:
        """Return the request after an unclear 304: the first of several validators, or none."""
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
    """Return whether the entity-tag of an empty list is worth sending.

    A 304 to it is a guess at the client's response, except for the mirror's own proofs.
    """
    if known.grant is not None or known.entries or not may_be_empty_list(request):
        return False
    if facts.internal:
        return True
    return not facts.requires_validation and not facts.head and page_number(request.target) == 1
