"""Credentials as GitHub defines them: schemes, tokens and their lifetimes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import datetime
from math import inf
from typing import Final

from ghmirror_tw.http.fields import Fields

#: The schemes whose credentials GitHub validates, in lower case.
_VALIDATED_SCHEMES: Final = frozenset({b"token", b"bearer", b"basic"})

#: Passwords of Basic authentication that mean: the user is the token.
_NO_PASSWORD: Final = frozenset({b"", b"x-oauth-basic"})

#: The lifetime of tokens in seconds, by prefix: of installations, of Apps for users, and JSON Web
#: Tokens of Apps (GitHub: authenticating with an App).
_LIFETIMES_S: Final = ((b"ghs_", 3600.0), (b"ghu_", 8 * 3600.0), (b"eyJ", 600.0))
#: The forms of GitHub's tokens, all of which are random (GitHub: token formats).
_TOKEN: Final = re.compile(
    rb"gh[pousr]_[A-Za-z0-9_.-]{30,}|github_pat_[A-Za-z0-9_]{30,}|(?:v1\.)?[0-9a-f]{40}"
)
_INSTALLATION: Final = re.compile(rb"ghs_([1-9][0-9]{0,18})_")
_EXPIRATION: Final = b"github-authentication-token-expiration"


def token_in(authorization: bytes) -> bytes:
    """Return the token in an `Authorization` value; empty if GitHub does not validate its scheme.

    In Basic authentication it is the password, or the user if the password is a placeholder
    (GitHub: basic authentication with a token).
    """
    if not is_validated(authorization):
        return b""
    scheme, _, value = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return value.strip()
    try:
        # Some servers accept Base64 without its padding; here, too much of it is ignored.
        user, _, password = base64.b64decode(value + b"==").partition(b":")
    except binascii.Error:
        return b""
    return user if password in _NO_PASSWORD else password


def hashed_token(fields: Fields) -> str | None:
    """Return the SHA-256 of the token in *fields* in base64, as GitHub's audit log has it.

    None for anything but GitHub's tokens: from the hash of a password, it could be guessed (GitHub:
    identifying audit log events performed by an access token).
    """
    authorization = fields.get(b"authorization")
    token = b"" if authorization is None else token_in(authorization)
    if _TOKEN.fullmatch(token) is None:
        return None
    return base64.b64encode(hashlib.sha256(token).digest()).decode("ascii")


def app_in(token: bytes) -> str:
    """Return the GitHub App that an installation token names, as ``app:ID``; empty: none.

    Such a token is ``ghs_``, the ID of the App, and a JSON Web Token (GitHub: authenticating as an
    installation). Only GitHub's acceptance of the token shows that the ID is not made up.
    """
    found = _INSTALLATION.match(token)
    return "" if found is None else f"app:{found[1].decode('ascii')}"


def is_validated(authorization: bytes) -> bool:
    """Return whether GitHub validates a credential with the scheme of *authorization*."""
    return authorization.partition(b" ")[0].lower() in _VALIDATED_SCHEMES


def lifetime_s(token: bytes) -> float:
    """Return the longest lifetime of a token in seconds, by its prefix; infinite if unknown."""
    return min((life for prefix, life in _LIFETIMES_S if token.startswith(prefix)), default=inf)


def token_expires_at(fields: Fields) -> float:
    """Return the time at which the token expires by a response with *fields*; infinite: never."""
    value = fields.get(_EXPIRATION)
    return inf if value is None else _time_of(value)


def _time_of(value: bytes) -> float:
    """Return the time at which a token expires, in GitHub's format; infinite if invalid."""
    try:
        text = value.decode("latin-1").replace("UTC", "+0000")
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S %z").timestamp()
    except (ValueError, OverflowError):
        return inf
