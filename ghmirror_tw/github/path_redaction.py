"""Credentials in paths of GitHub's API, and their removal."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

_HIDDEN: Final = b"***"

#: Bytes that a server may read as the end of a segment.
_ENDS: Final = re.compile(rb"(/|\\|%2[Ff]|%5[Cc])")

#: Words that all paths with a credential contain, decoded and in lower case.
_HINTS: Final = (b"app-manifests", b"applications")
_OF_APPLICATIONS: Final = frozenset({b"token", b"tokens", b"grant", b"grants"})


def without_credentials(path: bytes) -> bytes:
    """Return a *path* (without query) with ``***`` in place of credentials.

    These are the code of an App's manifest, ``/app-manifests/CODE/conversions``, and the tokens of
    an OAuth App, ``/applications/ID/tokens/TOKEN`` (GitHub: Apps, OAuth authorizations). Any
    prefix, percent-encoding, and upper or lower case are recognised.
    """
    decoded = unquote_to_bytes(path).lower()
    if not any(hint in decoded for hint in _HINTS):
        return path
    parts = _ENDS.split(path)
    words: list[bytes] = []
    for at in range(0, len(parts), 2):
        word = unquote_to_bytes(parts[at]).lower()
        if not word:
            continue
        is_code = words[-1:] == [b"app-manifests"]
        follows = b"applications" in words and not _OF_APPLICATIONS.isdisjoint(words)
        if is_code or follows:
            parts[at] = _HIDDEN
        words.append(word)
    return b"".join(parts)
