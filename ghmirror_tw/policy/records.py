"""The records that a store keeps: representations, grants, refusals and recency lists.

All times are seconds since the epoch, as floats with microseconds.
"""

from __future__ import annotations

import gzip
import hashlib
from typing import Final

from attrs import evolve, field, frozen

from ghmirror_tw.policy.fields import CONTENT_FIELDS, Fields

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
    *principal* is the login, where known. *restored*: it came out of a snapshot and has not been
    validated since.
    """

    digest: str
    etag: bytes | None
    last_modified: bytes | None
    link: bytes | None
    asked_at: float
    validated_at: float
    shareable: bool = False
    principal: str | None = None
    restored: bool = False


@frozen
class Entry:
    """A representation in the recency list of its cache key, and what was learned of it.

    *brought_at*: when a 200 last brought it; *validated_at*: when GitHub last confirmed it to
    anybody; *shareable*: its entity-tag is the one that we compute; *link* and *last_modified*:
    as last sent with it; *supersedes*: the digest that its bringer had before; *complete*: a full
    page that is known to be all there is, though nothing can be asked for the page after it.
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
    complete: bool = False


def refreshed(entries: tuple[Entry, ...], entry: Entry) -> tuple[Entry, ...]:
    """Return a recency list with *entry* in its place: newest validation first, at most 8.

    The later of two entries for one representation wins, and the later 200 is kept with it; what
    is older than all of a full list is left out.
    """
    merged: dict[str, Entry] = {old.digest: old for old in entries}
    old = merged.get(entry.digest)
    if old is not None:
        newer, older = (entry, old) if entry.validated_at >= old.validated_at else (old, entry)
        entry = evolve(newer, brought_at=max(newer.brought_at, older.brought_at))
    merged[entry.digest] = entry
    ranked = sorted(merged.values(), key=lambda item: -item.validated_at)
    return tuple(ranked[:RECENCY_LENGTH])


@frozen
class Known:
    """What a store knows of a cache key for one credential.

    *grant* is None where there is none, or where a refusal that was asked for at the same time or
    later outweighs it. *written_at* is when the credential last wrote (0.0: never seen to).
    *refused*: GitHub has refused this key, or everything, to the credential before.
    *unstorable*: answers to this key have lately proved not to be storable.
    """

    grant: Grant | None = None
    entries: tuple[Entry, ...] = ()
    written_at: float = 0.0
    refused: bool = False
    unstorable: bool = False
