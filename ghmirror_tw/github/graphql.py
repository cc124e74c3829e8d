"""Requests to GitHub's GraphQL API, and which of them may change data (GitHub: GraphQL API)."""

from __future__ import annotations

import re
from typing import Final

from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request

#: Values of `Content-Type` for JSON in UTF-8.
_JSON: Final = re.compile(
    rb'application/json[ \t]*+(?:;[ \t]*+charset="?utf-8"?[ \t]*+)?', re.IGNORECASE
)
#: That of a form. `curl --data` sends it for JSON, too, as GitHub's examples do.
_FORM: Final = re.compile(rb"application/x-www-form-urlencoded[ \t]*+(?:;.*)?", re.IGNORECASE)


def is_graphql(request: Request) -> bool:
    """Return whether the target of a request is GraphQL."""
    target = request.target
    return target.startswith(b"/graphql") and request.path.rstrip(b"/") == b"/graphql"


def is_mutation(content: bytes, fields: Fields) -> bool:
    r"""Return whether a GraphQL request with *content* and *fields* may be a mutation.

    In doubt it is one. Content without mutation is JSON in UTF-8 that does not contain the word,
    and no encoding that could hide it: `\u006d` for a letter, UTF-16 (which has NULs), a form, a
    content coding, or a media type that a server could parse in another way.
    """
    if _may_be_parsed_otherwise(content, fields):
        return True
    if b"mutation" in content or b"\\u" in content or b"\0" in content:
        return True
    if not content.lstrip(b" \t\r\n").startswith((b"{", b"[")):
        return True
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _may_be_parsed_otherwise(content: bytes, fields: Fields) -> bool:
    """Return whether a server may parse content by rules other than those of JSON in UTF-8."""
    types = fields.get_all(b"content-type")
    if len(types) > 1 or fields.get(b"content-encoding") is not None:
        return True
    if not types or _FORM.fullmatch(types[0]):
        return b"%" in content
    return _JSON.fullmatch(types[0]) is None
