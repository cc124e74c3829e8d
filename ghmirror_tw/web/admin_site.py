"""The admin listener: health, metrics, and a page with the mirror's figures.

Its connections have the same limits as those of clients, and there are fewer. It accepts no
content. It responds only to expected hosts (see `http.dns_rebinding`), except to health checks,
which disclose nothing.

The page loads nothing from other origins, and a Content Security Policy forbids it. Its only script
fetches the figures from `/status.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

from attrs import define, field
from twisted.logger import Logger
from twisted.web.server import NOT_DONE_YET

from ghmirror_tw.http import error_responses
from ghmirror_tw.http.dns_rebinding import is_expected_host
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.web import health, own_page
from ghmirror_tw.web.client_connections import MirrorSite
from ghmirror_tw.web.health import Health, Readiness
from ghmirror_tw.web.mirror_request import MirrorRequest
from ghmirror_tw.web.own_page import JSON, Page

#: A browser opens six connections, Prometheus and a health check one each.
ADMIN_CONNECTIONS: Final = 64

#: The Content Security Policy (CSP 3; Trusted Types).
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_FIELDS: Final = (
    (b"Content-Security-Policy", _POLICY.encode()),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Frame-Options", b"DENY"),
)
#: The parts of the page: path, file, and media type.
_PARTS: Final = (
    (b"/", "page.html", b"text/html; charset=utf-8"),
    (b"/page.css", "page.css", b"text/css; charset=utf-8"),
    (b"/page.js", "page.js", b"text/javascript; charset=utf-8"),
    (b"/page.svg", "page.svg", b"image/svg+xml"),
)


def _page() -> dict[bytes, Page]:
    """Return the parts of the page by their paths."""
    folder = files("ghmirror_tw.web") / "page"
    return {
        path: Page(HTTPStatus.OK, media_type, (folder / name).read_bytes(), _FIELDS)
        for path, name, media_type in _PARTS
    }


class Admin(Health):
    """Health, metrics, the page, and the *figures* that it shows."""

    def __init__(
        self, readiness: Readiness, metrics: Metrics, figures: Callable[[], dict[str, Any]]
    ) -> None:
        super().__init__(readiness)
        self._metrics = metrics
        self.figures = figures
        self._parts = _page()

    def _page(self, path: bytes, accept: bytes | None) -> Page | None:
        if path == b"/metrics":
            return Page(HTTPStatus.OK, *self._metrics.exposition(accept))
        if path == b"/status.json":
            content = json.dumps(self.figures(), allow_nan=False).encode()
            return Page(HTTPStatus.OK, JSON, content, _FIELDS)
        return self._parts.get(path) or super()._page(path, accept)


class ContentlessRequest(MirrorRequest):
    """A request without content: one that announces content is refused on its fields."""

    def gotLength(self, length: int | None) -> None:
        """Refuse content before it is received."""
        if length != 0:
            self.channel.refuse(error_responses.unexpected_content())


@define(eq=False)
class AdminResource:
    """Responds with *pages* to requests for an expected host."""

    pages: Health
    hosts: frozenset[str]
    in_flight: int = 0
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.admin"))

    def note_refused(self, error: MirrorError) -> None:
        """Count nothing: metrics count requests to GitHub's API only."""

    def render(self, request: ContentlessRequest) -> int:
        """Respond to *request*."""
        try:
            content = self._content(request)
        except Exception:  # noqa: BLE001 - the client receives an error response to any
            self._log.failure("Admin request failed")
            content = own_page.prepare(request, _error(error_responses.internal()))
        request.write(content)
        request.finish()
        return NOT_DONE_YET

    def _content(self, request: ContentlessRequest) -> bytes:
        hosts = request.fields.get_all(b"host")
        # Browsers always send `Host`, and never HTTP/1.0.
        unnamed = not hosts and request.clientproto == b"HTTP/1.0"
        if unnamed or health.is_health(request.uri) or is_expected_host(hosts, self.hosts):
            return self.pages.render(request)
        return own_page.prepare(request, _error(error_responses.unexpected_host()))


def _error(error: MirrorError) -> Page:
    return Page(error.status, JSON, error.body())


def admin_site(pages: Health, hosts: frozenset[str], reactor: Any) -> MirrorSite:
    """Return the site of the admin listener, which responds with *pages* for *hosts*, too.

    Pages of other origins must not read the responses in the browser of a user with access.
    """
    return MirrorSite(
        AdminResource(pages, hosts),
        ContentlessRequest,
        reactor,
        ADMIN_CONNECTIONS,
        for_any_origin=False,
    )
