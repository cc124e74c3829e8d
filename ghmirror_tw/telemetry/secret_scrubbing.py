"""Removes what looks like a credential from text that is logged or shown."""

from __future__ import annotations

import re
from typing import Final

#: Patterns of secrets; the text of a group is kept, the rest is replaced.
_SECRETS: Final = re.compile(
    r"""
    (authorization['"]?\s{0,4}[:=,]\s{0,4}\[?b?['"]?)[^'"\r\n]+        # the whole field
    | (\b(?:bearer|basic|token)\s{1,8})[^\s'",;\\)\]}]+                # credentials of a scheme
    | ((?:token|secret|password|signature)\w{0,20}['"]?\s{0,4}[:=]\s{0,4}b?['"]?)
      [^\s'"&,;)\]}]+                                                  # values with such a name
    | (://)[^/\s@'"]+(?=@)                                             # userinfo of a URL
    | gh[pousr]_[A-Za-z0-9_.\-]{16,}                                   # GitHub's tokens,
    | (?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9_.\-]+                       # also cut short,
    | github_pat_[A-Za-z0-9_]+
    | v1\.[0-9a-f]{40}                                                 # and older tokens
    | (?<![\w-])eyJ[\w-]+\.[\w-]+\.[\w-]+                              # a JWT
    """,
    re.VERBOSE | re.IGNORECASE,
)

#: A text without any of these contains no secret; this test is fast.
_HINTS: Final = (
    *("authorization", "bearer", "basic", "token", "secret", "password", "signature", "://"),
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "v1.", "eyj"),
)


def scrub(text: str) -> str:
    """Return *text* with all credentials replaced by ``***``."""
    lower = text.lower()
    for hint in _HINTS:
        if hint in lower:
            return _SECRETS.sub(_kept, text)
    return text


def _kept(found: re.Match[str]) -> str:
    return (found[found.lastindex] if found.lastindex else "") + "***"
