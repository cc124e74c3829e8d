"""Health checks: whether the process responds, and whether it is ready for requests."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from attrs import define, frozen
from twisted.web.resource import Resource

from ghmirror_tw.http.request import READ_METHODS
from ghmirror_tw.http.targets import path_of

_HEALTH: Final = frozenset({b"/healthz", b"/readyz"})
_TEXT: Final = b"text/plain; charset=utf-8"
JSON: Final = b"application/json; charset=utf-8"


@define
class Readiness:
    """Whether the mirror is ready: it listens, has restored a snapshot, and is not stopping."""

    listening: bool = False
    restored: bool = False
    stopping: bool = False

    @property
    def ready(self) -> bool:
        """Whether a load balancer should send requests."""
        return self.listening and self.restored and not self.stopping

    @property
    def reason(self) -> str:
        """The reason, in a few words."""
        if self.stopping:
            return "stopping"
        if not self.listening:
            return "not listening yet"
        if not self.restored:
            return "restoring a snapshot"
        return "ready"


@frozen
class Page:
    """A response to a request for a page of the mirror's own."""

    status: int
    media_type: bytes
    content: bytes
    #: Fields besides those of all pages.
    fields: tuple[tuple[bytes, bytes], ...] = ()


_NOT_FOUND: Final = Page(
    HTTPStatus.NOT_FOUND,
    JSON,
    json.dumps(
        {"message": "Not Found", "documentation_url": "https://docs.github.com/rest"}
    ).encode(),
)

_NOT_ALLOWED: Final = Page(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"GET or HEAD only\n")


def is_health(target: bytes) -> bool:
    """Tell whether a request target asks for a health check."""
    return path_of(target) in _HEALTH


def page_of(path: bytes, readiness: Readiness) -> Page | None:
    """Return the page at *path* on both listeners; None: there is none."""
    if path == b"/healthz":
        return Page(HTTPStatus.OK, _TEXT, b"ok\n")
    if path == b"/readyz":
        status = HTTPStatus.OK if readiness.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return Page(status, _TEXT, readiness.reason.encode() + b"\n")
    return None


def prepare(request: Any, page: Page) -> bytes:
    """Set the status and the fields of the response to *request*; return its content.

    Methods other than GET and HEAD are refused on existing pages.
    """
    if page is not _NOT_FOUND and request.method not in READ_METHODS:
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


class Health(Resource):
    """A resource with `/healthz` and `/readyz`."""

    isLeaf = True

    def __init__(self, readiness: Readiness) -> None:
        super().__init__()
        self._readiness = readiness

    def render(self, request: Any) -> bytes:
        """Return the content of the response to *request*."""
        path = request.uri.partition(b"?")[0]
        return prepare(request, self._page(path, request.getHeader(b"accept")) or _NOT_FOUND)

    def _page(self, path: bytes, accept: bytes | None) -> Page | None:  # noqa: ARG002 - see Admin
        return page_of(path, self._readiness)
