"""Detection of rate limits in responses of GitHub, by status, fields and content."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import evolve

from ghmirror_tw.github.limit_interpretation import interpretation_of
from ghmirror_tw.http.content_codings import ContentTooLargeError, UndecodableError, decoded
from ghmirror_tw.http.request import Request
from ghmirror_tw.upstream.in_memory_content import InMemoryContent
from ghmirror_tw.upstream.upstream_interface import UpstreamError, UpstreamResponse

#: The largest content, in bytes, that is searched for a rate limit.
LIMIT_CONTENT_BYTES: Final = 64 * 1024


async def with_limit(
    request: Request, response: UpstreamResponse, now: Callable[[], float], strikes: int
) -> UpstreamResponse:
    """Return a response with the rate limit that it reports, and with its content received.

    Where the content breaks off, the fields decide alone. If they report no limit, raises
    `UpstreamError`. *strikes*: the number of limits that the credential has met in a row.
    """
    broken: UpstreamError | None = None
    content: bytes | None = b""
    try:
        content = await response.content.collect(LIMIT_CONTENT_BYTES)
    except UpstreamError as error:
        broken = error
    try:
        coding = response.fields.combined(b"content-encoding")
        plain = decoded(content or b"", coding, LIMIT_CONTENT_BYTES)
    except (UndecodableError, ContentTooLargeError):
        plain = b""
    meaning = interpretation_of(request, response.status, response.fields, plain, now(), strikes)
    response = evolve(response, limit=meaning.limit, refuses=meaning.refuses)
    if response.limited and content is None:
        response.content.abort()
    elif not response.limited and broken is not None:
        raise UpstreamError(broken.reason, broken.why, response.status, broken.limit) from broken
    elif content is None:
        return response
    return evolve(response, content=InMemoryContent(content or b""))
