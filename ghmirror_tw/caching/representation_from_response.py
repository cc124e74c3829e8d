"""Makes the stored representation from a 200 received from GitHub (RFC 9110, section 3.2)."""

from __future__ import annotations

from ghmirror_tw.caching.records import Representation, digest_of
from ghmirror_tw.github.item_count import count_items
from ghmirror_tw.github.media_types import is_json
from ghmirror_tw.http.content_codings import compress, decoded
from ghmirror_tw.http.fields import CONTENT_FIELDS, Fields


def representation_of(
    fields: Fields, content: bytes, coding: bytes | None, limit_bytes: int, items: int = 0
) -> tuple[Representation, bytes]:
    """Return the representation in a response, and its content without *coding*.

    *items* is the largest number of items on a page of the requested list, 0 without pages.
    Raises `UndecodableError` or `ContentTooLargeError`.
    """
    plain = decoded(content, coding, limit_bytes)
    described = fields.only(CONTENT_FIELDS)
    packed = content if plain is not content else compress(plain)
    is_list = items > 0 and is_json(fields.get(b"content-type"))
    return (
        Representation(
            digest=digest_of(plain, described),
            fields=described,
            packed=packed,
            size=len(plain),
            items=count_items(plain, items) if is_list else None,
        ),
        plain,
    )
