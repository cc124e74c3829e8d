"""GitHub's spelling of field names over HTTP/1.1.

Names are case-insensitive (RFC 9110, section 5.1), but some clients compare them case-sensitively.
Over HTTP/1.1 the mirror spells them as api.github.com does in recorded responses; in HTTP/2 all
names are lower case (RFC 9113, section 8.2).
"""

from __future__ import annotations

from typing import Final

#: Spellings by lower-case name, where not simply each part begins with a capital.
SPELLINGS: Final = {
    name.lower(): name
    for name in (
        b"ETag",
        b"X-Accepted-GitHub-Permissions",
        b"X-Accepted-OAuth-Scopes",
        b"X-GitHub-Enterprise-Host",
        b"X-GitHub-Enterprise-Version",
        b"X-GitHub-Media-Type",
        b"X-GitHub-OTP",
        b"X-GitHub-Request-Id",
        b"X-GitHub-SSO",
        b"X-OAuth-Client-Id",
        b"X-OAuth-Scopes",
        b"X-RateLimit-Limit",
        b"X-RateLimit-Remaining",
        b"X-RateLimit-Reset",
        b"X-RateLimit-Resource",
        b"X-RateLimit-Used",
        # GitHub's newer fields are in lower case over HTTP/1.1, too.
        b"github-authentication-token-expiration",
        b"x-github-api-version-selected",
    )
}
