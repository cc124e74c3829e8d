"""Credentials as GitHub defines them: schemes, tokens, lifetimes."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from math import inf
from typing import Final

#: The schemes that GitHub knows, in lower case.
_VALIDATED_SCHEMES: Final = frozenset({b"token", b"bearer", b"basic"})

#: What clients send as a password beside a token that is the user, and as a user beside one that is
#: the password.
_NO_PASSWORD: Final = frozenset({b"", b"x-oauth-basic"})

#: With what clients send a token, letter by letter: GitHub takes both, in any case.
TOKEN_SCHEMES: Final = (b"token ", b"Bearer ", b"bearer ")

#: The lifetime of tokens in seconds, by prefix: tokens of installations, tokens of Apps for users,
#: and JSON Web Tokens of Apps (GitHub: authenticating with an App).
_LIFETIMES_S: Final = ((b"ghs_", 3600.0), (b"ghu_", 8 * 3600.0), (b"eyJ", 600.0))
_EXPIRATION: Final = b"github-authentication-token-expiration"


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


def is_validated(authorization: bytes) -> bool:
    """Tell whether GitHub validates a credential with the scheme of *authorization*."""
    return authorization.partition(b" ")[0].lower() in _VALIDATED_SCHEMES


def _time_of(told: bytes) -> float:
    """Return when a token ends, as GitHub writes it; what isn't a time is never."""
    try:
        text = told.decode("latin-1").replace("UTC", "+0000")
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S %z").timestamp()
    except (ValueError, OverflowError):
        return inf
