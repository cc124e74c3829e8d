"""A page of the mirror's own, and how it is sent."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from attrs import frozen

from ghmirror_tw.http.request import READ_METHODS

TEXT: Final = b"text/plain; charset=utf-8"

JSON: Final = b"application/json; charset=utf-8"


@frozen
class Page:
    """A response to a request for a page of the mirror's own."""

    status: int
    media_type: bytes
    content: bytes
    #: Fields besides those of all pages.
    fields: tuple[tuple[bytes, bytes], ...] = ()


NOT_FOUND: Final = Page(
    HTTPStatus.NOT_FOUND,
    JSON,
    json.dumps(
        {"message": "Not Found", "documentation_url": "https://docs.github.com/rest"}
    ).encode(),
)

_NOT_ALLOWED: Final = Page(HTTPStatus.METHOD_NOT_ALLOWED, TEXT, b"GET or HEAD only\n")


def prepare(request: Any, page: Page) -> bytes:
    """Set the status and the fields of the response to *request*; return its content.

    Methods other than GET and HEAD are refused on existing pages.
    """
    if page is not NOT_FOUND and request.method not in READ_METHODS:
        page = _NOT_ALLOWED
        request.setHeader(b"Allow", b"GET, HEAD")
    request.setResponseCode(page.status)
    request.setHeader(b"Content-Type", page.media_type)
    request.setHeader(b"Content-Length", b"%d" % len(page.content))
    request.setHeader(b"Cache-Control", b"no-store")
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    for name, value in page.fields:
        request.setHeader(name, value)
    return page.content
