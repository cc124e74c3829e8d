"""Storability of responses (RFC 9111, section 3)."""

from __future__ import annotations

import re
from typing import Final

from ghmirror_tw.github.media_types import is_as_accepted
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.links import has_foreign_page
from ghmirror_tw.http.request import Request

#: The URL at the beginning of a JSON string, and a query parameter of URLs that expire soon.
_URL: Final = re.compile(rb'(?<!\\)"https?://[^"\s]*+')
_SHORT_LIVED: Final = re.compile(rb"(?i)[?&;](?:token|jwt|x-amz-signature)=")


def reason_not_to_store(
    request: Request, status: int, fields: Fields, api_url: bytes
) -> str | None:
    """Return why the response to a GET must not be stored; None: it may be stored.

    A storable response is a 200 with a validator, without `no-store`, with an accepted media type,
    and without a link to a page at another server than that of *api_url*. `Vary` may name any
    field (see `vary`). The reasons are labels of a metric.
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
    return "foreign-link" if link is not None and has_foreign_page(link, api_url) else None


def has_short_lived_urls(content: bytes) -> bool:
    """Tell whether JSON holds URLs with tokens, such as the `download_url` of a private file.

    The entity-tag may not cover the tokens. A 304 would then confirm expired ones.
    """
    if _SHORT_LIVED.search(content) is None:
        return False
    return any(_SHORT_LIVED.search(found[0]) for found in _URL.finditer(content))
