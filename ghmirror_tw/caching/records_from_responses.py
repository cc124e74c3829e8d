"""Update of the records by a 200 or a 304 (RFC 9111, sections 3 and 4.3.4).

A response of GitHub gives a credential a *grant*: the permission to see one representation under
one cache key. It also gives the representation an entry in the recency list of the key.
"""

from __future__ import annotations

from math import inf
from typing import Final

from ghmirror_tw.caching.records import (
    Entry,
    Grant,
    Known,
    Representation,
)
from ghmirror_tw.caching.validators import Validator, ValidatorKind
from ghmirror_tw.caching.vary import variant_id
from ghmirror_tw.github.credentials import lifetime_s, token_expires_at, token_in
from ghmirror_tw.http.entity_tags import weakly_equal
from ghmirror_tw.http.fields import MESSAGE_FIELDS, Fields
from ghmirror_tw.runtime.frozen_values import frozen_value

_NOTHING: Final = Fields()
_SCOPES: Final = b"x-oauth-scopes"
_SSO: Final = b"x-github-sso"
_POLL_INTERVAL: Final = b"x-poll-interval"
#: The fields of a 304 that replace those of a grant.
_FRESHENING: Final = (b"etag", b"last-modified", _SCOPES, _SSO, _POLL_INTERVAL)

#: Fields that are stored in the grant, not in the representation.
_GRANT_FIELDS: Final = frozenset({b"etag", b"last-modified", b"link"})

#: Fields that describe the content. Those of a 304 describe its empty content, and replace none.
_CONTENT_FIELDS: Final = frozenset({b"content-type", b"content-language", b"content-disposition"})


_OWN: Final = frozenset({ValidatorKind.OWN, ValidatorKind.DATED})


@frozen_value
class GrantMetadata:
    """The facts of one exchange with GitHub that its records are made from.

    *fields* are those of the response. *requested_at* and *received_at* are the times of request
    and response in seconds. *login* is the user of the credential, if known. The grant is stored
    until *expires_at*. *sent* are the fields of the forwarded request. *epoch* is the credential's
    at the time of the request, None if unknown.
    """

    fields: Fields
    requested_at: float
    received_at: float
    login: str | None = None
    expires_at: float = inf
    sent: Fields = _NOTHING
    epoch: bytes | None = None


def from_304(
    known: Known, validator: Validator, stored: Representation, metadata: GrantMetadata
) -> tuple[Grant, Entry]:
    """Return the grant from a 304, and the entry of the confirmed representation.

    A field that the 304 lacks is that of the credential's own grant. Without one it is that of the
    entry, which is from the last response with the representation to any credential. Where a date
    was confirmed, the 304 may have the entity-tag of later content: the grant's own remains.
    """
    entry = known.entry_of(stored.digest)
    own = known.grant if validator.kind in _OWN else None
    source, fields = own or entry, metadata.fields
    etag, date, scopes, sso, poll_interval = fields.get_each(*_FRESHENING)
    dated = own is not None and validator.kind is ValidatorKind.DATED
    etag = own.etag if own is not None and dated else etag
    last_modified, borrowed_date = _last_modified(date, own, entry)
    grant = Grant(
        digest=stored.digest,
        etag=etag or validator.tag or None,
        last_modified=last_modified,
        link=fields.combined(b"link") or (None if source is None else source.link),
        requested_at=metadata.requested_at,
        validated_at=metadata.received_at,
        # A server with another entity-tag in its 304 does not follow the rule of computed tags.
        shareable=(own is None or own.shareable)
        and (etag is None or dated or weakly_equal(etag, validator.tag)),
        principal=metadata.login,
        expires_at=metadata.expires_at,
        scopes=scopes or (None if own is None else own.scopes),
        sso=sso or (None if own is None else own.sso),
        poll_interval=poll_interval or (None if own is None else own.poll_interval),
        varied=variant_id(metadata.sent, stored.fields, fields),
        epoch=metadata.epoch,
        borrowed_date=borrowed_date,
    )
    if entry is None:
        is_new = validator.kind is ValidatorKind.EMPTY
        # An entry that was evicted has no time of a 200, unless this response stands for one.
        entry = _entry(stored, grant, received_at=metadata.received_at if is_new else 0.0)
    return grant, entry.validated(metadata.received_at, metadata.login)


def _last_modified(
    date: bytes | None, own: Grant | None, entry: Entry | None
) -> tuple[bytes | None, bool]:
    """Return the date of confirmed content, and whether it is that of another credential.

    *date* is that of the 304.
    """
    source = own or entry
    if date is None and source is not None:
        date = source.last_modified
        return date, date is not None and (own is None or own.borrowed_date)
    return date, False


def from_200(
    known: Known, stored: Representation, metadata: GrantMetadata, *, shareable: bool
) -> tuple[Grant, Entry]:
    """Return the grant from a 200, and the entry of the received representation."""
    grant = Grant(
        digest=stored.digest,
        etag=metadata.fields.get(b"etag"),
        last_modified=metadata.fields.get(b"last-modified"),
        link=metadata.fields.combined(b"link"),
        requested_at=metadata.requested_at,
        validated_at=metadata.received_at,
        shareable=shareable,
        principal=metadata.login,
        expires_at=metadata.expires_at,
        scopes=metadata.fields.get(_SCOPES),
        sso=metadata.fields.get(_SSO),
        poll_interval=metadata.fields.get(_POLL_INTERVAL),
        varied=variant_id(metadata.sent, stored.fields),
        epoch=metadata.epoch,
    )
    before = None if known.grant is None else known.grant.digest
    return grant, _entry(stored, grant, received_at=metadata.received_at, supersedes=before)


def _entry(
    stored: Representation, grant: Grant, *, received_at: float, supersedes: str | None = None
) -> Entry:
    """Return an entry of the representation that *grant* names, for a new recency list."""
    return Entry(
        stored.digest,
        received_at=received_at,
        validated_at=grant.validated_at,
        shareable=grant.shareable,
        size=stored.size,
        link=grant.link,
        last_modified=grant.last_modified,
        principal=grant.principal,
        supersedes=supersedes,
    )


def freshened(stored: Fields, grant: Grant, not_modified: Fields) -> Fields:
    """Return the fields of a stored response, freshened by a 304 (RFC 9111, section 4.3.4).

    Fields of the 304 (*not_modified*) replace those of the grant and of the representation. Three
    kinds of its fields are ignored: those of the content, those of the message (section 3.2), and
    its entity-tag. The grant has that entity-tag if it is the one of the content.
    """
    of_grant = (
        (b"etag", grant.etag),
        (b"last-modified", grant.last_modified),
        (b"link", grant.link),
    )
    lines, not_replaced = stored.memoised(_stored_lines)
    newer = [line for line in not_modified.lines if line[0] not in not_replaced]
    names = {name for name, _ in newer}
    kept = [line for line in lines if line[0] not in names]
    granted = [(name, value) for name, value in of_grant if value is not None and name not in names]
    return Fields.of((*kept, *granted, *newer))


def _stored_lines(stored: Fields) -> tuple[tuple[tuple[bytes, bytes], ...], frozenset[bytes]]:
    """Return the lines that are not the grant's, and the names that a 304 does not replace."""
    described = frozenset([name for name, _ in stored]) & _CONTENT_FIELDS
    return stored.without(_GRANT_FIELDS).lines, described | MESSAGE_FIELDS | {b"etag"}


#: A grant is stored for a day at least, in seconds, for validations after `stale_limit`.
SHORTEST_LIFETIME_S: Final = 86_400.0


def grant_expires_at(
    sent: Fields, fields: Fields, requested_at: float, stale_limit_s: float
) -> float:
    """Return the time until which a grant is stored, unless it is validated again.

    *sent* are the fields of the request, *fields* those of the response.

    That is *stale_limit_s* later, and a day at least, but not after the end of its token: otherwise
    grants of rotated tokens would accumulate.
    """
    life_s = max(stale_limit_s, SHORTEST_LIFETIME_S)
    token_life_s = sent.memoised(_token_lifetime_s)
    if token_life_s is None:
        return requested_at + life_s
    life_s = min(life_s, token_life_s)
    # The token was valid for this request, even if it has expired by the clock of this machine.
    return min(requested_at + life_s, max(token_expires_at(fields), requested_at + 60.0))


def _token_lifetime_s(sent: Fields) -> float | None:
    """Return the longest lifetime of the token in *sent*; None: there is no token."""
    authorization = sent.get(b"authorization")
    return None if authorization is None else lifetime_s(token_in(authorization))
