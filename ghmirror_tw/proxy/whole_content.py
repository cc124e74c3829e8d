"""Reads a small response whole, for logins and for responses that are sent many times."""

from __future__ import annotations

from ghmirror_tw.caching.records import Representation
from ghmirror_tw.http.content_codings import ContentTooLargeError, UndecodableError, decoded
from ghmirror_tw.proxy.mirror_response import CodedContent, Response
from ghmirror_tw.runtime.content_threads import ContentThreads


async def whole_content(response: Response, threads: ContentThreads, limit_bytes: int) -> bytes:
    """Return the content without its coding; empty if it is too large, or does not unpack."""
    body, coding = response.body, response.coding
    if isinstance(body, Representation):
        return await threads.run(body.size, body.content)
    if body is None:
        return b""
    if isinstance(body, CodedContent):
        content, coding = body.content, body.coding
    else:
        collected = await body.collect(limit_bytes)
        if collected is None:
            body.abort()
            return b""
        content = collected
    try:
        return decoded(content, coding, limit_bytes)
    except (UndecodableError, ContentTooLargeError):
        return b""
