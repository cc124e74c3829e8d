"""Parses the login of a credential in GitHub's responses, and recognises the tokens of Apps."""

from __future__ import annotations

import json
import re
from typing import Final

#: Requests the login by GraphQL: installation tokens get no response from `GET /user`.
VIEWER_QUERY: Final = b'{"query":"query{viewer{login}}"}'

_LOGIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}(?:\[bot\])?")
#: A JSON Web Token as GitHub Apps send it (RFC 7519; GitHub: authenticating as a GitHub App).
_APP_JWT: Final = re.compile(rb"(?i:bearer) +eyJ[\w-]*\.[\w-]+\.[\w-]+ *")


def parse_login(content: bytes) -> str | None:
    """Return the login in the content of a response to `GET /user`, or None."""
    return _login(_parse(content))


def parse_viewer(content: bytes) -> str | None:
    """Return the login in the content of a response to ``VIEWER_QUERY``, or None."""
    return _login(_member(_member(_parse(content), "data"), "viewer"))


def parse_app(content: bytes) -> str | None:
    """Return the login of a GitHub App in the content of a response to `GET /app`, or None."""
    slug = _member(_parse(content), "slug")
    return _login({"login": f"{slug}[bot]"}) if isinstance(slug, str) else None


def is_app_jwt(authorization: bytes) -> bool:
    """Return whether an `Authorization` value is the JSON Web Token of a GitHub App."""
    return _APP_JWT.fullmatch(authorization) is not None


def _parse(content: bytes) -> object:
    try:
        parsed: object = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return parsed


def _member(parsed: object, name: str) -> object:
    return parsed.get(name) if isinstance(parsed, dict) else None


def _login(parsed: object) -> str | None:
    login = _member(parsed, "login")
    return login if isinstance(login, str) and _LOGIN.fullmatch(login) else None
