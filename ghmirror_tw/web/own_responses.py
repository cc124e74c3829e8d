"""Responses that the mirror makes itself: error responses, and those to preflights."""

from __future__ import annotations

from email.utils import formatdate

from ghmirror_tw.github import cors
from ghmirror_tw.http import error_responses
from ghmirror_tw.http.cache_status import cache_status_fields
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.outcomes import Outcome
from ghmirror_tw.http.request import BadRequestError
from ghmirror_tw.http.targets import NoSuchPathError
from ghmirror_tw.upstream.upstream_interface import UpstreamError
from ghmirror_tw.web.client_response import ClientResponse
from ghmirror_tw.web.response_head import head_of


def date_line(now: float) -> tuple[bytes, bytes]:
    """Return a `Date` field."""
    return b"date", formatdate(now, usegmt=True).encode("ascii")


def preflight_response(now: float) -> ClientResponse:
    """Return the response to a preflight; it depends neither on a credential nor on a path."""
    own = cache_status_fields(Outcome.ERROR, detail="preflight")
    return ClientResponse(204, Fields.of((*cors.ON_PREFLIGHT, *own, date_line(now))))


def shown_error(error: Exception) -> MirrorError | None:
    """Return what a client is shown of an error; None: it is a fault of the mirror."""
    if isinstance(error, MirrorError):
        return error
    if isinstance(error, NoSuchPathError):
        return error_responses.no_such_path(error.message)
    if isinstance(error, BadRequestError):
        return error_responses.malformed(error.message)
    if isinstance(error, UpstreamError):
        return error_responses.upstream_error(error.reason, error.limit)
    return None


def error_response(error: MirrorError, body: bytes, now: float) -> ClientResponse:
    """Return the response for *error*, with JSON like GitHub's as its *body*."""
    lines = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"cache-control", b"no-store"),
        *cache_status_fields(Outcome.ERROR, detail=error.reason),
        date_line(now),
    ]
    if error.retry_after is not None:
        lines.append((b"retry-after", b"%d" % error.retry_after))
    return ClientResponse(error.status, Fields(tuple(lines)), body, len(body))


def serialised_error(error: MirrorError, now: float, *, for_any_origin: bool) -> bytes:
    """Return the bytes of the response to a request that could not be parsed.

    *for_any_origin*: see `head_of`.
    """
    response = error_response(error, error.body(), now)
    framing = (b"content-length", b"%d" % len(response.content)), (b"connection", b"close")
    head = head_of(
        b"HTTP/1.1",
        response.status,
        (*response.fields.lines, *framing),
        for_any_origin=for_any_origin,
    )
    assert head is not None
    return head + response.content
