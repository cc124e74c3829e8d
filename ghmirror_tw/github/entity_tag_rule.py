"""GitHub's rule for entity-tags, which is observed and not documented."""

from __future__ import annotations

import hashlib
from typing import Final

from ghmirror_tw.http.fields import tokens

#: The content of an empty list, whose entity-tag can be computed before GitHub has sent it.
EMPTY_LIST: Final = b"[]"


def compute_entity_tag(
    content: bytes,
    vary: bytes | None,
    *,
    accept: bytes | None,
    authorization: bytes | None,
) -> bytes:
    """Return the strong entity-tag that GitHub gives *content* for a request with these fields.

    It is SHA-256 over these: of each of `Accept` and `Authorization` that the request has and that
    *vary* names, the value and a colon; then the content without coding. A *vary* of `*`, an empty
    one and None name all fields. `Cookie` would count too, but is never forwarded.
    """
    named = tokens(vary or b"*")
    every = not named or b"*" in named
    hashed = hashlib.sha256()
    for name, value in ((b"accept", accept), (b"authorization", authorization)):
        if value is not None and (every or name in named):
            hashed.update(value + b":")
    hashed.update(content)
    return b'"%s"' % hashed.hexdigest().encode()
