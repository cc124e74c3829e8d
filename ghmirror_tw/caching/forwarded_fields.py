"""The fields that are forwarded: of a request to GitHub, of a response to the client.

A storable request is forwarded with a canonical set of fields. No other field of one client's
request can then influence the response that other clients receive.
"""

from __future__ import annotations

from typing import Final

from ghmirror_tw.caching.key import is_key_field
from ghmirror_tw.github.json_indenting import without_indenting_names
from ghmirror_tw.http.fields import FRAMING, HOP_BY_HOP, Fields

#: The `User-Agent` for a client that sends none: GitHub refuses requests without one.
DEFAULT_USER_AGENT: Final = b"ghmirror"

#: Fields for the mirror itself; cookies belong to other sites of its domain.
_OWN: Final = frozenset({b"host", b"content-length", b"expect", b"cookie"})

#: Fields that make some servers replace the host, path, method or client address of a request.
_OVERRIDING: Final = frozenset(
    {
        *(b"forwarded", b"x-rewrite-url", b"x-real-ip"),
        *(b"x-http-method-override", b"x-http-method", b"x-method-override"),
    }
)

_OVERRIDING_PREFIXES: Final = (b"x-forwarded-", b"x-original-")

#: Response fields that are not forwarded: those of one connection, and cookies. A cookie would
#: reach every client that shares the response, and no client of the API uses one.
_NOT_FORWARDED: Final = HOP_BY_HOP | FRAMING | {b"set-cookie"}


def forwarded_request_fields(fields: Fields) -> Fields:
    """Return the *fields* of a request that are forwarded (RFC 9110, section 7.6.1)."""
    return Fields.of(
        tuple([line for line in fields.end_to_end().lines if not _is_withheld(line[0])])
    )


def _is_withheld(name: bytes) -> bool:
    """Return whether a request field is for the mirror alone, or could override a request.

    Servers that pass fields as CGI does (RFC 3875, section 4.1.18) make no difference between
    hyphens and underscores.
    """
    usual = name.replace(b"_", b"-")
    return name in _OWN or usual in _OVERRIDING or usual.startswith(_OVERRIDING_PREFIXES)


def canonical_request_fields(fields: Fields) -> Fields:
    """Return the fields that a storable request is forwarded with, without preconditions.

    They are the fields of the cache key, `Authorization`, `User-Agent` and `Accept-Encoding`.
    `Via` is added later to every request.
    """
    kept = [line for line in fields.lines if is_key_field(line[0]) or line[0] == b"authorization"]
    agent = without_indenting_names(fields.get(b"user-agent") or DEFAULT_USER_AGENT)
    return Fields.of((*kept, (b"user-agent", agent), (b"accept-encoding", b"gzip")))


def forwarded_response_fields(fields: Fields) -> Fields:
    """Return the *fields* of a response of GitHub that are forwarded: no framing, no cookies."""
    if fields.get(b"connection") is None:
        return fields.without(_NOT_FORWARDED)
    return fields.without(_NOT_FORWARDED.union(fields.listed(b"connection")))
