"""What GitHub's answer grants: the records that a 304 confirms and that a 200 brings."""

from __future__ import annotations

from math import inf
from typing import Final

from attrs import frozen

from ghmirror_tw.caching.records import (
    Entry,
    Grant,
    Known,
    Representation,
)
from ghmirror_tw.caching.validators import Validator, ValidatorKind
from ghmirror_tw.caching.vary import variant_id
from ghmirror_tw.http.entity_tags import weakly_equal
from ghmirror_tw.http.fields import MESSAGE_FIELDS, Fields

_NOTHING: Final = Fields()
_SCOPES: Final = b"x-oauth-scopes"
_SSO: Final = b"x-github-sso"
_POLL_INTERVAL: Final = b"x-poll-interval"

#: What the grant says, unless the 304 does.
_GRANT_FIELDS: Final = frozenset({b"etag", b"last-modified", b"link"})

#: What a 304 doesn't replace: it would speak of its own missing content.
_CONTENT_FIELDS: Final = frozenset({b"content-type", b"content-language", b"content-disposition"})


@frozen
class ResponseMetadata:
    """GitHub's word on one question: what it said, when it was asked and when it said so.

    *fields* are those of its answer; times in seconds; *login* is who asked, where known. What it
    grants is good until *expires_at*. *sent* are the fields of the request as GitHub got it.
    *epoch* is that of the credential when the request was sent, None where it is not known.
    """

    fields: Fields
    asked_at: float
    came_at: float
    login: str | None = None
    expires_at: float = inf
    sent: Fields = _NOTHING
    epoch: bytes | None = None


def from_304(
    known: Known, validator: Validator, stored: Representation, word: ResponseMetadata
) -> tuple[Grant, Entry]:
    """Return the grant that a 304 gives, and the representation's entry in the recency list.

    What the 304 leaves out is the credential's own from before, or that of whoever the
    representation was last sent to (RFC 9111, section 4.3.4).
    """
    entry = known.entry_of(stored.digest)
    own = known.grant if validator.kind is ValidatorKind.OWN else None
    source = own or entry
    fields = word.fields
    etag = fields.get(b"etag")
    grant = Grant(
        digest=stored.digest,
        etag=etag or validator.tag or None,
        last_modified=fields.get(b"last-modified")
        or (None if source is None else source.last_modified),
        link=fields.combined(b"link") or (None if source is None else source.link),
        asked_at=word.asked_at,
        validated_at=word.came_at,
        # With another entity-tag in its 304, the server does not follow the rule of computed ones.
        shareable=(own is None or own.shareable)
        and (etag is None or weakly_equal(etag, validator.tag)),
        principal=word.login,
        expires_at=word.expires_at,
        scopes=fields.get(_SCOPES) or (None if own is None else own.scopes),
        sso=fields.get(_SSO) or (None if own is None else own.sso),
        poll_interval=fields.get(_POLL_INTERVAL) or (None if own is None else own.poll_interval),
        varied=variant_id(word.sent, stored.fields, fields),
        epoch=word.epoch,
    )
    if entry is None:
        entry = Entry(
            stored.digest,
            brought_at=word.came_at if validator.kind is ValidatorKind.EMPTY else 0.0,
            validated_at=word.came_at,
            shareable=grant.shareable,
            size=stored.size,
            link=grant.link,
            last_modified=grant.last_modified,
        )
    return grant, entry.validated(word.came_at, word.login)


def from_200(
    known: Known, stored: Representation, word: ResponseMetadata, *, shareable: bool
) -> tuple[Grant, Entry]:
    """Return the grant that a 200 gives, and the representation's entry in the recency list."""
    link = word.fields.combined(b"link")
    grant = Grant(
        digest=stored.digest,
        etag=word.fields.get(b"etag"),
        last_modified=word.fields.get(b"last-modified"),
        link=link,
        asked_at=word.asked_at,
        validated_at=word.came_at,
        shareable=shareable,
        principal=word.login,
        expires_at=word.expires_at,
        scopes=word.fields.get(_SCOPES),
        sso=word.fields.get(_SSO),
        poll_interval=word.fields.get(_POLL_INTERVAL),
        varied=variant_id(word.sent, stored.fields),
        epoch=word.epoch,
    )
    entry = Entry(
        stored.digest,
        brought_at=word.came_at,
        validated_at=word.came_at,
        shareable=shareable,
        size=stored.size,
        link=link,
        last_modified=grant.last_modified,
        principal=word.login,
        supersedes=known.grant.digest if known.grant is not None else None,
    )
    return grant, entry


def freshened(stored: Fields, grant: Grant, answer: Fields) -> Fields:
    """Return the fields of an answer from the store (RFC 9111, section 4.3.4).

    The representation's, then the grant's, then those of GitHub's 304 to this very question; but
    what the stored content is, the 304 can't change, and what describes the 304 stays with it.
    """
    said = ((b"etag", grant.etag), (b"last-modified", grant.last_modified), (b"link", grant.link))
    lines, described = stored.once(_stored_lines)
    newer = [line for line in answer.lines if line[0] not in described]
    names = {name for name, _ in newer}
    kept = [line for line in lines if line[0] not in names]
    granted = [(name, value) for name, value in said if value is not None and name not in names]
    return Fields.of((*kept, *granted, *newer))


def _stored_lines(stored: Fields) -> tuple[tuple[tuple[bytes, bytes], ...], frozenset[bytes]]:
    """Return the lines that are no grant's, and which fields of a 304 say nothing beside them."""
    described = frozenset([name for name, _ in stored]) & _CONTENT_FIELDS
    return stored.without(_GRANT_FIELDS).lines, described | MESSAGE_FIELDS
