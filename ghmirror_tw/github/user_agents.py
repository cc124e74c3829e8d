"""The effect of `User-Agent` on GitHub's responses: JSON is indented for browsers and `curl`."""

from __future__ import annotations

import re
from typing import Final

from ghmirror_tw.http.fields import Fields

#: Names for which GitHub indents JSON; it compares them case-sensitively.
_INDENTED: Final = re.compile(rb"curl|Wget|Safari|Firefox")
_NAMES: Final = re.compile(rb"(?i)(c)(url)|(w)(get)|(s)(afari)|(f)(irefox)")


def without_indenting_names(user_agent: bytes) -> bytes:
    """Return *user_agent* with those names split for which GitHub indents JSON.

    Indented content has the same entity-tag as other content, so a validator could not tell them
    apart.
    """
    return _NAMES.sub(lambda found: b"_".join(part for part in found.groups() if part), user_agent)


def gets_indented_json(fields: Fields) -> bool:
    """Tell whether GitHub indents JSON for the `User-Agent` in *fields*."""
    return fields.memoised(_is_indented)


def _is_indented(fields: Fields) -> bool:
    return _INDENTED.search(fields.get(b"user-agent") or b"") is not None
