"""The heads of answers: status line and fields, found and read in the bytes that come (RFC 9112).

No sockets here: bytes go in, a `Head` comes out. A head is cut out of what comes first, and read
by llhttp then, in one piece and by a parser of its own: so nothing that stood before it or comes
behind it has a part in how it is read.
"""

from __future__ import annotations

from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from ghmirror_tw.policy.fields import tokens

#: The longest line, its CR counted as in Twisted's client, and the largest head, in bytes.
MOST_LINE: Final = 16_384
MOST_HEAD: Final = 256 * 1024
#: So many interim answers (1xx) may come before one answer.
MOST_INTERIM: Final = 16

_END: Final = b"\r\n\r\n"
_VERSIONS: Final = (b"HTTP/1.1 ", b"HTTP/1.0 ")
_LEAST_STATUS: Final = 100
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


class Malformed(ValueError):  # noqa: N818 - it says what is
    """What came is no answer that can be told from what comes behind it."""


class Head:
    """The head of one answer; *block* is all of it, to the empty line.

    *lines* are its fields in order, names in lower case, without those that delimit it. *length*:
    of the content in bytes, None where the head doesn't tell. *persistent*: whether the
    connection may be used again once the answer is complete. Raises `Malformed`.
    """

    __slots__ = ("_control", "chunked", "length", "lines", "persistent", "status")

    def __init__(self, block: bytes, *, to_head: bool) -> None:
        self.lines: list[tuple[bytes, bytes]] = []
        self._control: list[tuple[bytes, bytes]] = []
        if not block.startswith(_VERSIONS):
            raise Malformed("no status line of HTTP/1.1")
        _check_size(block)
        parser = HttpResponseParser(self)
        try:
            parser.feed_data(block)
        except (HttpParserError, HttpParserUpgrade) as error:
            # 101 among them: nobody asks for another protocol.
            raise Malformed(str(error)) from None
        self.status: int = parser.get_status_code()
        # A name without a value would swallow the next one, should the parser ever leave it out.
        if len(self.lines) + len(self._control) != block.count(b"\n") - 2:
            raise Malformed("not one field a line")
        if self.status < _LEAST_STATUS:
            raise Malformed(f"a status of {self.status}")
        self.persistent = block.startswith(_VERSIONS[0])
        self.chunked = False
        self.length: int | None = None
        if self._control:
            self._take_control(to_head=to_head)
        if to_head or self.status in _WITHOUT_CONTENT:
            self.chunked = False
            self.length = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field from the parser."""
        name = name.lower()
        (self._control if name in _CONTROL else self.lines).append((name, value.strip()))

    def _take_control(self, *, to_head: bool) -> None:
        codings = []
        for name, value in self._control:
            if name == b"connection":
                if b"close" in tokens(value):
                    self.persistent = False
            elif name == b"transfer-encoding":
                codings.append(value.lower())
            elif name == b"content-length":
                # The parser has seen to it that there is one, of digits, and no transfer coding.
                self.length = int(value)
                if to_head:
                    self.lines.append((name, value))
        if codings and not to_head and self.status not in _WITHOUT_CONTENT:
            if codings != [b"chunked"]:
                raise Malformed("a transfer coding that is not chunked")
            self.chunked = True


class Heads:
    """Finds the head of one answer in what comes, and skips interim answers (1xx) before it."""

    __slots__ = ("_interim", "_received", "_to_head")

    def __init__(self, *, to_head: bool) -> None:
        self._to_head = to_head
        self._received = bytearray()
        self._interim = 0

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return the head and what came behind it, once it is here. Raises `Malformed`."""
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
            head = Head(data[:end], to_head=self._to_head)
            data = data[end:]
            if head.status >= _LEAST_FINAL:
                return head, data
            self._interim += 1
            if self._interim > MOST_INTERIM:
                raise Malformed("too many interim answers")
            end = data.find(_END)
        self._received += data
        self._wait(0)
        return None

    def _wait(self, seen: int) -> None:
        """Wait for more, unless what is here is no head already; *seen* bytes were looked at."""
        received = self._received
        _check_size(received[max(len(received) - MOST_LINE - 1, 0) :])
        if len(received) > MOST_HEAD:
            raise Malformed("the fields are too large")
        if not any(each.startswith(received[: len(each)]) for each in _VERSIONS):
            raise Malformed("no status line of HTTP/1.1")
        if received.count(b"\n", seen) != received.count(b"\r\n", max(seen - 1, 0)):
            raise Malformed("a line that doesn't end in CR LF")


def _check_size(block: bytes | bytearray) -> None:
    if len(block) <= MOST_LINE:
        return
    if len(block) > MOST_HEAD:
        raise Malformed("the fields are too large")
    if max(map(len, block.split(b"\n"))) > MOST_LINE:
        raise Malformed("a line is too long")
