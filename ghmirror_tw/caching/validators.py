"""With which validators a stored response is validated, and what a 304 confirms.

RFC 9111, sections 4.3.1 and 4.3.3; the tags for other credentials' representations follow the
rule observed of GitHub (see `tags`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from attrs import frozen

from ghmirror_tw.caching.records import (
    RECENCY_LENGTH,
    Entry,
    Grant,
    Known,
    Representation,
    digest_of,
)
from ghmirror_tw.github.entity_tag_rule import EMPTY_LIST, compute_entity_tag
from ghmirror_tw.github.media_types import _JSON_ACCEPTED, _media_types
from ghmirror_tw.http.entity_tags import parse_entity_tags, weakly_equal
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request

#: Content of candidates beyond this many bytes in all is not hashed.
CANDIDATE_BYTES: Final = 8 * 1024 * 1024


class ValidatorKind(Enum):
    """Whose word a validator is."""

    OWN = "own"
    COMPUTED = "computed"
    EMPTY = "empty"
    CLIENT = "client"


@frozen
class Validator:
    """An entity-tag to be sent, and the representation that it stands for."""

    tag: bytes
    kind: ValidatorKind
    digest: str


#: The representation of an empty list of which nothing else is known.
EMPTY_FIELDS: Final = Fields(((b"content-type", b"application/json; charset=utf-8"),))
EMPTY_DIGEST: Final = digest_of(EMPTY_LIST, EMPTY_FIELDS)


def may_have_candidates(known: Known) -> bool:
    """Tell whether `candidates` may return any; mostly there is nothing but the grant's own."""
    grant, entries = known.grant, known.entries
    if grant is None or len(entries) != 1:
        return bool(entries)
    return entries[0].digest != grant.digest


def candidates(
    known: Known, principal: str | None, *, lists: bool, proven: bool
) -> tuple[Entry, ...]:
    """Return the representations whose computed tags are worth sending, best first.

    With a grant: those that a 200 has brought since it was last validated. Without one: all.
    Those last granted to the same principal come first, then the most recently validated.
    Without *lists*, or while lists are not *proven* and a list could cost a request that the
    grant's own tag alone would not, there is at most one, and none beside a grant.
    """
    grant = known.grant
    fitting = [entry for entry in known.entries if entry.shareable]
    if grant is not None:
        fitting = [
            entry
            for entry in fitting
            if entry.digest != grant.digest and entry.brought_at > grant.asked_at
        ]
    fitting.sort(key=lambda entry: principal is None or entry.principal != principal)
    if not lists:
        fitting = [] if grant is not None else fitting[:1]
    elif grant is not None and not proven:
        fitting = [entry for entry in fitting if entry.supersedes == grant.digest]
    chosen: list[Entry] = []
    total = 0
    for entry in fitting:
        total += entry.size
        if total <= CANDIDATE_BYTES:
            chosen.append(entry)
    return tuple(chosen)


def client_validators(request: Request) -> tuple[Validator, ...]:
    """Return the client's own entity-tags, for when nothing else is known.

    GitHub's 304 to one of them is its answer to the client, though not one that can be stored.
    """
    value = request.fields.combined(b"if-none-match")
    if value is None:
        return ()
    return tuple(
        Validator(tag, ValidatorKind.CLIENT, "")
        for tag in parse_entity_tags(value)[:RECENCY_LENGTH]
    )


def may_be_empty_list(request: Request) -> bool:
    """Tell whether the answer to a question, if it is an empty list, is the two bytes `[]`."""
    accept = request.fields.get(b"accept")
    return accept is None or _media_types(accept) <= _JSON_ACCEPTED


def computed_tag(request: Request, representation: Representation, content: bytes) -> bytes:
    """Return the tag that GitHub would give to *content* for the credential of *request*."""
    return compute_entity_tag(
        content,
        representation.fields.combined(b"vary"),
        accept=request.fields.get(b"accept"),
        authorization=request.authorization,
    )


def empty_list_tag(request: Request) -> bytes:
    """Return the tag that GitHub would give to `[]` for the credential of *request*."""
    return compute_entity_tag(
        EMPTY_LIST,
        None,
        accept=request.fields.get(b"accept"),
        authorization=request.authorization,
    )


def condition_fields(validators: Sequence[Validator], grant: Grant | None) -> Fields:
    """Return the request fields of a conditional request (RFC 9110, section 13.1).

    `If-Modified-Since` only where the grant has no entity-tag, and nothing else is sent.
    """
    if validators:
        return Fields.of(((b"if-none-match", b", ".join([item.tag for item in validators])),))
    if grant is not None and grant.etag is None and grant.last_modified is not None:
        return Fields.of(((b"if-modified-since", grant.last_modified),))
    return Fields()


def confirmed_validator(validators: Sequence[Validator], etag: bytes | None) -> Validator | None:
    """Return the validator that a 304 with *etag* confirms; None where it doesn't say.

    Where one was sent, there is no other that could be meant (RFC 9110, section 15.4.5), whatever
    tag the server has made for the same content by now.
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
    """Tell whether a 200 carries one of the tags that were sent, so that it should be a 304."""
    return etag is not None and any(weakly_equal(item.tag, etag) for item in validators)
