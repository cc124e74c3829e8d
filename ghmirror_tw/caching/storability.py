"""Storability of responses (RFC 9111, section 3): all reasons against it."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from ghmirror_tw.github.media_types import is_as_accepted, is_json
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.links import has_foreign_page
from ghmirror_tw.http.request import Request

#: The URL at the beginning of a JSON string, and a query parameter of URLs that expire soon.
_URL: Final = re.compile(rb'(?<!\\)"https?://[^"\s]*+')
SHORT_LIVED: Final = re.compile(rb"(?i)[?&;](?:token|jwt|x-amz-signature)=")


class Unstorable(StrEnum):
    """The reasons not to store a response. They are labels of a metric."""

    STATUS = "status"
    PARTIAL = "partial"
    NO_VALIDATOR = "no-validator"
    NO_STORE = "no-store"
    NOT_JSON = "not-json"
    FOREIGN_LINK = "foreign-link"
    TOO_LARGE = "too-large"
    UNCERTAIN_END = "uncertain-end"
    SHORT_LIVED_URLS = "short-lived-urls"


def reason_in_head(
    request: Request, status: int, fields: Fields, api_url: bytes
) -> Unstorable | None:
    """Return the reason in status and fields not to store the response to a GET, or None.

    A storable response is a 200 with a validator, without `no-store`, with an accepted media type,
    and without a link to a page at another server than that of *api_url*. `Vary` may name any
    field (see `vary`).
    """
    if status != 200:  # noqa: PLR2004
        return Unstorable.STATUS
    if fields.get(b"content-range") is not None:
        return Unstorable.PARTIAL
    if fields.get(b"etag") is None and fields.get(b"last-modified") is None:
        return Unstorable.NO_VALIDATOR
    if b"no-store" in fields.listed(b"cache-control"):
        return Unstorable.NO_STORE
    if not is_as_accepted(request.fields.get(b"accept"), fields.get(b"content-type")):
        return Unstorable.NOT_JSON
    link = fields.combined(b"link")
    is_foreign = link is not None and has_foreign_page(link, api_url)
    return Unstorable.FOREIGN_LINK if is_foreign else None


def reason_in_length(content: bytes | None, *, is_delimited: bool) -> Unstorable | None:
    """Return the reason in the length of the content not to store it, or None.

    *content* is None where it is too large. Content that only the end of the connection delimits
    may be incomplete (RFC 9112, section 8).
    """
    if content is None:
        return Unstorable.TOO_LARGE
    return None if is_delimited else Unstorable.UNCERTAIN_END


def reason_in_content(fields: Fields, plain: bytes, *, covered: bool) -> Unstorable | None:
    """Return the reason in *plain*, the content without coding, not to store it, or None.

    *covered*: the entity-tag is a hash of the content, so it changes with every URL in it.
    """
    if covered or not is_json(fields.get(b"content-type")) or not has_short_lived_urls(plain):
        return None
    return Unstorable.SHORT_LIVED_URLS


def has_short_lived_urls(content: bytes) -> bool:
    """Return whether JSON holds URLs with tokens, such as the `download_url` of a private file.

    The entity-tag may not cover the tokens. A 304 would then confirm expired ones.
    """
    if SHORT_LIVED.search(content) is None:
        return False
    return any(SHORT_LIVED.search(found[0]) for found in _URL.finditer(content))
