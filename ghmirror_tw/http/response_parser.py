"""The heads of answers: status line and fields, found and read in the bytes that come (RFC 9112).

No sockets here: bytes go in, a `ResponseHead` comes out. A head is cut out of what comes first, and
read then in one piece, line by line: so nothing that stood before it or comes behind it has a part
in how it is read. What is not to the letter as RFC 9112 has it is no head.
"""

from __future__ import annotations

import re
from typing import Final

from ghmirror_tw.http.fields import tokens
from ghmirror_tw.runtime.numbers import whole_number

#: The largest head, in bytes; a line has no limit of its own, since `Link` repeats a whole query.
MOST_HEAD_BYTES: Final = 256 * 1024

#: So many interim answers (1xx) may come before one answer.
MOST_INTERIM: Final = 16
_END: Final = b"\r\n\r\n"
_VERSIONS: Final = (b"HTTP/1.1 ", b"HTTP/1.0 ")

#: Section 4: a reason may be left out, and by some is with its space.
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [\t -~\x80-\xff]*)?")

#: Section 5: a token, at once a colon, and neither CR, LF nor any other control but tabs.
_FIELD_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*")
_SWITCHING: Final = 101
_LEAST_FINAL: Final = 200
_WITHOUT_CONTENT: Final = frozenset({204, 304})

#: Fields by which a message is delimited, or that end at this connection: Twisted's client keeps
#: the same ones to itself.
_CONTROL: Final = frozenset(
    {
        b"content-length",
        b"connection",
        b"keep-alive",
        b"te",
        b"trailers",
        b"transfer-encoding",
        b"upgrade",
        b"proxy-connection",
    }
)

#: Fields that say the same in one answer after another, and nothing that is anybody's.
_SAME: Final = frozenset(
    {
        b"access-control-expose-headers",
        b"cache-control",
        b"content-security-policy",
        b"content-type",
        b"date",
        b"referrer-policy",
        b"server",
        b"strict-transport-security",
        b"vary",
        b"x-content-type-options",
        b"x-frame-options",
        b"x-github-api-version-selected",
        b"x-github-media-type",
        b"x-ratelimit-limit",
        b"x-ratelimit-resource",
        b"x-xss-protection",
    }
)

#: Their lines that were read before, if not too long; all are forgotten when there are too many.
#: What is made of a line is the same for ever, so that all connections may share them.
_read_before: Final[dict[bytes, tuple[bytes, bytes]]] = {}
_MOST_READ: Final = 1024
_LONGEST_READ: Final = 512


class MalformedResponseError(ValueError):
    """What came is no answer that can be told from what comes behind it."""


class OverLimitError(MalformedResponseError):
    """The response exceeds a limit of the mirror; it may be well formed."""


class ResponseHead:
    """The head of one answer; *block* is all of it, to the empty line.

    *lines* are its fields in order, names in lower case, without those that delimit it. *length*:
    of the content in bytes, None where the head doesn't tell. *persistent*: whether the
    connection may be used again once the answer is complete. Raises `MalformedResponseError`.
    """

    __slots__ = ("chunked", "length", "lines", "persistent", "status")

    def __init__(self, block: bytes, *, to_head: bool) -> None:
        if len(block) > MOST_HEAD_BYTES:
            raise OverLimitError(f"all fields may take {MOST_HEAD_BYTES} bytes")
        status_line, *lines = block[: -len(_END)].split(b"\r\n")
        status = _STATUS_LINE.fullmatch(status_line)
        if status is None:
            raise MalformedResponseError("no status line of HTTP/1.1")
        self.status = int(status[1])
        if self.status == _SWITCHING:
            raise MalformedResponseError("another protocol, which nobody asked for")
        self.lines: list[tuple[bytes, bytes]] = []
        self.persistent = block.startswith(_VERSIONS[0])
        self.chunked = False
        is_empty = to_head or self.status in _WITHOUT_CONTENT
        self.length: int | None = 0 if is_empty else None
        control = []
        for line in lines:
            field = _read_before.get(line)
            if field is None:
                field = _field(line)
                if field[0] in _CONTROL:
                    control.append(field)
                    continue
            self.lines.append(field)
        if control:
            self._take_control(control, is_empty=is_empty, to_head=to_head)

    def _take_control(
        self, control: list[tuple[bytes, bytes]], *, is_empty: bool, to_head: bool
    ) -> None:
        def all_of(wanted: bytes) -> list[bytes]:
            return [value for name, value in control if name == wanted]

        if any(b"close" in tokens(value) for value in all_of(b"connection")):
            self.persistent = False
        lengths = all_of(b"content-length")
        codings = [coding.lower() for coding in all_of(b"transfer-encoding")]
        _check_end(lengths, codings)
        if to_head:
            self.lines += [(b"content-length", length) for length in lengths]
        if is_empty:
            return
        if lengths:
            self.length = whole_number(lengths[0])
        if codings:
            if codings != [b"chunked"]:
                raise MalformedResponseError("a transfer coding that is not chunked")
            self.chunked = True


class ResponseParser:
    """Finds the head of one answer in what comes, and skips interim answers (1xx) before it."""

    __slots__ = ("_interim", "_received", "_to_head")

    def __init__(self, *, to_head: bool) -> None:
        self._to_head = to_head
        self._received = bytearray()
        self._interim = 0

    def find(self, data: bytes) -> tuple[ResponseHead, bytes] | None:
        """Return the head and what follows it, when complete. Raises `MalformedResponseError`."""
        if self._received:
            seen = len(self._received)
            self._received += data
            end = self._received.find(_END, max(seen - 3, 0))
            if end < 0:
                self._wait(seen)
                return None
            data = bytes(self._received)
            self._received.clear()
        else:
            end = data.find(_END)
        while end >= 0:
            end += 4
            head = ResponseHead(data[:end], to_head=self._to_head)
            data = data[end:]
            if head.status >= _LEAST_FINAL:
                return head, data
            self._interim += 1
            if self._interim > MOST_INTERIM:
                raise OverLimitError(f"more than {MOST_INTERIM} interim answers")
            end = data.find(_END)
        self._received += data
        self._wait(0)
        return None

    def _wait(self, seen: int) -> None:
        """Wait for more, unless what is here is no head already; *seen* bytes were looked at."""
        received = self._received
        if len(received) > MOST_HEAD_BYTES:
            raise OverLimitError(f"all fields may take {MOST_HEAD_BYTES} bytes")
        if not any(each.startswith(received[: len(each)]) for each in _VERSIONS):
            raise MalformedResponseError("no status line of HTTP/1.1")
        if received.count(b"\n", seen) != received.count(b"\r\n", max(seen - 1, 0)):
            raise MalformedResponseError("a line that doesn't end in CR LF")


def _check_end(lengths: list[bytes], codings: list[bytes]) -> None:
    """Raise `MalformedResponseError` where nobody can tell from this where an answer ends."""
    if len(lengths) + len(codings) > 1:
        raise MalformedResponseError("more than one length or coding")
    if any(whole_number(length) is None for length in lengths):
        raise MalformedResponseError("a length that is none")
    if b"" in codings:
        raise MalformedResponseError("a transfer coding that has no name")


def _field(line: bytes) -> tuple[bytes, bytes]:
    """Return the field that a line is, its name in lower case. Raises `MalformedResponseError`."""
    if _FIELD_LINE.fullmatch(line) is None:
        raise MalformedResponseError("a line that is no field")
    name, _, value = line.partition(b":")
    field = name.lower(), value.strip(b" \t")
    if field[0] in _SAME and len(line) <= _LONGEST_READ:
        if len(_read_before) >= _MOST_READ:
            _read_before.clear()
        _read_before[line] = field
    return field
