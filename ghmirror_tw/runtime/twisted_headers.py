"""Field lines as Twisted has them."""

from __future__ import annotations

from twisted.web.http_headers import Headers


def lines_of(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return each line of *headers*; those with one name come together."""
    return [(name, value) for name, values in headers.getAllRawHeaders() for value in values]
