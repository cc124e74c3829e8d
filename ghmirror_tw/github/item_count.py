"""The number of items on a page: the elements of a top-level JSON array."""

from __future__ import annotations

import json
import re
from typing import Final

from ghmirror_tw.http.json_scanning import STRING, end_of

_ARRAY: Final = re.compile(rb"[ \t\r\n]*+\[[ \t\r\n]*+")

#: An object or array without others in it.
_FLAT: Final = rb'[{\[](?:[^"{}\[\]]++|%s)*[}\]]' % STRING

#: Everything up to a bracket of a nested value, or to a string without end; in the top-level array
#: up to a comma.
_NO_BRACKETS: Final = re.compile(rb'(?s:(?:[^"{}\[\]]++|%s|%s)*)' % (STRING, _FLAT))
_IN_ITEM: Final = re.compile(rb'(?s:(?:[^"{}\[\],]++|%s|%s)*)' % (STRING, _FLAT))

#: No page of GitHub's is nested so deeply, or has so many brackets and items.
_DEEPEST: Final = 100
_MOST_TOKENS: Final = 500_000

#: Content up to this size is decoded to count its items: that takes milliseconds, and is right on
#: PyPy, too, whose pattern matching finds no end of an item.
_DECODED_BYTES: Final = 256 * 1024


def _decoded_items(content: bytes, most: int) -> int | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return len(value) if isinstance(value, list) and len(value) <= most else None


def count_items(content: bytes, most: int) -> int | None:
    """Return the number of elements of a top-level JSON array; None for other content.

    None beyond *most* elements, too. Large content is scanned in linear time instead of decoded;
    then the number of elements of a malformed array has no meaning.
    """
    found = _ARRAY.match(content)
    if found is None or not most:
        return None
    if len(content) <= _DECODED_BYTES:
        return _decoded_items(content, most)
    at, depth = found.end(), 1
    items = 0 if content[at : at + 1] == b"]" else 1
    for _ in range(_MOST_TOKENS):
        at = end_of(_IN_ITEM if depth == 1 else _NO_BRACKETS, content, at)
        token = content[at : at + 1]
        at += 1
        if token == b",":
            items += 1
        elif token in {b"[", b"{"}:
            depth += 1
        elif token:
            depth -= 1
        if not token or token == b'"' or items > most or depth > _DEEPEST:
            return None
        if not depth:
            return None if content[at:].strip(b" \t\r\n") else items
    return None
