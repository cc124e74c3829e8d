"""Under what a stored response is found again, and how a credential is named without being kept."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

from attrs import field, frozen

from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.remembered import remembered

#: Request fields that, with the target, select a representation; each may come once.
KEY_FIELDS: Final = (b"accept", b"x-github-api-version", b"x-requested-with")
#: Other fields of GitHub's own belong to it, too: `X-GitHub-Next-Global-ID` changes content.
_PREFIX: Final = b"x-github-"
#: A one-time password is a credential; requests with one are not stored.
_OTP: Final = b"x-github-otp"


_GITHUB_COM: Final = "https://api.github.com"


def origin_of(api_url: str) -> bytes:
    """Return the identifier of the server at *api_url* in the names of records.

    Mirrors of different servers may share one Redis or one bucket, and no record of one server is
    found by a mirror of another. GitHub.com's is empty.
    """
    url = api_url.lower().rstrip("/")
    return b"" if url == _GITHUB_COM else url.encode()


def is_key_field(name: bytes) -> bool:
    """Tell whether a request field (lower case) is part of the cache key."""
    return name in KEY_FIELDS or (name.startswith(_PREFIX) and name != _OTP)


def _chunk(value: bytes | None) -> bytes:
    return b"-" if value is None else b"%d:%s" % (len(value), value)


@frozen(cache_hash=True)
class CacheKey:
    """The cache key (RFC 9111, section 2): target byte for byte, and the fields that select.

    *others* are further fields of GitHub's own, in the order of their names; *origin* is the server
    (see `origin_of`). An absent field and an empty one are different keys, and no two keys share an
    encoding.
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
            map(_chunk, (self.target, self.accept, self.api_version, self.requested_with))
        )
        encoded += b"".join([_chunk(part) for line in self.others for part in line])
        if self.origin:
            encoded = b"origin" + _chunk(self.origin) + encoded
        object.__setattr__(self, "name", hashlib.sha256(encoded).hexdigest()[:40])

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    @classmethod
    def of(cls, target: bytes, fields: Fields, origin: bytes = b"") -> CacheKey:
        """Return the key of a request to *origin* for *target* with *fields*."""
        selecting, others = fields.once(_selecting)
        if others:
            return CacheKey(target, *selecting, others, origin)
        return _key(target, *selecting, origin)


@remembered
def _key(
    target: bytes,
    accept: bytes | None,
    api_version: bytes | None,
    requested_with: bytes | None,
    origin: bytes,
) -> CacheKey:
    return CacheKey(target, accept, api_version, requested_with, origin=origin)


def _selecting(
    fields: Fields,
) -> tuple[tuple[bytes | None, bytes | None, bytes | None], tuple[tuple[bytes, bytes], ...]]:
    accept, version, requested_with = map(fields.get, KEY_FIELDS)
    others = {
        name: value for name, value in fields.lines if name not in KEY_FIELDS and is_key_field(name)
    }
    return (accept, version, requested_with), tuple(sorted(others.items()))


#: What clients send as a password beside a token that is the user, and as a user beside one that is
#: the password.
_NO_PASSWORD: Final = frozenset({b"", b"x-oauth-basic"})


#: With what clients send a token, letter by letter: GitHub takes both, in any case.
_SCHEMES: Final = (b"token ", b"Bearer ", b"bearer ")
#: The schemes that GitHub knows, in lower case.
SCHEMES_OF_TOKENS: Final = frozenset({b"token", b"bearer", b"basic"})


def token_in(authorization: bytes) -> bytes:
    """Return the token in an `Authorization` value: behind the scheme, or in Basic's pair.

    In Basic it is the password, or the user where the password says nothing (GitHub: basic
    authentication with a token).
    """
    scheme, _, value = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return value.strip()
    try:
        user, _, password = base64.b64decode(value).partition(b":")
    except binascii.Error:
        return b""
    return user if password in _NO_PASSWORD else password


@frozen(eq=False)
class CredentialNames:
    """Names credentials by a keyed hash, so that the credential itself is never remembered.

    HMAC-SHA-256 with *secret*; plain SHA-256 where there is none. 32 hex digits; the same
    credential has the same name in every replica that has the same secret and *origin*.
    `Fields.once` memoizes names by this object, so a new one is made only for another secret.
    """

    secret: bytes = field(default=b"", repr=False)
    origin: bytes = b""

    def of(self, fields: Fields) -> str:
        """Return the name of the credential in a request's *fields*: of the unchanged value."""
        return fields.once(self)[0]

    def token_of(self, fields: Fields) -> str:
        """Return the name of the token in a request's *fields*, with any scheme.

        GitHub's limits belong to the token. Its entity-tags belong to the literal value.
        """
        return fields.once(self)[1]

    def writers_of(self, fields: Fields) -> frozenset[str]:
        """Return the names of all credentials for which a request with *fields* is their own write.

        That is the value as it is, and the token behind the schemes that clients send it with: one
        program may write with one and read with another.
        """
        authorization = fields.get(b"authorization")
        names = {self.of(fields)}
        if authorization is not None and (token := token_in(authorization)):
            names |= {self.name(scheme + token) for scheme in _SCHEMES}
        return frozenset(names)

    def __call__(self, fields: Fields) -> tuple[str, str]:
        """Return both names; called by `Fields.once`, which memoizes the result."""
        authorization = fields.get(b"authorization")
        name = self.name(authorization)
        token = b"" if authorization is None else token_in(authorization)
        usual = b"token " + token
        return name, name if not token or usual == authorization else self.name(usual)

    def name(self, authorization: bytes | None) -> str:
        """Return the name of an `Authorization` value; None is who asks without one."""
        value = b"credential\0" + _chunk(authorization)
        if self.origin:
            value = b"origin" + _chunk(self.origin) + value
        if self.secret:
            return hmac.digest(self.secret, value, "sha256").hex()[:32]
        return hashlib.sha256(value).hexdigest()[:32]
