"""Messages to the letter of RFC 9112: the most that a parser may accept.

No speed, no pieces, no limits: the reference that the mirror's own parsers are compared with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import frozen

Lines = tuple[tuple[bytes, bytes], ...]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%s) ([\x21-\xff]+) (HTTP/1\.[01])" % _TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [^\0\r\n]*)?")
_FIELD = re.compile(rb"(%s):[ \t]*([^\0\r\n]*?)[ \t]*" % _TOKEN)
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:;[^\r\n]*)?")
_FOLD = re.compile(rb"\r\n[ \t]+")
_END = b"\r\n\r\n"


class NotAsInTheStandardError(Exception):
    """It is no message of RFC 9112, or it is incomplete."""


@frozen
class Message:
    """A message: the match of its first line, its fields with names in lower case, its content."""

    first: re.Match[bytes]
    lines: Lines
    content: bytes
    #: Whether the connection can be used again.
    persistent: bool
    #: Whether only the end of the connection ends the content.
    to_the_end: bool = False

    def all_of(self, name: bytes) -> list[bytes]:
        """Return the values of a field."""
        return [value for each, value in self.lines if each == name]


def requests(raw: bytes) -> Iterator[Message]:
    """Return the complete requests on one connection, up to what is none."""
    try:
        while True:
            raw = raw.removeprefix(b"\r\n")  # RFC 9112, section 2.2
            first, lines, raw = _head(raw, _REQUEST_LINE, folds=True)
            content, raw = _content(lines, raw)
            persistent = first[3] == b"HTTP/1.1" and not _closes(lines)
            yield Message(first, lines, content, persistent)
            if not persistent:
                return
    except NotAsInTheStandardError:
        return


def response(raw: bytes, *, to_head: bool) -> tuple[Message, bytes] | None:
    """Return the response that *raw* begins with and what follows it; None: it is none.

    Interim responses before it are skipped. *to_head*: it is one to HEAD.
    """
    try:
        while True:
            first, lines, raw = _head(raw, _STATUS_LINE, folds=False)
            status = int(first[2])
            if status >= 200:
                break
        persistent = first[1] == b"1" and not _closes(lines)
        if to_head or status in {204, 304}:
            return Message(first, lines, b"", persistent), raw
        names = {name for name, _ in lines}
        if not names & {b"content-length", b"transfer-encoding"}:
            return Message(first, lines, raw, persistent, to_the_end=True), b""
        content, raw = _content(lines, raw)
    except NotAsInTheStandardError:
        return None
    return Message(first, lines, content, persistent), raw


def _head(
    raw: bytes, first: re.Pattern[bytes], *, folds: bool
) -> tuple[re.Match[bytes], Lines, bytes]:
    head, end, rest = raw.partition(_END)
    first_line, _, block = head.partition(b"\r\n")
    found = first.fullmatch(first_line)
    if not end or found is None:
        raise NotAsInTheStandardError
    if folds:  # RFC 9112, section 5.2
        block = _FOLD.sub(b" ", block)
    lines = []
    for line in block.split(b"\r\n") if block else ():
        field = _FIELD.fullmatch(line)
        if field is None:
            raise NotAsInTheStandardError
        lines.append((field[1].lower(), field[2]))
    return found, tuple(lines), rest


def _closes(lines: Lines) -> bool:
    return any(
        option.strip(b" \t").lower() == b"close"
        for name, value in lines
        if name == b"connection"
        for option in value.split(b",")
    )


def _content(lines: Lines, raw: bytes) -> tuple[bytes, bytes]:
    """Return the content and what follows it (RFC 9112, section 6.3)."""
    framing = [line for line in lines if line[0] in {b"content-length", b"transfer-encoding"}]
    if not framing:
        return b"", raw
    ((name, value),) = framing if len(framing) == 1 else (_bad(),)
    if name == b"transfer-encoding":
        if value.lower() != b"chunked":
            _bad()
        return _chunked(raw)
    if not re.fullmatch(rb"[0-9]{1,18}", value) or len(raw) < int(value):
        _bad()
    return raw[: int(value)], raw[int(value) :]


def _bad() -> tuple[bytes, bytes]:
    raise NotAsInTheStandardError


def _chunked(raw: bytes) -> tuple[bytes, bytes]:
    content = b""
    while True:
        line, end, raw = raw.partition(b"\r\n")
        size = _CHUNK.fullmatch(line)
        if not end or size is None:
            _bad()
            raise AssertionError
        length = int(size[1], 16)
        if length == 0:
            break
        if raw[length : length + 2] != b"\r\n":
            _bad()
        content += raw[:length]
        raw = raw[length + 2 :]
    while True:  # trailers
        line, end, raw = raw.partition(b"\r\n")
        if not end:
            _bad()
        if not line:
            return content, raw
