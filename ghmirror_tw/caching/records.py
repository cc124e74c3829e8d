"""The records of a store: representations, grants, refusals, recency lists and epochs.

All times are seconds since the epoch, as floats with microseconds.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable
from math import inf
from typing import Final

from attrs import evolve, field, frozen

from ghmirror_tw.github.rate_limits import Limit, latest_of_each_scope
from ghmirror_tw.http.fields import CONTENT_FIELDS, Fields

#: How many representations of a cache key its recency list names.
RECENCY_LENGTH: Final = 8


def digest_of(content: bytes, fields: Fields) -> str:
    """Return what identifies a representation: a hash of its content and its content fields."""
    hashed = hashlib.sha256()
    for name, value in sorted(fields.only(CONTENT_FIELDS)):
        hashed.update(b"%d:%s%d:%s" % (len(name), name, len(value), value))
    hashed.update(b"\n")
    hashed.update(content)
    return hashed.hexdigest()


@frozen
class Representation:
    """Content as GitHub made it, gzip-compressed, with the fields that describe it.

    *digest* covers content and fields, so a representation never changes. *size* is in bytes of
    content. *items* is how many elements a top-level JSON array holds, else None.
    """

    digest: str
    fields: Fields
    packed: bytes = field(repr=False)
    size: int
    items: int | None = None

    def content(self) -> bytes:
        """Return the content, uncompressed."""
        return gzip.decompress(self.packed)


@frozen
class Grant:
    """GitHub's word that a credential may see a representation under a cache key.

    *asked_at* is when the question was asked that brought it or last confirmed it,
    *validated_at* when the answer came. *shareable*: its entity-tag is the one that we compute.
    *principal* is the login, where known. *epoch* is that of the credential when the question was
    asked; None: it permits nothing before GitHub has confirmed it (see `order`), as after a
    restore. *expires_at*: it is of no use after that, unless it is confirmed again.
    *scopes*, *sso* and *poll_interval* are the last `X-OAuth-Scopes`, `X-GitHub-SSO` and
    `X-Poll-Interval` that came with it.
    """

    digest: str
    etag: bytes | None
    last_modified: bytes | None
    link: bytes | None
    asked_at: float
    validated_at: float
    shareable: bool = False
    principal: str | None = None
    expires_at: float = inf
    scopes: bytes | None = None
    sso: bytes | None = None
    poll_interval: bytes | None = None
    #: Names and hash of fields, for a response that varies by more than its key (see `varying`).
    varied: bytes | None = None
    epoch: bytes | None = None


@frozen
class Entry:
    """A representation in the recency list of its cache key, and what was learned of it.

    *brought_at*: when a 200 last brought it; *validated_at*: when GitHub last confirmed it to
    anybody; *shareable*: its entity-tag is the one that we compute; *link* and *last_modified*:
    as last sent with it; *supersedes*: the digest that its bringer had before.
    """

    digest: str
    brought_at: float
    validated_at: float
    shareable: bool
    size: int
    link: bytes | None = None
    last_modified: bytes | None = None
    principal: str | None = None
    supersedes: str | None = None

    def validated(self, at: float, login: str | None) -> Entry:
        """Return this as it is after GitHub has confirmed it to *login* (where known)."""
        return Entry(
            self.digest,
            self.brought_at,
            at,
            self.shareable,
            self.size,
            self.link,
            self.last_modified,
            login or self.principal,
            self.supersedes,
        )


def _merged(one: Entry, other: Entry) -> Entry:
    """Return the later of two entries for one representation, with the later 200."""
    newer, older = (one, other) if one.validated_at >= other.validated_at else (other, one)
    if newer.brought_at >= older.brought_at:
        return newer
    return evolve(newer, brought_at=older.brought_at)


def recency_list(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the recency list that *entries* make: newest validation first, at most 8.

    There may be several for one representation: the later one wins, and the later 200 is kept
    with it. What is older than all of a full list is left out.
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
    """Return a recency list with *entry* in its place."""
    return recency_list((*entries, entry))


@frozen
class Known:
    """What a store knows of a cache key for one credential.

    *grant* is None where there is none. *epoch* is that of the credential (None: there is none).
    *refused_at* is when the last request was sent for which GitHub refused this key to the
    credential (0.0: never). *unstorable*: answers to this key have lately proved not to be
    storable. *limits*: those that stop the credential, or what counts as this key does. *current*:
    it was read where it is written, so that no refusal is missing that was stored before.
    """

    grant: Grant | None = None
    entries: tuple[Entry, ...] = ()
    epoch: bytes | None = None
    refused_at: float = 0.0
    unstorable: bool = False
    limits: tuple[Limit, ...] = ()
    current: bool = True

    def entry_of(self, digest: str) -> Entry | None:
        """Return the entry of a representation, if it is listed."""
        for entry in self.entries:
            if entry.digest == digest:
                return entry
        return None

    @property
    def refused(self) -> bool:
        """Whether GitHub has refused this to the credential before."""
        return self.refused_at > 0

    @property
    def permits(self) -> bool:
        """Whether the grant permits a response that GitHub does not confirm now (see `order`)."""
        grant = self.grant
        if grant is None or grant.epoch is None or grant.epoch != self.epoch:
            return False
        return grant.asked_at > self.refused_at

    @property
    def latest_at(self) -> float:
        """The time of the latest request among those of the grant and the refusal."""
        asked_at = 0.0 if self.grant is None else self.grant.asked_at
        return max(asked_at, self.refused_at)

    def effective(self, now: float) -> Known:
        """Return this without a grant that has expired, or that a refusal outweighs.

        A refusal outweighs what was asked for before it, or at the same time.
        """
        grant = self.grant
        if grant is None or (grant.asked_at > self.refused_at and grant.expires_at > now):
            return self
        return evolve(self, grant=None)

    def unvalidated(self) -> Known:
        """Return this with a grant that permits nothing before GitHub has confirmed it."""
        grant = self.grant
        return self if grant is None else evolve(self, grant=evolve(grant, epoch=None))

    def merged(self, other: Known) -> Known:
        """Return what this and *other* know of the same: always the newer of two words.

        It is as current as this one, and has its epoch.
        """
        grant = self.grant
        if grant is None or (other.grant is not None and other.grant.asked_at > grant.asked_at):
            grant = other.grant
        entries, others = self.entries, other.entries
        if entries != others:
            # mostly there is one, and the other's is the later word on the same
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
        )
