"""Health checks: whether the process responds, and whether it is ready for requests."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from attrs import define
from twisted.web.resource import Resource

from ghmirror_tw.http.targets import path_of
from ghmirror_tw.web.own_page import NOT_FOUND, TEXT, Page, prepare

_HEALTH: Final = frozenset({b"/healthz", b"/readyz"})


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


def is_health(target: bytes) -> bool:
    """Return whether a request target is that of a health check."""
    return path_of(target) in _HEALTH


def health_page(path: bytes, readiness: Readiness) -> Page | None:
    """Return the page at *path* on both listeners; None: there is none."""
    if path == b"/healthz":
        return Page(HTTPStatus.OK, TEXT, b"ok\n")
    if path == b"/readyz":
        status = HTTPStatus.OK if readiness.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return Page(status, TEXT, readiness.reason.encode() + b"\n")
    return None


class Health(Resource):
    """A resource with `/healthz` and `/readyz`."""

    isLeaf = True

    def __init__(self, readiness: Readiness) -> None:
        super().__init__()
        self._readiness = readiness

    def render(self, request: Any) -> bytes:
        """Return the content of the response to *request*."""
        path = request.uri.partition(b"?")[0]
        return prepare(request, self._page(path, request.getHeader(b"accept")) or NOT_FOUND)

    def _page(self, path: bytes, accept: bytes | None) -> Page | None:  # noqa: ARG002 - see Admin
        return health_page(path, self._readiness)
