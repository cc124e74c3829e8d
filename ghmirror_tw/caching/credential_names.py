"""Names of credentials in records: keyed hashes, from which no credential can be recovered."""

from __future__ import annotations

import hashlib
import hmac

from attrs import field, frozen

from ghmirror_tw.caching.key import length_prefixed
from ghmirror_tw.github.credentials import TOKEN_SCHEMES, token_in
from ghmirror_tw.http.fields import Fields


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
            names |= {self.name(scheme + token) for scheme in TOKEN_SCHEMES}
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
        value = b"credential\0" + length_prefixed(authorization)
        if self.origin:
            value = b"origin" + length_prefixed(self.origin) + value
        if self.secret:
            return hmac.digest(self.secret, value, "sha256").hex()[:32]
        return hashlib.sha256(value).hexdigest()[:32]
