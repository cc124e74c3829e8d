"""Responses of the mirror while a rate limit is in force, as GitHub would send them now."""

from __future__ import annotations

from attrs import evolve

from ghmirror_tw.github.reported_limit import Limit
from ghmirror_tw.http.content_codings import ContentTooLargeError, UndecodableError, decoded
from ghmirror_tw.http.outcomes import Outcome
from ghmirror_tw.proxy.mirror_response import CodedContent, Response
from ghmirror_tw.proxy.unstored_responses import coding_of, passed_on
from ghmirror_tw.upstream.in_memory_content import InMemoryContent
from ghmirror_tw.upstream.limit_detection import LIMIT_CONTENT_BYTES
from ghmirror_tw.upstream.upstream_interface import UpstreamResponse


def usual_limit_response(limit: Limit, now: float) -> Response:
    """Return the response that GitHub usually sends while *limit* is in force."""
    status, fields, content = limit.response(now)
    return Response(status, fields, Outcome.ERROR, CodedContent(content), detail=limit.kind.reason)


def limited_response(response: UpstreamResponse, limit: Limit, now: float) -> Response:
    """Return a rate limited response of GitHub's, for all requests of a flight.

    Where its content is missing (HEAD), or does not unpack, GitHub's usual content replaces it.
    """
    coding = coding_of(response)
    content = response.content.content if isinstance(response.content, InMemoryContent) else b""
    shared = passed_on(response, CodedContent(content, coding))
    try:
        readable = bool(decoded(content, coding, LIMIT_CONTENT_BYTES))
    except (UndecodableError, ContentTooLargeError):
        readable = False
    if readable:
        return shared
    usual = usual_limit_response(limit, now)
    fields = shared.fields.with_line(b"content-type", usual.fields.get(b"content-type"))
    return evolve(shared, fields=fields, body=usual.body, coding=b"")
