"""What GitHub's answer grants: the records that a 304 confirms and that a 200 brings."""

from __future__ import annotations

from datetime import datetime
from math import inf
from typing import Final

from attrs import frozen

from ghmirror_tw.caching.key import token_in
from ghmirror_tw.caching.records import Entry, Grant, Known, Representation
from ghmirror_tw.caching.validators import Validator, ValidatorKind
from ghmirror_tw.caching.vary import varied
from ghmirror_tw.http.entity_tags import weakly_equal
from ghmirror_tw.http.fields import Fields

#: The lifetime of tokens in seconds, by prefix: tokens of installations, tokens of Apps for users,
#: and JSON Web Tokens of Apps (GitHub: authenticating with an App).
_LIVES_S: Final = ((b"ghs_", 3600.0), (b"ghu_", 8 * 3600.0), (b"eyJ", 600.0))
_NOTHING: Final = Fields()
#: A grant is kept for a day at least, whatever stale answers need.
LEAST_S: Final = 86_400.0
_SCOPES: Final = b"x-oauth-scopes"
_SSO: Final = b"x-github-sso"
_POLL_INTERVAL: Final = b"x-poll-interval"
_EXPIRATION: Final = b"github-authentication-token-expiration"


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


def expires_at(
    authorization: bytes | None, fields: Fields, asked_at: float, stale_limit_s: float
) -> float:
    """Return until when a grant is worth keeping, unless it is confirmed again.

    As long as stale answers may need it, and a day at least; but not beyond the life of the
    token, which is known by how it begins, and which GitHub tells of others, since tokens that
    rotate must not pile up.
    """
    life_s = max(stale_limit_s, LEAST_S)
    if authorization is None:
        return asked_at + life_s
    token = token_in(authorization)
    life_s = min([life_s, *(life for start, life in _LIVES_S if token.startswith(start))])
    told = fields.get(_EXPIRATION)
    if told is None:
        return asked_at + life_s
    # A token that has ended, by a clock that differs, was good for this very question.
    return min(asked_at + life_s, max(_time_of(told), asked_at + 60.0))


def _time_of(told: bytes) -> float:
    """Return when a token ends, as GitHub writes it; what isn't a time is never."""
    try:
        text = told.decode("latin-1").replace("UTC", "+0000")
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S %z").timestamp()
    except (ValueError, OverflowError):
        return inf


def confirmed(
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
        varied=varied(word.sent, stored.fields, fields),
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


def brought(
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
        varied=varied(word.sent, stored.fields),
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
