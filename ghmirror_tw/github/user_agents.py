"""How a `User-Agent` is spelled so that GitHub does not pretty-print (see GitHub's answers)."""

from __future__ import annotations

import re
from typing import Final

from ghmirror_tw.http.fields import Fields

#: As GitHub compares them, letter by letter.
_INDENTED: Final = re.compile(rb"curl|Wget|Safari|Firefox")
_PRETTY: Final = re.compile(rb"(?i)(c)(url)|(w)(get)|(s)(afari)|(f)(irefox)")


def without_indenting_names(user_agent: bytes) -> bytes:
    """Return *user_agent* with the names split for which GitHub pretty-prints JSON.

    Pretty-printed content has the entity-tag of the content before, so nobody could tell by its
    tag what it is.
    """
    return _PRETTY.sub(lambda found: b"_".join(part for part in found.groups() if part), user_agent)


def gets_indented_json(fields: Fields) -> bool:
    """Tell whether GitHub indents JSON for the `User-Agent` in *fields*."""
    return fields.once(_is_indented)


def _is_indented(fields: Fields) -> bool:
    return _INDENTED.search(fields.get(b"user-agent") or b"") is not None
