"""Globs of paths, in which `*` stands for one whole segment (RFC 3986, section 3.3)."""

from __future__ import annotations

import re
from typing import Final

from attrs import field, frozen

#: A literal segment as it stands in a path, or the asterisk.
_SEGMENT: Final = r"(?:\*|[A-Za-z0-9._~!$&'()+,;=:@%-]+)"
_PATTERN: Final = re.compile(rf"(?:/{_SEGMENT})+")
_DOTS: Final = frozenset({".", ".."})
_ANY: Final = b"[^/]+"


def check_path_pattern(text: str) -> None:
    """Raise `ValueError` unless *text* is a pattern of paths."""
    if not text.startswith("/"):
        raise ValueError(f"{text!r} does not start with a slash")
    if "?" in text or "#" in text:
        raise ValueError(f"{text!r} has a query or a fragment, and patterns are of paths")
    if _PATTERN.fullmatch(text) is None:
        raise ValueError(f"{text!r} has a segment that is neither * nor text without an asterisk")
    if _DOTS.intersection(text.split("/")):
        raise ValueError(f"{text!r} has a segment of dots, and GitHub has no such path")
    if text.startswith(("/api/v3/", "/api/uploads/")):
        raise ValueError(
            f"{text!r} begins with a prefix of Enterprise Server, which is not matched"
        )


def _compiled(patterns: tuple[str, ...]) -> re.Pattern[bytes] | None:
    """Return one regular expression for all patterns: it has no nested repetition."""
    if not patterns:
        return None
    each = [b"/".join(map(_segment, pattern.split("/"))) for pattern in patterns]
    return re.compile(b"|".join(each))


def _segment(text: str) -> bytes:
    return _ANY if text == "*" else re.escape(text.encode("ascii"))


@frozen
class PathGlobs:
    """Patterns such as ``/repos/*/*/releases/*``; a path matches if one of them matches all of it.

    Segments are compared byte for byte, as they stand in the target.
    """

    patterns: tuple[str, ...] = ()
    _expression: re.Pattern[bytes] | None = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_expression", _compiled(self.patterns))

    def match(self, path: bytes) -> bool:
        """Return whether a pattern matches *path*, which has no query."""
        return self._expression is not None and self._expression.fullmatch(path) is not None
