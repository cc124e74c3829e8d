"""Which fields of a client's request GitHub gets.

A storable request is forwarded with a canonical set of fields, so that nothing else which one
client sends can colour the response that others get: what is the same here is the same for GitHub.
"""

from __future__ import annotations

from typing import Final

from ghmirror_tw.policy.agents import respelled
from ghmirror_tw.policy.fields import Fields
from ghmirror_tw.policy.key import is_key_field

#: What a client without a `User-Agent` is to GitHub, which refuses requests that have none.
OWN_AGENT: Final = b"ghmirror"
#: Fields that belong to the mirror's own connection, or to other sites of its domain.
_OWN: Final = frozenset({b"host", b"content-length", b"expect", b"cookie"})
#: Fields by which a server may take another host, path, method or client for the request's own.
_OVERRIDING: Final = frozenset(
    {
        *(b"forwarded", b"x-rewrite-url", b"x-real-ip"),
        *(b"x-http-method-override", b"x-http-method", b"x-method-override"),
    }
)
_OVERRIDING_PREFIXES: Final = (b"x-forwarded-", b"x-original-")


def forwarded(fields: Fields) -> Fields:
    """Return those *fields* of any request that go to GitHub (RFC 9110, section 7.6.1)."""
    return Fields.of(
        tuple(
            [
                line
                for line in fields.end_to_end().lines
                if line[0] not in _OWN
                and line[0] not in _OVERRIDING
                and not line[0].startswith(_OVERRIDING_PREFIXES)
            ]
        )
    )


def canonical(fields: Fields) -> Fields:
    """Return the fields of a storable request as GitHub gets them, but for preconditions.

    Those of the cache key, `Authorization`, `User-Agent` and `Accept-Encoding`; `Via` is added to
    every request.
    """
    kept = [line for line in fields.lines if is_key_field(line[0]) or line[0] == b"authorization"]
    agent = respelled(fields.get(b"user-agent") or OWN_AGENT)
    return Fields.of((*kept, (b"user-agent", agent), (b"accept-encoding", b"gzip")))
