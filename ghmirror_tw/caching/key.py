"""The cache key (RFC 9111, section 2)."""

from __future__ import annotations

import hashlib
from typing import Final

from attrs import field, frozen

from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.target_memo import memoised_by_target

#: Request fields of the cache key; each may occur once.
KEY_FIELDS: Final = (b"accept", b"x-github-api-version", b"x-requested-with")

#: GitHub's other own fields belong to it, too: `X-GitHub-Next-Global-ID` changes content.
_PREFIX: Final = b"x-github-"

#: A one-time password is a credential; a request with one bypasses the cache.
_OTP: Final = b"x-github-otp"
_GITHUB_COM: Final = "https://api.github.com"


def server_id(api_url: str) -> bytes:
    """Return the identifier of the server at *api_url* in the names of records.

    Mirrors of different servers may share one Redis or one bucket, and their records have different
    names. The identifier of GitHub.com is empty.
    """
    url = api_url.lower().rstrip("/")
    return b"" if url == _GITHUB_COM else url.encode()


def is_key_field(name: bytes) -> bool:
    """Return whether a request field (lower case) is part of the cache key."""
    return name in KEY_FIELDS or (name.startswith(_PREFIX) and name != _OTP)


def length_prefixed(value: bytes | None) -> bytes:
    """Return *value* encoded so that concatenations are unambiguous; None has an encoding, too."""
    return b"-" if value is None else b"%d:%s" % (len(value), value)


@frozen(cache_hash=True)
class CacheKey:
    """The cache key: the target byte for byte, and the values of the fields of the key.

    *others* are GitHub's other own fields, sorted by name. *origin* is the server (see
    `server_id`). *name* is a hash of an unambiguous encoding; an absent field and an empty one
    differ.
    """

    target: bytes
    accept: bytes | None = None
    api_version: bytes | None = None
    requested_with: bytes | None = None
    others: tuple[tuple[bytes, bytes], ...] = ()
    origin: bytes = b""
    name: str = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        encoded = b"".join(
            map(length_prefixed, (self.target, self.accept, self.api_version, self.requested_with))
        )
        encoded += b"".join([length_prefixed(part) for line in self.others for part in line])
        if self.origin:
            encoded = b"origin" + length_prefixed(self.origin) + encoded
        object.__setattr__(self, "name", hashlib.sha256(encoded).hexdigest()[:40])

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    @classmethod
    def of(cls, target: bytes, fields: Fields, origin: bytes = b"") -> CacheKey:
        """Return the key of a request to *origin* for *target* with *fields*."""
        values, others = fields.memoised(_key_values)
        if others:
            return CacheKey(target, *values, others, origin)
        return _key(target, *values, origin)


@memoised_by_target
def _key(
    target: bytes,
    accept: bytes | None,
    api_version: bytes | None,
    requested_with: bytes | None,
    origin: bytes,
) -> CacheKey:
    return CacheKey(target, accept, api_version, requested_with, origin=origin)


def _key_values(
    fields: Fields,
) -> tuple[tuple[bytes | None, bytes | None, bytes | None], tuple[tuple[bytes, bytes], ...]]:
    accept, version, requested_with = map(fields.get, KEY_FIELDS)
    others = {
        name: value for name, value in fields.lines if name not in KEY_FIELDS and is_key_field(name)
    }
    return (accept, version, requested_with), tuple(sorted(others.items()))
