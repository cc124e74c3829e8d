"""The fields of a response to a client: GitHub's, with the mirror's own in place of some."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Final

from ghmirror_tw.http import entity_tags
from ghmirror_tw.http.cache_status import cache_status_fields
from ghmirror_tw.http.content_codings import vary_with_accept_encoding
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.proxy.mirror_response import Response
from ghmirror_tw.web.own_responses import date_line

#: Fields that differ beside content that is coded anew, or absent.
_CODED_ANEW: Final = frozenset({b"accept-ranges", b"content-encoding", b"etag", b"vary"})
#: The fields of GitHub's that are replaced in a response, by what it is: storable; with an age;
#: coded anew.
_REPLACED: Final = {
    (storable, aged, anew): frozenset({b"cache-status", b"x-cache", b"x-cache-mode"})
    | (frozenset({b"cache-control", b"vary"}) if storable else frozenset())
    | (frozenset({b"age"}) if aged else frozenset())
    | (_CODED_ANEW if anew else frozenset())
    for storable, aged, anew in product((False, True), repeat=3)
}
#: GitHub has but a few values of `Vary`.
_vary: Final = lru_cache(64)(vary_with_accept_encoding)


def client_fields(  # noqa: PLR0913 - what the fields depend on
    response: Response,
    rewritten: Fields,
    via: bytes,
    now: float,
    *,
    anew: bool,
    coding: bytes | None,
) -> Fields:
    """Return the fields of *response*, of which *rewritten* are GitHub's with the mirror's URLs.

    *anew*: the content is not byte for byte GitHub's, and is in *coding*. Its entity-tag is a weak
    one (RFC 9110, section 8.8.1), and ranges are not offered.
    """
    replaced = _REPLACED[response.storable, response.age_s is not None, anew]
    lines = [line for line in rewritten.lines if line[0] not in replaced]
    lines += _cache_status(response)
    vary = (b"vary", _vary(rewritten.combined(b"vary")))
    if response.storable:
        lines.append((b"cache-control", b"private, no-cache"))
        if not anew:
            lines.append(vary)
    if response.age_s is not None:
        lines.append((b"age", b"%d" % response.age_s))
    if rewritten.get(b"date") is None:
        lines.append(date_line(now))
    lines.append((b"via", via))
    if anew:
        etag = rewritten.get(b"etag")
        if etag is not None:
            lines.append((b"etag", entity_tags.as_weak(etag)))
        lines.append(vary)
        if coding is not None:
            lines.append((b"content-encoding", coding))
    return Fields.of(tuple(lines))


def _cache_status(response: Response) -> tuple[tuple[bytes, bytes], ...]:
    return cache_status_fields(
        response.outcome,
        status=response.upstream_status,
        detail=response.detail,
        collapsed=response.collapsed,
        forward=response.forward,
    )
