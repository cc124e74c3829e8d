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

    ``"`` + hex(SHA-256([Accept ``:``] [Authorization ``:``] content)) + ``"``

    *content* is without content coding. A field counts if the request has it and *vary* names it;
    `*`, an empty *vary* and None name every field. `Cookie` counts as well, but is never forwarded.
    Source: bored-engineer/github-conditional-http-transport on GitHub, as observed in 2026.
    """
    named = tokens(vary or b"*")
    every = not named or b"*" in named
    hashed = hashlib.sha256()
    for name, value in ((b"accept", accept), (b"authorization", authorization)):
        if value is not None and (every or name in named):
            hashed.update(value + b":")
    hashed.update(content)
    return b'"%s"' % hashed.hexdigest().encode()
