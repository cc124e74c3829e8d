"""How GitHub computes the entity-tag of content: an observed rule, not a documented one."""

from __future__ import annotations

import hashlib
from typing import Final

from ghmirror_tw.http.fields import tokens

#: The content of an empty list, whose entity-tag can be computed without ever having seen it.
EMPTY_LIST: Final = b"[]"


def compute_entity_tag(
    content: bytes,
    vary: bytes | None,
    *,
    accept: bytes | None,
    authorization: bytes | None,
) -> bytes:
    """Return the strong entity-tag that GitHub gives *content* for a request with these fields.

    The rule is observed, not documented: SHA-256 over the value and a colon of each of `Accept`
    and `Authorization` that the request had and that *vary* names, then the content as it was
    before any coding. A *vary* of `*`, an empty one and None name all. `Cookie` would count too,
    but no request is sent with it.
    """
    named = tokens(vary or b"*")
    every = not named or b"*" in named
    hashed = hashlib.sha256()
    for name, value in ((b"accept", accept), (b"authorization", authorization)):
        if value is not None and (every or name in named):
            hashed.update(value + b":")
    hashed.update(content)
    return b'"%s"' % hashed.hexdigest().encode()
