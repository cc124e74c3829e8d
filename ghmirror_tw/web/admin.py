"""The admin listener: health, metrics, and a page with the mirror's figures.

The page is all here: it loads nothing from elsewhere, and may not (CSP). It runs no script but its
own, which fetches its figures from `/status.json` as anybody may who gets here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

from ghmirror_tw.metrics import Metrics
from ghmirror_tw.web.health import JSON, Health, Page, Readiness

#: What a browser may do with what is here (CSP 3; Trusted Types): as good as nothing.
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
#: What the page is made of: where each part is found, its file, and its media type.
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
    """Health, metrics, the page, and *figures*, which are what it shows."""

    def __init__(
        self, readiness: Readiness, metrics: Metrics, figures: Callable[[], dict[str, Any]]
    ) -> None:
        super().__init__(readiness)
        self._metrics = metrics
        self._figures = figures
        self._parts = _page()

    def _page(self, path: bytes, accept: bytes | None) -> Page | None:
        if path == b"/metrics":
            return Page(HTTPStatus.OK, *self._metrics.exposition(accept))
        if path == b"/status.json":
            content = json.dumps(self._figures(), allow_nan=False).encode()
            return Page(HTTPStatus.OK, JSON, content, _FIELDS)
        return self._parts.get(path) or super()._page(path, accept)
