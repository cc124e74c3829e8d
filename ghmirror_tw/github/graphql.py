"""Requests to GitHub's GraphQL API, and which of them may change data (GitHub: GraphQL API)."""

from __future__ import annotations

from ghmirror_tw.http.request import Request


def is_graphql(request: Request) -> bool:
    """Tell whether a request goes to GraphQL."""
    target = request.target
    return target.startswith(b"/graphql") and request.path.rstrip(b"/") == b"/graphql"


def is_mutation(content: bytes) -> bool:
    r"""Tell whether the content of a GraphQL request may write: all but certain queries may.

    A query is JSON in UTF-8 without the word, and without an encoding that could hide it: `\u006d`
    for a letter, UTF-16 (which has NULs), a form, a content coding. A query that mentions the word
    counts as a write, which costs little and is safe.
    """
    if b"mutation" in content or b"\\u" in content or b"\0" in content:
        return True
    if not content.lstrip(b" \t\r\n").startswith((b"{", b"[")):
        return True
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False
