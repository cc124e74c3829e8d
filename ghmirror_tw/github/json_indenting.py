"""JSON indented as GitHub indents it for people, and the `User-Agent` for which it does.

The form is that of recorded responses of api.github.com, from 2014 to 2026: two spaces a level,
``"key": value``, an empty line within an empty array or object, and a line feed at the end. The
order of members, numbers and strings do not change.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import define, field

from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.json_scanning import REST_OF_STRING, STRING, end_of

_REST_OF_STRING: Final = re.compile(rb"(?s:%s)" % REST_OF_STRING)
_STRING: Final = re.compile(rb"(?s:%s)" % STRING)
#: A string; a bracket, comma or colon; a number or literal, or a piece of it; a string without end.
_TOKEN: Final = re.compile(
    rb'(?s:%s|[{}\[\]:,]|[^"{}\[\]:, \t\r\n]++|".*)' % STRING,
)
_OPENING: Final = frozenset({b"{", b"["})
_CLOSING: Final = frozenset({b"}", b"]"})
#: Deeper levels are indented like this one. GitHub's JSON has none, and the indentation of nested
#: brackets without a limit grows with the square of their number.
_DEEPEST: Final = 100
_BREAKS: Final = tuple(b"\n" + b"  " * level for level in range(_DEEPEST + 1))


@define
class IndentingStream:
    """Indents JSON that is received in pieces: `feed` each of them, then `close`."""

    _level: int = field(default=0, init=False)
    #: Whether the last token opened an object or array.
    _opened: bool = field(default=False, init=False)
    _in_string: bool = field(default=False, init=False)
    #: A backslash at the end of a piece, held back for the next one.
    _held: bytes = field(default=b"", init=False)
    _any: bool = field(default=False, init=False)

    def feed(self, chunk: bytes) -> bytes:
        """Return *chunk*, indented."""
        chunk = self._held + chunk
        self._held = b""
        pieces: list[bytes] = []
        at = self._copy_rest_of_string(chunk, 0, pieces) if self._in_string else 0
        tokens = _TOKEN.findall(chunk, at)
        if not tokens:
            return b"".join(pieces)
        self._any = True
        last = tokens[-1]
        if last.startswith(b'"') and not _STRING.fullmatch(last):
            self._in_string = True
            tokens[-1] = b'"'
        for token in tokens:
            self._add(token, pieces)
        if self._in_string:
            self._copy_rest_of_string(last, 1, pieces)
        return b"".join(pieces)

    def close(self) -> bytes:
        """Return the end: a line feed, if there was any content."""
        return self._held + b"\n" if self._any else b""

    def _copy_rest_of_string(self, chunk: bytes, at: int, pieces: list[bytes]) -> int:
        """Copy the rest of a string, as far as it is in *chunk*; return where that ends."""
        end = end_of(_REST_OF_STRING, chunk, at)
        if chunk[end : end + 1] == b'"':
            self._in_string = False
            end += 1
            pieces.append(chunk[at:end])
            return end
        pieces.append(chunk[at:end])
        self._held = chunk[end:]
        return len(chunk)

    def _add(self, token: bytes, pieces: list[bytes]) -> None:
        if token in _CLOSING:
            if self._opened:
                pieces.append(b"\n")
            self._level = max(self._level - 1, 0)
            pieces.append(self._break())
        elif self._opened:
            pieces.append(self._break())
        pieces.append(token)
        self._opened = token in _OPENING
        if self._opened:
            self._level += 1
        elif token == b",":
            pieces.append(self._break())
        elif token == b":":
            pieces.append(b" ")

    def _break(self) -> bytes:
        return _BREAKS[min(self._level, _DEEPEST)]


def indented(content: bytes) -> bytes:
    """Return JSON *content*, indented."""
    stream = IndentingStream()
    return stream.feed(content) + stream.close()


#: Names for which GitHub indents JSON; it compares them case-sensitively.
_INDENTED: Final = re.compile(rb"curl|Wget|Safari|Firefox")
_NAMES: Final = re.compile(rb"(?i)(c)(url)|(w)(get)|(s)(afari)|(f)(irefox)")


def without_indenting_names(user_agent: bytes) -> bytes:
    """Return *user_agent* with those names split for which GitHub indents JSON.

    Indented content has the same entity-tag as other content, so that a validator could not
    distinguish them.
    """
    return _NAMES.sub(lambda found: b"_".join(part for part in found.groups() if part), user_agent)


def gets_indented_json(fields: Fields) -> bool:
    """Return whether GitHub indents JSON for the `User-Agent` in *fields*."""
    return fields.memoised(_is_indented)


def _is_indented(fields: Fields) -> bool:
    return _INDENTED.search(fields.get(b"user-agent") or b"") is not None
