"""RESP2, the protocol of Redis: an encoder and an incremental parser.

https://redis.io/docs/latest/develop/reference/protocol-spec. Both are faster than txredisapi's
own, and the parser accepts nothing else for a reply. It bounds the memory of a reply: a bulk string
or an array that exceeds the bound is dropped while it is received, and null takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from attrs import define, field
from txredisapi import BaseRedisProtocol, ResponseError

from ghmirror_tw.runtime.deferreds import do_nothing

#: The largest bulk string that Redis stores, in bytes; arrays here have far fewer elements.
_MAX_SIZE: Final = 1 << 29
#: The default limit of all bulk strings of one reply, in bytes.
LARGEST_BYTES: Final = 32 << 20
#: The limit of all elements of one reply. CLUSTER SLOTS of a fragmented cluster has the most here.
MOST_ELEMENTS: Final = 1 << 18
#: The longest 64-bit integer in decimal digits, with its sign.
_MAX_DIGITS: Final = 20
#: The longest line, and the deepest nesting of arrays; no reply here comes near either.
_MAX_LINE: Final = 16_384
_MAX_DEPTH: Final = 32

#: The length of a null bulk string and of a null array.
_NULL: Final = -1
_BULK, _ARRAY, _INTEGER, _STATUS, _ERROR = b"$*:+-"
#: Marks an array whose elements follow.
_INCOMPLETE: Final = object()
#: Most arrays have so few elements, all of them null: those are parsed in one step.
_FEW: Final = 8
_NULL_BULK: Final = b"$-1\r\n"
_NULLS: Final = _NULL_BULK * _FEW
_NULL_LENGTH: Final = len(_NULL_BULK)


def encode_command(parts: Sequence[bytes]) -> bytes:
    """Return a command as an array of bulk strings."""
    lengths_and_parts: list[bytes | int] = []
    for part in parts:
        lengths_and_parts += (len(part), part)
    return _template(len(parts)) % tuple(lengths_and_parts)


@lru_cache(64)
def _template(count: int) -> bytes:
    return b"*%d\r\n" % count + b"$%d\r\n%b\r\n" * count


def _parse_length(data: bytes, start: int, end: int) -> int:
    """Return the length in the line from *start* to *end*."""
    number = int(data[start:end])
    if not _NULL <= number <= _MAX_SIZE:
        raise ValueError(number)
    return number


@define(eq=False)
class ReplyParser:
    """Parses replies from a stream of bytes in pieces of any size.

    A reply holds at most *largest_bytes* in its bulk strings, and `MOST_ELEMENTS`. A bulk string or
    an array that exceeds what is left of them is null; *dropped* is called with its length.
    """

    largest_bytes: int = LARGEST_BYTES
    dropped: Callable[[int], object] = do_nothing
    #: Incomplete arrays, outermost first: their elements so far, and how many are missing. An array
    #: that is dropped has no list.
    _open_arrays: list[tuple[list[Any] | None, int]] = field(init=False, factory=list)
    #: How many bytes and elements the rest of this reply may have.
    _bytes_left: int = field(init=False)
    _elements_left: int = field(init=False, default=MOST_ELEMENTS)
    #: The rest of a bulk string that is dropped, in bytes.
    _dropping: int = field(init=False, default=0)
    #: The beginning of an incomplete element, and its least length.
    pieces: list[bytes] = field(init=False, factory=list)
    _buffered: int = field(init=False, default=0)
    _needed: int = field(init=False, default=0)
    data: bytes = field(init=False, default=b"")
    _position: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._bytes_left = self.largest_bytes

    def feed(self, data: bytes) -> bool:
        """Add *data*; return whether `next_reply` may return a reply now."""
        if self._dropping:
            dropped = min(self._dropping, len(data))
            self._dropping -= dropped
            if self._dropping:
                return False
            data = _NULL_BULK + data[dropped:]
        if not self.pieces:
            self.data = data
        else:
            self.pieces.append(data)
            self._buffered += len(data)
            if self._buffered < self._needed:
                return False
            self.data = b"".join(self.pieces)
            self.pieces.clear()
        self._position = 0
        return True

    def next_reply(self) -> tuple[Any] | None:
        """Return the next complete reply in a tuple; None: there is none yet.

        Raises ValueError for bytes that are not RESP2.
        """
        data, position = self.data, self._position
        while position < len(data):
            end = data.find(b"\r\n", position, position + _MAX_LINE + 2)
            if end < 0:
                self._buffer_line(data[position:])
                return None
            kind, after = data[position], end + 2
            value: Any = None
            if kind == _BULK:
                length = _parse_length(data, position + 1, end)
                if length != _NULL:
                    start, after = after, after + length + 2
                    if len(data) >= after and length <= self._bytes_left:
                        value = data[start : after - 2]
                        self._bytes_left -= length
                    elif self._is_incomplete(length, position, after):
                        return None
            elif kind == _ARRAY:
                value = self._begin_array(_parse_length(data, position + 1, end), after)
                if value is _INCOMPLETE:
                    position = after
                    continue
                after += len(value or ()) * _NULL_LENGTH
            else:
                value = _parse_line(kind, data[position + 1 : end])
            position = after
            reply = self._add_element(value)
            if reply is not None:
                self._position = position
                return reply
        self.data, self._position = b"", 0
        return None

    def _begin_array(self, length: int, start: int) -> list[Any] | object | None:
        """Return an array that is complete; `_INCOMPLETE` if its elements follow at *start*."""
        if length < 0:
            return None
        if length == 0 or self._is_all_null(length, start):
            return [None] * length
        if len(self._open_arrays) == _MAX_DEPTH:
            raise ValueError("arrays are nested too deeply")
        elements: list[Any] | None = []
        if length > self._elements_left:
            elements = None
            self.dropped(length)
        else:
            self._elements_left -= length
        self._open_arrays.append((elements, length))
        return _INCOMPLETE

    def _is_all_null(self, length: int, start: int) -> bool:
        """Return whether an array consists of null elements, and all of them are here."""
        return length <= _FEW and self.data.startswith(_NULLS[: length * _NULL_LENGTH], start)

    def _buffer_line(self, line: bytes) -> None:
        if len(line) > _MAX_LINE:
            raise ValueError("the line is too long")
        self._buffer(line, 0)

    def _buffer(self, rest: bytes, needed: int) -> None:
        self.pieces.append(rest)
        self._buffered, self._needed = len(rest), needed
        self.data, self._position = b"", 0

    def _is_incomplete(self, length: int, start: int, end: int) -> bool:
        """Buffer an incomplete bulk string or drop a large one; return whether bytes are missing.

        *start* and *end* are those of the element.
        """
        if length <= self._bytes_left:
            self._buffer(self.data[start:], end - start)
            return True
        self.dropped(length)
        missing = end - len(self.data)
        if missing <= 0:
            return False
        self._dropping = missing
        self.data, self._position = b"", 0
        return True

    def _add_element(self, value: Any) -> tuple[Any] | None:
        """Add an element to the innermost array; return the reply if it is complete."""
        open_arrays = self._open_arrays
        while open_arrays:
            elements, missing = open_arrays.pop()
            if elements is not None:
                elements.append(value)
            if missing > 1:
                open_arrays.append((elements, missing - 1))
                return None
            value = elements
        self._bytes_left, self._elements_left = self.largest_bytes, MOST_ELEMENTS
        return (value,)


def _parse_line(kind: int, line: bytes) -> Any:
    """Return the value of a reply that is one line."""
    if kind == _INTEGER:
        if len(line) > _MAX_DIGITS:
            raise ValueError("an integer of more than 64 bits")
        return int(line)
    if kind == _STATUS:
        return line.decode()
    if kind == _ERROR:
        return ResponseError(line.decode())
    raise ValueError("unknown type")


class StrictProtocol(BaseRedisProtocol):  # type: ignore[misc]
    """txredisapi's protocol with the parser of this module; it aborts on anything but RESP2.

    It never uses hiredis, whichever parser txredisapi would choose. It has no transactions.
    *largest_bytes*: see `ReplyParser`.
    """

    def __init__(self, largest_bytes: int, **options: Any) -> None:
        super().__init__(**options)
        self.parser = ReplyParser(largest_bytes, self.value_dropped)

    def value_dropped(self, length: int) -> None:
        """Note that a value of *length* bytes or elements is dropped."""

    def abort(self, why: str) -> None:  # noqa: ARG002 - a subclass reports the reason
        """Close the connection at once."""
        self.transport.abortConnection()

    def _build_command(self, *args: Any, **_kwargs: Any) -> bytes:
        """Encode a command as txredisapi does, in a fraction of the time."""
        return encode_command(
            [part if type(part) is bytes else self._encode_value(part) for part in args]
        )

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:  # noqa: ARG002
        """Handle all complete replies in one iteration of the reactor."""
        try:
            if not self.parser.feed(data):
                return
            while not self.transport.disconnecting:
                reply = self.parser.next_reply()
                if reply is None:
                    return
                self.replyReceived(reply[0])
        except Exception:  # noqa: BLE001 - after any error the stream is out of step
            self.abort("it does not speak RESP2")
