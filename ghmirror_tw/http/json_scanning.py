"""Patterns and steps to scan JSON as bytes, without parsing it; each byte is read once."""

from __future__ import annotations

import re
from typing import Final

#: The rest of a JSON string, and a whole one with its quotation marks (RFC 8259, section 7).
REST_OF_STRING: Final = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
STRING: Final = rb'"' + REST_OF_STRING + rb'"'


def end_of(pattern: re.Pattern[bytes], buffer: bytes, at: int) -> int:
    """Return the end of the match of *pattern* at *at*; the pattern must match everywhere."""
    found = pattern.match(buffer, at)
    assert found is not None
    return found.end()
