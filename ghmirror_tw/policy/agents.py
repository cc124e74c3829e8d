"""How a `User-Agent` is spelled so that GitHub does not pretty-print (see GitHub's answers)."""

from __future__ import annotations

import re
from typing import Final

_PRETTY: Final = re.compile(rb"(?i)(c)(url)|(w)(get)|(s)(afari)|(f)(irefox)")


def respelled(user_agent: bytes) -> bytes:
    """Return *user_agent* with the names split for which GitHub pretty-prints JSON.

    Pretty-printed content has the entity-tag of the content before, so nobody could tell by its
    tag what it is.
    """
    return _PRETTY.sub(lambda found: b"_".join(part for part in found.groups() if part), user_agent)
