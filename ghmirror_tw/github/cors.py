"""Cross-origin requests of browsers, allowed as GitHub allows them (Fetch Standard, CORS protocol).

The values are those that api.github.com sent in October 2026.
"""

from __future__ import annotations

from typing import Final

from ghmirror_tw.http.fields import Fields

#: Response fields that scripts of other origins may read: GitHub's, then the mirror's own.
EXPOSED: Final = (
    b"ETag, Link, Location, Retry-After, X-GitHub-OTP, X-RateLimit-Limit, X-RateLimit-Remaining, "
    b"X-RateLimit-Used, X-RateLimit-Resource, X-RateLimit-Reset, X-OAuth-Scopes, "
    b"X-Accepted-OAuth-Scopes, X-Poll-Interval, X-GitHub-Media-Type, X-GitHub-SSO, "
    b"X-GitHub-Request-Id, Deprecation, Sunset, Warning, "
    b"Cache-Status, Age, X-Cache, X-From-Cache, X-Cache-Mode"
)

#: Fields of every response, in place of those that came from GitHub.
ON_EVERY_RESPONSE: Final = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", EXPOSED),
)

#: Request fields that scripts of other origins may send.
_ALLOWED: Final = (
    b"Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Match, "
    b"If-Unmodified-Since, Accept-Encoding, X-GitHub-OTP, X-Requested-With, User-Agent, "
    b"GraphQL-Features, X-Github-Next-Global-ID, X-GitHub-Api-Version, X-Fetch-Nonce, "
    b"Copilot-Integration-Id, DD-CLIENT-TOKEN, X-Client-Application"
)

#: Further fields of the response to a preflight.
ON_PREFLIGHT: Final = (
    (b"access-control-allow-headers", _ALLOWED),
    (b"access-control-allow-methods", b"GET, POST, PATCH, PUT, DELETE"),
    (b"access-control-max-age", b"86400"),
)


def is_preflight(method: bytes, fields: Fields) -> bool:
    """Return whether a request is a CORS preflight; browsers send it without a credential."""
    return method == b"OPTIONS" and fields.get(b"access-control-request-method") is not None
