"""Names of credentials in records: keyed hashes, from which no credential can be recovered."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from attrs import field, frozen

from ghmirror_tw.caching.key import length_prefixed
from ghmirror_tw.github.credentials import app_in, token_in
from ghmirror_tw.http.fields import Fields


@frozen(eq=False)
class CredentialNames:
    """Names credentials by a keyed hash, so that no credential is stored.

    A name is HMAC-SHA-256 with *secret* (plain SHA-256 without one), in 32 hex digits. Replicas
    with the same secret and *origin* compute the same names. This object is the function that
    `Fields.memoised` memoises, so a process has only one. *older* are the names by former secrets:
    records are looked up under them, and none is stored.
    """

    secret: bytes = field(default=b"", repr=False)
    origin: bytes = b""
    older: tuple[CredentialNames, ...] = ()

    @classmethod
    def by(cls, secrets: Sequence[bytes], origin: bytes) -> CredentialNames:
        """Return the names by the first of *secrets*, with those by the others as older ones."""
        current, *others = secrets or (b"",)
        return cls(current, origin, tuple([cls(secret, origin) for secret in others]))

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The current secret, and the older ones."""
        return self.secret, *[names.secret for names in self.older]

    def of(self, fields: Fields) -> str:
        """Return the name of the unchanged `Authorization` value in *fields*."""
        return fields.memoised(self)[0]

    def token_of(self, fields: Fields) -> str:
        """Return the name of the token in *fields*, which is the same with every scheme.

        GitHub's rate limits apply to the token, and so do its refusals (401) and the effects of a
        write. Its entity-tags depend on the literal value.
        """
        return fields.memoised(self)[1]

    def older_tokens_of(self, fields: Fields) -> tuple[str, ...]:
        """Return the older names of the token in *fields*, by which other replicas may know it."""
        return tuple([names.token_of(fields) for names in self.older])

    def __call__(self, fields: Fields) -> tuple[str, str, str]:
        """Return the names of credential and token, and the App that the token names."""
        authorization = fields.get(b"authorization")
        name = self.name(authorization)
        token = b"" if authorization is None else token_in(authorization)
        usual = b"token " + token
        token_name = name if not token or usual == authorization else self.name(usual)
        return name, token_name, app_in(token)

    def name(self, authorization: bytes | None) -> str:
        """Return the name of an `Authorization` value; None: a request without a credential."""
        value = b"credential\0" + length_prefixed(authorization)
        if self.origin:
            value = b"origin" + length_prefixed(self.origin) + value
        if self.secret:
            return hmac.digest(self.secret, value, "sha256").hex()[:32]
        return hashlib.sha256(value).hexdigest()[:32]
