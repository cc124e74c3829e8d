"""Validators: the entity-tags of a conditional request, and the one that a 304 confirms.

RFC 9111, sections 4.3.1 and 4.3.3. A request may have validators of representations that other
credentials received: their tags are computed for the requesting credential by GitHub's rule (see
`entity_tag_rule`), and a 304 proves that it may see the representation, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from ghmirror_tw.caching.records import (
    RECENCY_LENGTH,
    Entry,
    Grant,
    Known,
    Representation,
    digest_of,
)
from ghmirror_tw.github.entity_tag_rule import EMPTY_LIST, compute_entity_tag
from ghmirror_tw.github.media_types import accepts_only_json_or_any
from ghmirror_tw.http.entity_tags import parse_entity_tags, weakly_equal
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.preconditions import parse_http_date
from ghmirror_tw.http.request import Request
from ghmirror_tw.runtime.frozen_values import frozen_value

#: The content of all candidates together, in bytes; the rest is not hashed.
CANDIDATE_BYTES: Final = 8 * 1024 * 1024


class ValidatorKind(Enum):
    """The source of a validator: the own grant, GitHub's rule, an empty list, or the client.

    OWN is the entity-tag of the own grant, and DATED its date.
    """

    OWN = "own"
    DATED = "dated"
    COMPUTED = "computed"
    EMPTY = "empty"
    CLIENT = "client"


@frozen_value
class Validator:
    """An entity-tag to be sent, and the digest of its representation."""

    tag: bytes
    kind: ValidatorKind
    digest: str


#: The representation of an empty list that GitHub has not sent yet.
EMPTY_FIELDS: Final = Fields(((b"content-type", b"application/json; charset=utf-8"),))
EMPTY_DIGEST: Final = digest_of(EMPTY_LIST, EMPTY_FIELDS)


def may_have_candidates(known: Known) -> bool:
    """Return whether `candidates` may return any; a quick test that mostly fails."""
    grant, entries = known.grant, known.entries
    if grant is None or len(entries) != 1:
        return bool(entries)
    return entries[0].digest != grant.digest


def candidates(
    known: Known, principal: str | None, *, lists: bool, proven: bool
) -> tuple[Entry, ...]:
    """Return the representations whose computed tags are worth sending, best first.

    With a grant these are the ones received by a 200 since its last validation, else all. Those
    last granted to the same principal precede the others. Without *lists*, one tag is sent at most.
    While lists are not *proven*, a tag is sent beside the grant's own only if its representation
    has replaced the granted one: else the list could cost a request that the own tag does not.
    """
    grant = known.grant
    eligible = [entry for entry in known.entries if entry.shareable]
    if grant is not None:
        eligible = [
            entry
            for entry in eligible
            if entry.digest != grant.digest and entry.received_at > grant.requested_at
        ]
    eligible.sort(key=lambda entry: principal is None or entry.principal != principal)
    if not lists:
        eligible = [] if grant is not None else eligible[:1]
    elif grant is not None and not proven:
        eligible = [entry for entry in eligible if entry.supersedes == grant.digest]
    chosen: list[Entry] = []
    total = 0
    for entry in eligible:
        total += entry.size
        if total <= CANDIDATE_BYTES:
            chosen.append(entry)
    return tuple(chosen)


def client_validators(request: Request) -> tuple[Validator, ...]:
    """Return the client's own entity-tags, as validators where the store has none.

    A 304 to one of them is forwarded to the client; it cannot be stored.
    """
    value = request.fields.combined(b"if-none-match")
    if value is None:
        return ()
    return tuple(
        Validator(tag, ValidatorKind.CLIENT, "")
        for tag in parse_entity_tags(value)[:RECENCY_LENGTH]
    )


def may_be_empty_list(request: Request) -> bool:
    """Return whether the content of an empty list, in response to *request*, is `[]`."""
    return accepts_only_json_or_any(request.fields.get(b"accept"))


def computed_tag(request: Request, representation: Representation, content: bytes) -> bytes:
    """Return the entity-tag that GitHub computes of *content* for *request*."""
    return compute_entity_tag(
        content,
        representation.fields.combined(b"vary"),
        accept=request.fields.get(b"accept"),
        authorization=request.authorization,
    )


def empty_list_tag(request: Request) -> bytes:
    """Return the entity-tag that GitHub computes of `[]` for *request*."""
    return compute_entity_tag(
        EMPTY_LIST,
        None,
        accept=request.fields.get(b"accept"),
        authorization=request.authorization,
    )


def condition_fields(validators: Sequence[Validator], grant: Grant | None) -> Fields:
    """Return the precondition of a request with *validators* (RFC 9110, section 13.1).

    `If-Modified-Since` with the date of *grant* is sent only if there are no validators.
    """
    if validators:
        return Fields.of(((b"if-none-match", b", ".join([item.tag for item in validators])),))
    if grant is not None and grant.last_modified is not None:
        return Fields.of(((b"if-modified-since", grant.last_modified),))
    return Fields()


#: How long after its date content must have been confirmed, in seconds (`validating_date`).
_MINUTE_S: Final = 60


def validating_date(known: Known, grant: Grant) -> bool:
    """Return whether the date of *grant* may validate its content without an entity-tag.

    Content can change while its date stays, so there are three conditions. GitHub has
    sent the date to this very credential. The credential has not written since, as its epoch shows:
    a client finds what it has written. And the content was confirmed so much later than its date
    that it cannot have changed again in the same second (RFC 9110, section 8.8.2.2).
    """
    if grant.last_modified is None or grant.borrowed_date or not known.permits:
        return False
    changed_at = parse_http_date(grant.last_modified)
    return changed_at is not None and grant.requested_at >= changed_at + _MINUTE_S


def confirmed_validator(validators: Sequence[Validator], etag: bytes | None) -> Validator | None:
    """Return the validator that a 304 with *etag* confirms (RFC 9111, section 4.3.4), or None.

    A 304 to one validator confirms that one, even with another *etag*: the server may have given
    the same content a new tag.
    """
    if len(validators) == 1:
        return validators[0]
    if etag is None:
        return None
    for item in validators:
        if item.tag == etag or weakly_equal(item.tag, etag):
            return item
    return None


def was_ignored(validators: Sequence[Validator], etag: bytes | None) -> bool:
    """Return whether a 200 has the tag of a sent validator, so that it should have been a 304."""
    return etag is not None and any(weakly_equal(item.tag, etag) for item in validators)
