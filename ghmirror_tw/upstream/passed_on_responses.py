"""GitHub's response as it is passed on to clients, without a stored one."""

from __future__ import annotations

from attrs import evolve

from ghmirror_tw.caching.forwarded_fields import forwarded_response_fields
from ghmirror_tw.github.limits_in_force import Limit
from ghmirror_tw.http.cache_status import Outcome
from ghmirror_tw.http.content_codings import ContentTooLargeError, UndecodableError, decoded
from ghmirror_tw.upstream.active_limits import usual_limit_response
from ghmirror_tw.upstream.limit_detection import LIMIT_CONTENT_BYTES
from ghmirror_tw.upstream.proxied_response import BufferedContent, Response
from ghmirror_tw.upstream.received_content import ReceivedContent
from ghmirror_tw.upstream.upstream_interface import IncomingContent, UpstreamResponse


def coding_of(response: UpstreamResponse) -> bytes:
    """Return the content coding of a response; empty: none (RFC 9110, section 8.4)."""
    codings = response.fields.listed(b"content-encoding")
    return b", ".join([coding for coding in codings if coding != b"identity"])


def passed_on(
    response: UpstreamResponse, body: BufferedContent | IncomingContent | None
) -> Response:
    """Return GitHub's response as it is, with its content received, or still incoming."""
    return Response(
        response.status,
        forwarded_response_fields(response.fields),
        Outcome.PASS,
        body,
        coding=coding_of(response),
        forward="uri-miss",
        upstream_status=response.status,
        upstream_seconds=response.seconds,
    )


def limited_response(response: UpstreamResponse, limit: Limit, now: float) -> Response:
    """Return a rate limited response of GitHub's, for all requests of a flight.

    Where its content is missing (HEAD), or does not unpack, GitHub's usual content replaces it.
    """
    coding = coding_of(response)
    content = response.content.content if isinstance(response.content, ReceivedContent) else b""
    shared = passed_on(response, BufferedContent(content, coding))
    try:
        readable = bool(decoded(content, coding, LIMIT_CONTENT_BYTES))
    except (UndecodableError, ContentTooLargeError):
        readable = False
    if readable:
        return shared
    usual = usual_limit_response(limit, now)
    fields = shared.fields.with_line(b"content-type", usual.fields.get(b"content-type"))
    return evolve(shared, fields=fields, body=usual.body, coding=b"")
