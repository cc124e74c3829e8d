"""Detection of loops by `Via` (RFC 9110, section 7.6.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_COMMENT_PIECE: Final = re.compile(rb"\\.|[()]|[^\\()]+|\\", re.DOTALL)


def _without_comments(value: bytes) -> bytes:
    """Return *value* without comments, which may nest; a comment without end is text."""
    kept, depth = [], 0
    for piece in _COMMENT_PIECE.findall(value):
        depth += piece == b"("
        if depth == 0:
            kept.append(piece)
        depth -= piece == b")" and depth > 0
    return value if depth else b"".join(kept)


def has_passed(via: Sequence[bytes], pseudonym: bytes) -> bool:
    """Return whether a request has passed the proxy *pseudonym*, by its `Via` values.

    Comments are ignored.
    """
    members = (member.split() for value in via for member in _without_comments(value).split(b","))
    name = pseudonym.lower()
    return any(len(words) > 1 and words[1].lower() == name for words in members)
