"""Requests to GitHub's GraphQL API, and which of them may change data (GitHub: GraphQL API)."""

from __future__ import annotations

from ghmirror_tw.http.request import Request


def is_graphql(request: Request) -> bool:
    """Tell whether the target of a request is GraphQL."""
    target = request.target
    return target.startswith(b"/graphql") and request.path.rstrip(b"/") == b"/graphql"


def is_mutation(content: bytes) -> bool:
    r"""Tell whether the content of a GraphQL request may be a mutation; in doubt it is one.

    Content without mutation is JSON in UTF-8 that does not contain the word, and no encoding that
    could hide it: `\u006d` for a letter, UTF-16 (which has NULs), a form, a content coding.
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
