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
from ghmirror_tw.http import entity_tags
from ghmirror_tw.http.fields import MESSAGE_FIELDS, Fields
from ghmirror_tw.http.messages import Request

#: Content of candidates beyond this many bytes in all is not hashed.
CANDIDATE_BYTES: Final = 8 * 1024 * 1024

#: What the grant says, unless the 304 does.
_OF_GRANT: Final = frozenset({b"etag", b"last-modified", b"link"})
#: What a 304 doesn't replace: it would speak of its own missing content.
_OF_CONTENT: Final = frozenset({b"content-type", b"content-language", b"content-disposition"})

#: Media types whose empty list is the two bytes `[]`.
_JSON: Final = frozenset(
    {b"application/json", b"application/vnd.github+json", b"application/vnd.github.v3+json"}
)
_JSON_ACCEPTED: Final = _JSON | {b"*/*"}


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
EMPTY_DIGEST: Final = digest_of(entity_tags.EMPTY_LIST, EMPTY_FIELDS)


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


def of_client(request: Request) -> tuple[Validator, ...]:
    """Return the client's own entity-tags, for when nothing else is known.

    GitHub's 304 to one of them is its answer to the client, though not one that can be stored.
    """
    value = request.fields.combined(b"if-none-match")
    if value is None:
        return ()
    return tuple(
        Validator(tag, ValidatorKind.CLIENT, "")
        for tag in entity_tags.parse_list(value)[:RECENCY_LENGTH]
    )


def may_be_empty(request: Request) -> bool:
    """Tell whether the answer to a question, if it is an empty list, is the two bytes `[]`."""
    accept = request.fields.get(b"accept")
    return accept is None or _kinds(accept) <= _JSON_ACCEPTED


def asks_for_json(accept: bytes | None) -> bool:
    """Tell whether an `Accept` value names JSON, and nothing else."""
    return accept is not None and _kinds(accept) <= _JSON


def _kinds(accept: bytes) -> frozenset[bytes]:
    return frozenset([part.split(b";")[0].strip().lower() for part in accept.split(b",")])


def computed(request: Request, representation: Representation, content: bytes) -> bytes:
    """Return the tag that GitHub would give to *content* for the credential of *request*."""
    return entity_tags.compute(
        content,
        representation.fields.combined(b"vary"),
        accept=request.fields.get(b"accept"),
        authorization=request.authorization,
    )


def empty_tag(request: Request) -> bytes:
    """Return the tag that GitHub would give to `[]` for the credential of *request*."""
    return entity_tags.compute(
        entity_tags.EMPTY_LIST,
        None,
        accept=request.fields.get(b"accept"),
        authorization=request.authorization,
    )


def conditions(validators: Sequence[Validator], grant: Grant | None) -> Fields:
    """Return the request fields of a conditional request (RFC 9110, section 13.1).

    `If-Modified-Since` only where the grant has no entity-tag, and nothing else is sent.
    """
    if validators:
        return Fields.of(((b"if-none-match", b", ".join([item.tag for item in validators])),))
    if grant is not None and grant.etag is None and grant.last_modified is not None:
        return Fields.of(((b"if-modified-since", grant.last_modified),))
    return Fields()


def confirmed(validators: Sequence[Validator], etag: bytes | None) -> Validator | None:
    """Return the validator that a 304 with *etag* confirms; None where it doesn't say.

    Where one was sent, there is no other that could be meant (RFC 9110, section 15.4.5), whatever
    tag the server has made for the same content by now.
    """
    if len(validators) == 1:
        return validators[0]
    if etag is None:
        return None
    for item in validators:
        if item.tag == etag or entity_tags.weakly_equal(item.tag, etag):
            return item
    return None


def was_ignored(validators: Sequence[Validator], etag: bytes | None) -> bool:
    """Tell whether a 200 carries one of the tags that were sent, so that it should be a 304."""
    return etag is not None and any(entity_tags.weakly_equal(item.tag, etag) for item in validators)


def freshen(stored: Fields, grant: Grant, answer: Fields) -> Fields:
    """Return the fields of an answer from the store (RFC 9111, section 4.3.4).

    The representation's, then the grant's, then those of GitHub's 304 to this very question; but
    what the stored content is, the 304 can't change, and what describes the 304 stays with it.
    """
    said = ((b"etag", grant.etag), (b"last-modified", grant.last_modified), (b"link", grant.link))
    lines, described = stored.once(_of_stored)
    newer = [line for line in answer.lines if line[0] not in described]
    names = {name for name, _ in newer}
    kept = [line for line in lines if line[0] not in names]
    granted = [(name, value) for name, value in said if value is not None and name not in names]
    return Fields.of((*kept, *granted, *newer))


def _of_stored(stored: Fields) -> tuple[tuple[tuple[bytes, bytes], ...], frozenset[bytes]]:
    """Return the lines that are no grant's, and which fields of a 304 say nothing beside them."""
    described = frozenset([name for name, _ in stored]) & _OF_CONTENT
    return stored.without(_OF_GRANT).lines, described | MESSAGE_FIELDS
