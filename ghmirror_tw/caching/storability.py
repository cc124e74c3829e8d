"""What may be stored, and what passes by (RFC 9111, section 3)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from ghmirror_tw.caching.key import is_key_field
from ghmirror_tw.caching.validators import asks_for_json
from ghmirror_tw.github.pagination import leads_elsewhere
from ghmirror_tw.github.rate_limits import asks_for_limits
from ghmirror_tw.http.fields import FRAMING, HOP_BY_HOP, Fields, tokens
from ghmirror_tw.http.messages import Request
from ghmirror_tw.http.targets import has_secret_in_query

#: Request fields whose mere presence makes a request pass by.
_BYPASSING: Final = (
    b"range",
    b"x-github-otp",
    b"if-match",
    b"if-unmodified-since",
    b"if-range",
)

#: Response fields that are not passed on: those of one connection, and cookies. A cookie would
#: reach every client that shares the response, and no client of the API uses one.
_NOT_PASSED_ON: Final = HOP_BY_HOP | FRAMING | {b"set-cookie"}
#: Statuses that refuse a key, unless they tell of a rate limit.
_REFUSING: Final = frozenset({403, 404, 410, 451})

#: A URL that is a whole JSON string, and a query parameter of URLs that expire within minutes.
_URL: Final = re.compile(rb'(?<!\\)"https?://[^"\s]*+')
_SHORT_LIVED: Final = re.compile(rb"(?i)[?&;](?:token|jwt|x-amz-signature)=")

_HTML: Final = frozenset({b"text/html", b"application/xhtml+xml"})
_HTML_OF_GITHUB: Final = re.compile(rb"vnd\.github[a-z0-9.+-]*html")


def why_not_storable(request: Request, *, has_content: bool = False) -> str | None:
    """Return why a request passes by: ``method`` or ``bypass`` as in RFC 9211, or None."""
    if request.method not in {b"GET", b"HEAD"}:
        return "method"
    if (
        has_content
        or request.fields.once(_pass_by)
        or asks_for_limits(request)
        or has_secret_in_query(request.target)
    ):
        return "bypass"
    return None


def _pass_by(fields: Fields) -> bool:
    """Tell whether a request with these fields passes by, whatever it asks for."""
    return (
        any(fields.get(name) is not None for name in _BYPASSING)
        or b"no-store" in fields.listed(b"cache-control")
        or _repeats(fields)
    )


def _repeats(fields: Fields) -> bool:
    """Tell whether a field of the key, or the credential, comes more than once."""
    names = [name for name, _ in fields.lines if name == b"authorization" or is_key_field(name)]
    return len(names) > len(set(names))


def forbids_guessing(fields: Fields) -> bool:
    """Tell whether the client wants a validation and nothing less (RFC 9111, section 5.2.1.4)."""
    return fields.once(_forbids_guessing)


def _forbids_guessing(fields: Fields) -> bool:
    if b"no-cache" in fields.listed(b"cache-control"):
        return True
    return fields.get(b"cache-control") is None and b"no-cache" in fields.listed(b"pragma")


def why_unstorable(request: Request, status: int, fields: Fields, api_url: bytes) -> str | None:
    """Return why the response to a storable GET may not be stored, by its fields; None: it may.

    A 200 may, with a validator, without `no-store`, with a media type that was accepted, and with
    no link to a page at another server than that of *api_url*. `Vary` may name any field: one that
    is neither in the key nor forwarded is the same in all forwarded requests, and for the rest see
    `varying`. The reasons are labels of a metric.
    """
    if status != 200:  # noqa: PLR2004
        return "status"
    if fields.get(b"content-range") is not None:
        return "partial"
    if fields.get(b"etag") is None and fields.get(b"last-modified") is None:
        return "no-validator"
    if b"no-store" in fields.listed(b"cache-control"):
        return "no-store"
    if not is_as_accepted(request.fields.get(b"accept"), fields.get(b"content-type")):
        return "not-json"
    link = fields.combined(b"link")
    return "foreign-link" if link is not None and leads_elsewhere(link, api_url) else None


def is_as_accepted(accept: bytes | None, content_type: bytes | None) -> bool:
    """Tell whether GitHub sends content with this media type for *accept*.

    HTML is from GitHub only if *accept* names one of its media types for HTML; else it is the
    maintenance page of a load balancer (GitHub: media types). If *accept* names JSON alone, any
    other media type is not from GitHub either.
    """
    kind = (content_type or b"").partition(b";")[0].strip(b" \t").lower()
    if kind in _HTML:
        return _HTML_OF_GITHUB.search((accept or b"").lower()) is not None
    return not asks_for_json(accept) or kind == b"application/json" or kind.endswith(b"+json")


def has_short_lived_urls(content: bytes) -> bool:
    """Tell whether JSON holds URLs with tokens, as `download_url` of private files has them.

    Where the entity-tag does not cover them, a 304 would confirm tokens that have expired.
    """
    if _SHORT_LIVED.search(content) is None:
        return False
    return any(_SHORT_LIVED.search(found[0]) for found in _URL.finditer(content))


def is_write(request: Request) -> bool:
    """Tell whether a request may change what GitHub answers (RFC 9110, section 9.2.1).

    GraphQL is judged by its content instead; see `is_mutation`.
    """
    return request.method not in {b"GET", b"HEAD", b"OPTIONS", b"TRACE"}


def refuses(status: int) -> str | None:
    """Return what a response refuses: ``credential`` (401), ``key`` (403, 404), or None.

    The response tells of no rate limit (see `limits.meaning_of`). What is gone (410) or must not be
    shown (451) is refused like a target that is not found.
    """
    if status == 401:  # noqa: PLR2004
        return "credential"
    return "key" if status in _REFUSING else None


def of_this_answer(fields: Fields) -> Fields:
    """Return the fields of GitHub's own answer as they pass on: without framing and cookies."""
    if fields.get(b"connection") is None:
        return fields.without(_NOT_PASSED_ON)
    return fields.without(_NOT_PASSED_ON.union(fields.listed(b"connection")))


@lru_cache(256)
def adds_accept_encoding(vary: bytes | None) -> bytes:
    """Return a `Vary` value that names `Accept-Encoding`."""
    if vary is None:
        return b"Accept-Encoding"
    if {b"*", b"accept-encoding"} & set(tokens(vary)):
        return vary
    return vary + b", Accept-Encoding"
