"""Under what names records are kept where only bytes are: in Redis (behind a prefix), in snapshots.

What is in braces is the hash tag: all records of a cache key share a slot of a Redis Cluster, and
so do those of a credential (Redis Cluster specification, hash tags).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from attrs import frozen

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.store.store_interface import LockName


def slot_of_key(key: CacheKey) -> bytes:
    """Return the hash tag of all records of *key*."""
    return key.name.encode("ascii")


def slot_of_credential(credential: str) -> bytes:
    """Return the hash tag of all records of *credential* alone."""
    return credential.encode("ascii")


def representation(key: CacheKey, digest: str) -> bytes:
    """Return the name of a representation."""
    return b"{%s}:r:%s" % (slot_of_key(key), digest.encode("ascii"))


def grant(key: CacheKey, credential: str) -> bytes:
    """Return the name of a grant."""
    return b"{%s}:g:%s" % (slot_of_key(key), credential.encode("ascii"))


def refusal(key: CacheKey, credential: str) -> bytes:
    """Return the name of the refusal of *key* to *credential*."""
    return b"{%s}:x:%s" % (slot_of_key(key), credential.encode("ascii"))


def recency(key: CacheKey) -> bytes:
    """Return the name of the recency list, and of each entry in it."""
    return b"{%s}:l" % slot_of_key(key)


def unstorable(key: CacheKey) -> bytes:
    """Return the name of the note that answers to *key* can't be stored."""
    return b"{%s}:u" % slot_of_key(key)


def claim(lock: LockName) -> bytes:
    """Return the name of the claim to *lock*."""
    name = b"{%s}:q" % slot_of_key(lock.key)
    if lock.credential is None:
        return name
    return b"%s:%s" % (name, lock.credential.encode("ascii"))


def epoch(credential: str, history: bytes) -> bytes:
    """Return the name of the epoch of *credential* in a *history* of the store."""
    return b"{%s}:e:%s" % (slot_of_credential(credential), history)


def limit(token: str, scope: str) -> bytes:
    """Return the name of the limit that *token* has met in *scope*."""
    return b"{%s}:s:%s" % (slot_of_credential(token), scope.encode("ascii"))


def semaphore(credential: str, kind: str) -> bytes:
    """Return the name of the leases of all replicas on permits of *credential*."""
    return b"{%s}:b:%s" % (slot_of_credential(credential), kind.encode("ascii"))


def secondary_limit(credential: str) -> bytes:
    """Return the name of the note that *credential* has met a secondary limit of GitHub."""
    return b"{%s}:c" % slot_of_credential(credential)


class Sort(Enum):
    """What a name is the name of."""

    REPRESENTATION = "r"
    GRANT = "g"
    REFUSAL = "x"
    RECENCY = "l"


@frozen
class RecordName:
    """A name, taken apart: what it names; the cache key's name; and the rest.

    *rest* is a representation's digest, or the credential of a grant or a refusal.
    """

    sort: Sort
    slot: str
    rest: str = ""

    def encode(self) -> bytes:
        """Return the name."""
        rest = f":{self.rest}" if self.rest else ""
        return f"{{{self.slot}}}:{self.sort.value}{rest}".encode("ascii")


_OF_KEY: Final = re.compile(rb"\{([0-9a-f]{40})\}:(?:(r):([0-9a-f]{64})|([gx]):([0-9a-f]{32})|(l))")


def parse(name: bytes) -> RecordName | None:
    """Return a record's name taken apart; None for what is the name of no record."""
    found = _OF_KEY.fullmatch(name)
    if found is None:
        return None
    slot, *parts = (part.decode("ascii") for part in found.groups() if part is not None)
    return RecordName(Sort(parts[0]), slot, *parts[1:])
