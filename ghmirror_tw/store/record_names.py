"""The names of records in Redis (behind a prefix) and in snapshots.

The text in braces is the hash tag: all records of a cache key share a slot of a Redis Cluster, and
so do those of a credential (Redis Cluster specification, hash tags).
"""

from __future__ import annotations

import re
from typing import Any, Final

from attrs import frozen

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.store.record_kinds import (
    ENTRY,
    EPOCH,
    GRANT,
    KINDS,
    NEGATIVE,
    REFUSAL,
    REPRESENTATION,
    RecordKind,
)
from ghmirror_tw.store.store_interface import LockName


@frozen
class RecordName:
    """A name in its parts: the kind of record, the hash tag, and the rest.

    *hash_tag* is the name of the cache key. *rest* is a representation's digest, or the credential
    of a grant, a refusal or a negative response.
    """

    kind: RecordKind[Any]
    hash_tag: str
    rest: str = ""

    def encode(self) -> bytes:
        """Return the name."""
        rest = f":{self.rest}" if self.rest else ""
        return f"{{{self.hash_tag}}}:{self.kind.letter}{rest}".encode("ascii")


def hash_tag_of_key(key: CacheKey) -> bytes:
    """Return the hash tag of all records of *key*."""
    return key.name.encode("ascii")


def hash_tag_of_credential(credential: str) -> bytes:
    """Return the hash tag of all records of *credential* alone."""
    return credential.encode("ascii")


def representation(key: CacheKey, digest: str) -> bytes:
    """Return the name of a representation."""
    return RecordName(REPRESENTATION, key.name, digest).encode()


def grant(key: CacheKey, credential: str) -> bytes:
    """Return the name of a grant."""
    return RecordName(GRANT, key.name, credential).encode()


def refusal(key: CacheKey, credential: str) -> bytes:
    """Return the name of the refusal of *key* to *credential*."""
    return RecordName(REFUSAL, key.name, credential).encode()


def negative(key: CacheKey, credential: str) -> bytes:
    """Return the name of the negative response to *credential*."""
    return RecordName(NEGATIVE, key.name, credential).encode()


def recency_list(key: CacheKey) -> bytes:
    """Return the name of the recency list, and of each entry in it."""
    return RecordName(ENTRY, key.name).encode()


def epoch(token: str) -> bytes:
    """Return the name of the epoch of *token*: of all histories of the store, only one has it."""
    return RecordName(EPOCH, token).encode() + b":current"


def epoch_in_history(token: str, history: bytes) -> bytes:
    """Return the name by which the epoch of *token* in a *history* is sealed."""
    return RecordName(EPOCH, token).encode() + b":" + history


def limit(token: str, scope: str) -> bytes:
    """Return the name of the limit that *token* has met in *scope*."""
    return b"{%s}:s:%s" % (hash_tag_of_credential(token), scope.encode("ascii"))


def unstorable(key: CacheKey) -> bytes:
    """Return the name of the note that responses to *key* can't be stored."""
    return b"{%s}:u" % hash_tag_of_key(key)


def lock(name: LockName) -> bytes:
    """Return the name of a lock."""
    of_key = b"{%s}:q" % hash_tag_of_key(name.key)
    if name.credential is None:
        return of_key
    return b"%s:%s" % (of_key, name.credential.encode("ascii"))


def semaphore(credential: str, kind: str) -> bytes:
    """Return the name of the leases of all replicas on permits of *credential*."""
    return b"{%s}:b:%s" % (hash_tag_of_credential(credential), kind.encode("ascii"))


def secondary_limit(credential: str) -> bytes:
    """Return the name of the note that *credential* has met a secondary limit of GitHub."""
    return b"{%s}:c" % hash_tag_of_credential(credential)


_BY_LETTER: Final = {kind.letter: kind for kind in KINDS if kind.rest is not None}
_OF_KEY: Final = re.compile(
    rb"\{([0-9a-f]{40})\}:(?:%s)"
    % b"|".join(b"(%s)%s" % (k.letter.encode(), k.rest) for k in _BY_LETTER.values())
)


def parse(name: bytes) -> RecordName | None:
    """Return the parts of the name of a record of a cache key; None for any other bytes."""
    found = _OF_KEY.fullmatch(name)
    if found is None:
        return None
    hash_tag, letter, *rest = (part.decode("ascii") for part in found.groups() if part is not None)
    return RecordName(_BY_LETTER[letter], hash_tag, *rest)
