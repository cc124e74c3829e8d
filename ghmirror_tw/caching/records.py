"""The records of a store: representations, grants, refusals, recency lists, epochs and more.

All times are seconds since the epoch, as floats with microseconds.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable
from math import inf
from typing import Final

from attrs import evolve, field

from ghmirror_tw.caching.key import length_prefixed
from ghmirror_tw.github.reported_limit import Limit, latest_of_each_scope
from ghmirror_tw.http.fields import CONTENT_FIELDS, Fields
from ghmirror_tw.runtime.frozen_values import frozen_value

#: How many representations of a cache key its recency list names.
RECENCY_LENGTH: Final = 8


def digest_of(content: bytes, fields: Fields) -> str:
    """Return the identifier of a representation: a hash of its content and content fields."""
    hashed = hashlib.sha256()
    for name, value in sorted(fields.only(CONTENT_FIELDS)):
        hashed.update(length_prefixed(name) + length_prefixed(value))
    hashed.update(b"\n")
    hashed.update(content)
    return hashed.hexdigest()


@frozen_value
class Representation:
    """Content as GitHub sent it, gzip-compressed, with the fields that describe it.

    *digest* covers content and fields, so a representation never changes. *size* is the number of
    bytes before compression. *items* is the number of elements of a top-level JSON array, or None.
    """

    digest: str
    fields: Fields
    packed: bytes = field(repr=False)
    size: int
    items: int | None = None

    def content(self) -> bytes:
        """Return the content, uncompressed."""
        return gzip.decompress(self.packed)


@frozen_value
class Grant:
    """The permission that GitHub gave a credential to see a representation under a cache key.

    *requested_at* is the time of the last request that received or validated it, *validated_at*
    that of its response. *shareable*: the entity-tag follows GitHub's rule (see
    `entity_tag_rule`). *principal* is the login or App, if known. *epoch* is the credential's when
    the request was sent. None permits no response before GitHub validates the grant (see `epochs`),
    as after a restore. The grant is of no use after *expires_at*, unless it is validated again.
    *scopes*, *sso* and *poll_interval* are the last `X-OAuth-Scopes`, `X-GitHub-SSO` and
    `X-Poll-Interval`. *borrowed_date*: GitHub sent *last_modified* to another credential only.
    """

    digest: str
    etag: bytes | None
    last_modified: bytes | None
    link: bytes | None
    requested_at: float
    validated_at: float
    shareable: bool = False
    principal: str | None = None
    expires_at: float = inf
    scopes: bytes | None = None
    sso: bytes | None = None
    poll_interval: bytes | None = None
    #: Names and hash of the fields by which the response varies beyond its key (see `vary`).
    varied: bytes | None = None
    epoch: bytes | None = None
    borrowed_date: bool = False


@frozen_value
class NegativeResponse:
    """A 404, 410 or 301 that is repeated to its credential for a short time.

    *requested_at* and *received_at* are the times of request and response. *epoch* is the
    credential's at the request. *fields* are those that are repeated. *content* is in *coding*, as
    GitHub sent it (empty: none). *found* are the 200s of the key that were known before, each with
    its digest and its time (see `negative_responses`).
    """

    requested_at: float
    received_at: float
    epoch: bytes
    status: int
    fields: Fields
    content: bytes = field(repr=False)
    coding: bytes = b""
    found: tuple[tuple[str, float], ...] = ()


@frozen_value
class Entry:
    """A representation in the recency list of its cache key.

    *received_at* is the time of the last 200 with it, and *validated_at* the time when GitHub last
    confirmed it to any credential. *shareable*: its entity-tag follows GitHub's rule. *link* and
    *last_modified* are the last that were sent with it. *supersedes* is the digest that the
    receiver of the 200 had before.
    """

    digest: str
    received_at: float
    validated_at: float
    shareable: bool
    size: int
    link: bytes | None = None
    last_modified: bytes | None = None
    principal: str | None = None
    supersedes: str | None = None

    def validated(self, at: float, login: str | None) -> Entry:
        """Return the entry after a validation at time *at*, for the user *login* if known."""
        return Entry(
            self.digest,
            self.received_at,
            at,
            self.shareable,
            self.size,
            self.link,
            self.last_modified,
            login or self.principal,
            self.supersedes,
        )


def _merged(one: Entry, other: Entry) -> Entry:
    """Return the later of two entries of one representation, with the time of the later 200."""
    newer, older = (one, other) if one.validated_at >= other.validated_at else (other, one)
    if newer.received_at >= older.received_at:
        return newer
    return evolve(newer, received_at=older.received_at)


def recency_list(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the recency list of *entries*: the latest validation first, at most 8.

    Entries of one representation are merged.
    """
    entries = tuple(entries)
    if len(entries) == 2 and entries[0].digest == entries[1].digest:  # noqa: PLR2004
        return (_merged(entries[1], entries[0]),)
    merged: dict[str, Entry] = {}
    for entry in entries:
        same = merged.get(entry.digest)
        merged[entry.digest] = entry if same is None else _merged(entry, same)
    newest_first = sorted(merged.values(), key=lambda item: -item.validated_at)
    return tuple(newest_first[:RECENCY_LENGTH])


def with_entry(entries: tuple[Entry, ...], entry: Entry) -> tuple[Entry, ...]:
    """Return a recency list with *entry* inserted in order of validation."""
    return recency_list((*entries, entry))


def _later(one: NegativeResponse | None, other: NegativeResponse | None) -> NegativeResponse | None:
    """Return the one of two negative responses whose request was sent later."""
    if one is None or (other is not None and other.requested_at > one.requested_at):
        return other
    return one


@frozen_value
class Known:
    """The records known of one cache key and one credential: the result of a look-up in a store.

    *epoch* is the credential's. *refused_at* is the time of the last request whose response
    refused this key to the credential, or ended its grant otherwise (0.0: none). *unstorable*:
    recent responses to this key were not storable. *limits* are the rate limits in force for the
    credential and for the resource of this key. *current*: it was read from the primary, so that no
    stored refusal is missing. *negative* is the response of the latest
    request, if it may be repeated.
    """

    grant: Grant | None = None
    entries: tuple[Entry, ...] = ()
    epoch: bytes | None = None
    refused_at: float = 0.0
    unstorable: bool = False
    limits: tuple[Limit, ...] = ()
    current: bool = True
    negative: NegativeResponse | None = None

    def entry_of(self, digest: str) -> Entry | None:
        """Return the entry of a representation, or None."""
        for entry in self.entries:
            if entry.digest == digest:
                return entry
        return None

    @property
    def refused(self) -> bool:
        """Whether a refusal is stored: GitHub refused this key, or ended the grant otherwise."""
        return self.refused_at > 0

    @property
    def permits(self) -> bool:
        """Whether the grant permits a response that GitHub does not validate now (see `epochs`)."""
        grant = self.grant
        if grant is None or grant.epoch is None or grant.epoch != self.epoch:
            return False
        return grant.requested_at > self.refused_at

    @property
    def currently_permits(self) -> bool:
        """Whether `permits` holds, and no stored refusal can be missing: see *current*.

        Only then a response is sent that GitHub does not validate now.
        """
        return self.current and self.permits

    @property
    def latest_at(self) -> float:
        """The time of the latest request: of the grant, the refusal, the negative response."""
        requested_at = 0.0 if self.grant is None else self.grant.requested_at
        if self.negative is not None:
            requested_at = max(requested_at, self.negative.requested_at)
        return max(requested_at, self.refused_at)

    def effective(self, now: float) -> Known:
        """Return these records; without the grant, if it has expired or a refusal outweighs it.

        A refusal outweighs a grant whose request was sent earlier, or at the same time. A negative
        response is left out, too, if its request was not the latest.
        """
        grant, negative = self.grant, self.negative
        if negative is not None and negative.requested_at < self.latest_at:
            return evolve(self, negative=None).effective(now)
        if grant is None or (grant.requested_at > self.refused_at and grant.expires_at > now):
            return self
        return evolve(self, grant=None)

    def unvalidated(self) -> Known:
        """Return these records with the grant's epoch removed: GitHub must validate it first."""
        grant = self.grant
        return self if grant is None else evolve(self, grant=evolve(grant, epoch=None))

    def merged(self, other: Known) -> Known:
        """Return the newer records of this look-up and of *other*, which is of the same key.

        The result has the epoch of this look-up, and is as current as it.
        """
        grant = self.grant
        if grant is None or (
            other.grant is not None and other.grant.requested_at > grant.requested_at
        ):
            grant = other.grant
        entries, others = self.entries, other.entries
        if entries != others:
            # Mostly there is one entry of one representation, and that of *other* is later.
            single = len(entries) == len(others) == 1
            if single or not set(others) <= set(entries):
                entries = recency_list((*entries, *others))
        return Known(
            grant=grant,
            entries=entries,
            epoch=self.epoch,
            refused_at=max(self.refused_at, other.refused_at),
            unstorable=self.unstorable or other.unstorable,
            limits=latest_of_each_scope(self.limits, other.limits),
            current=self.current,
            negative=_later(self.negative, other.negative),
        )
