"""Responses without a stored representation: GitHub's own, as it is."""

from __future__ import annotations

from ghmirror_tw.caching.forwarded_fields import forwarded_response_fields
from ghmirror_tw.http.outcomes import Outcome
from ghmirror_tw.proxy.mirror_response import CodedContent, Response
from ghmirror_tw.upstream.upstream_interface import IncomingContent, UpstreamResponse


def coding_of(response: UpstreamResponse) -> bytes:
    """Return the content coding of a response; empty: none (RFC 9110, section 8.4)."""
    codings = response.fields.listed(b"content-encoding")
    return b", ".join([coding for coding in codings if coding != b"identity"])


def passed_on(response: UpstreamResponse, body: CodedContent | IncomingContent | None) -> Response:
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
