"""Conversion of the header objects of Twisted to field lines."""

from __future__ import annotations

from twisted.web.http_headers import Headers


def lines_of(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return each line of *headers*; lines with the same name are adjacent."""
    return [(name, value) for name, values in headers.getAllRawHeaders() for value in values]
