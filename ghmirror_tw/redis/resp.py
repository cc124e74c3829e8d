"""RESP2 as txredisapi reads and writes it, but quicker, and not taking anything for it.

And RESP3, where that was agreed upon, for what a server tells without being asked. What it has
other types for comes out as RESP2 would have it, so that who asks need not know which is spoken
(https://redis.io/docs/latest/develop/reference/protocol-spec).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from attrs import define, field
from txredisapi import BaseRedisProtocol, ResponseError

#: The largest content that Redis holds, in bytes; arrays here have far fewer elements.
_BIGGEST: Final = 1 << 29
#: The longest line, and how deep arrays may be in each other; none here come near to either.
_LONGEST_LINE: Final = 16_384
_DEEPEST: Final = 32

_NULL: Final = -1
_BULK, _ARRAY, _INTEGER, _STATUS, _ERROR = b"$*:+-"
#: What RESP3 has besides.
_NULL_THREE, _VERBATIM, _MAP, _SET, _PUSH = b"_=%~>"
_STRINGS: Final = b"$"
_STRINGS_THREE: Final = b"$="
#: Arrays, and how many elements each of what is counted has.
_ARRAYS: Final = {_ARRAY: 1}
_ARRAYS_THREE: Final = {_ARRAY: 1, _MAP: 2, _SET: 1, _PUSH: 1}
#: An array that has begun.
_BEGUN: Final = object()
#: Most arrays are of so few, and have nothing in them: those are read at once.
_FEW: Final = 8
_NULLS: Final = b"$-1\r\n" * _FEW
_NULLS_THREE: Final = b"_\r\n" * _FEW


def written(parts: Sequence[bytes]) -> bytes:
    """Return a command as it is sent."""
    measured: list[bytes | int] = []
    for part in parts:
        measured += (len(part), part)
    return _form(len(parts)) % tuple(measured)


@lru_cache(64)
def _form(count: int) -> bytes:
    return b"*%d\r\n" % count + b"$%d\r\n%b\r\n" * count


def _number(data: bytes, at: int, end: int, least: int = _NULL) -> int:
    """Return the size or the count in the line from *at* to *end*."""
    number = int(data[at:end])
    if not least <= number <= _BIGGEST:
        raise ValueError(number)
    return number


def _without_kind(text: bytes) -> bytes:
    """Return a verbatim string without what it says of itself, in three letters."""
    if text[3:4] != b":":
        raise ValueError("it does not say what kind of text it is")
    return text[4:]


class Push(list[Any]):
    """What a server tells without being asked: what kind of thing it is, and more."""


@define(eq=False)
class _Replies:
    """Takes bytes in whatever pieces, and gives whole replies.

    What RESP3 (*three*) has other types for comes out as RESP2 would have it, but for a `Push`.
    """

    three: bool = field(init=False, default=False)
    _strings: bytes = field(init=False, default=_STRINGS)
    _arrays: dict[int, int] = field(init=False, default=_ARRAYS)
    #: How long nothing is, in an array.
    _nothing: int = field(init=False, default=len(_NULLS) // _FEW)
    #: Arrays that have begun, outer ones first: what is in them by now, and how much will be.
    _begun: list[tuple[list[Any], int]] = field(init=False, factory=list)
    #: The beginning of something, and how long it will be at least.
    _pieces: list[bytes] = field(init=False, factory=list)
    _had: int = field(init=False, default=0)
    _needed: int = field(init=False, default=0)
    _data: bytes = field(init=False, default=b"")
    _at: int = field(init=False, default=0)

    def speak_three(self, *, three: bool) -> None:
        """Take RESP3 from now on, or RESP2."""
        self.three = three
        self._strings = _STRINGS_THREE if three else _STRINGS
        self._arrays = _ARRAYS_THREE if three else _ARRAYS
        self._nothing = len(_NULLS_THREE if three else _NULLS) // _FEW

    def add(self, data: bytes) -> bool:
        """Take more; return whether there may be something whole in it."""
        if not self._pieces:
            self._data = data
        else:
            self._pieces.append(data)
            self._had += len(data)
            if self._had < self._needed:
                return False
            self._data = b"".join(self._pieces)
            self._pieces.clear()
        self._at = 0
        return True

    def next(self) -> tuple[Any] | None:
        """Return the next reply, if all of it has come. Raises ValueError for what is none."""
        data, at = self._data, self._at
        strings, arrays = self._strings, self._arrays
        while at < len(data):
            end = data.find(b"\r\n", at, at + _LONGEST_LINE + 2)
            if end < 0:
                if len(data) - at > _LONGEST_LINE:
                    raise ValueError("the line has no end")
                self._keep(data[at:], 0)
                return None
            kind, after = data[at], end + 2
            value: Any = None
            if kind in strings:
                size = _number(data, at + 1, end, _NULL if kind == _BULK else 0)
                if size != _NULL:
                    start, after = after, after + size + 2
                    if len(data) < after:
                        self._keep(data[at:], after - at)
                        return None
                    value = data[start : after - 2]
                    value = value if kind == _BULK else _without_kind(value)
            elif kind in arrays:
                value = self._array(kind, _number(data, at + 1, end) * arrays[kind], after)
                if value is _BEGUN:
                    at = after
                    continue
                after += len(value or ()) * self._nothing
            else:
                value = self._line(kind, data[at + 1 : end])
            at = after
            whole = self._put(value) if self._begun else (value,)
            if whole is not None:
                self._at = at
                return whole
        self._data, self._at = b"", 0
        return None

    def _line(self, kind: int, line: bytes) -> Any:
        """Return what a *line* of this *kind* says by itself."""
        if kind == _INTEGER:
            return int(line)
        if kind == _STATUS:
            return line.decode()
        if kind == _ERROR:
            return ResponseError(line.decode())
        if kind == _NULL_THREE and self.three and not line:
            return None
        raise ValueError("unknown")

    def _array(self, kind: int, count: int, at: int) -> Any:
        """Return an array of *count*, which begins *at*; `_BEGUN` if there is something in it."""
        if kind == _PUSH:
            if self._begun or count <= 0:
                raise ValueError("nothing, or within a reply")
            self._begun.append((Push(), count))
            return _BEGUN
        if count < 0 and kind == _ARRAY:
            return None
        if count < 0:
            raise ValueError(count)
        if count == 0 or self._is_nothing(count, at):
            return [None] * count
        if len(self._begun) == _DEEPEST:
            raise ValueError("too deep")
        self._begun.append(([], count))
        return _BEGUN

    def _is_nothing(self, count: int, at: int) -> bool:
        """Tell whether *count* times nothing comes there."""
        nulls = _NULLS_THREE if self.three else _NULLS
        return count <= _FEW and self._data.startswith(nulls[: count * self._nothing], at)

    def _keep(self, rest: bytes, needed: int) -> None:
        self._pieces.append(rest)
        self._had, self._needed = len(rest), needed
        self._data, self._at = b"", 0

    def _put(self, value: Any) -> tuple[Any] | None:
        """Put what is whole where it belongs; return what is whole by that, if it is a reply."""
        begun = self._begun
        while begun:
            items, count = begun[-1]
            items.append(value)
            if len(items) < count:
                return None
            value = items
            begun.pop()
        return (value,)


class StrictProtocol(BaseRedisProtocol):  # type: ignore[misc]
    """Aborts the connection for what RESP2 does not know, where txredisapi guesses or waits.

    Never its hiredis protocol, whichever of the two txredisapi would choose. Transactions are
    not for this one. What comes without being asked for, in RESP3, is given to `told`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._replies = _Replies()

    @property
    def speaks_three(self) -> bool:
        """Whether RESP3 is taken."""
        return self._replies.three

    def speak_three(self, *, three: bool) -> None:
        """Take RESP3 from now on, or RESP2."""
        self._replies.speak_three(three=three)

    def abort(self, why: str) -> None:  # noqa: ARG002 - who extends this may tell
        """Close at once."""
        self.transport.abortConnection()

    def told(self, push: Push) -> None:
        """Take what the server tells without being asked; what is not understood may be ignored."""

    def _build_command(self, *args: Any, **_kwargs: Any) -> bytes:
        """Write a command as txredisapi does, in a fraction of the time."""
        return written([part if type(part) is bytes else self._encode_value(part) for part in args])

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:  # noqa: ARG002
        """Take all that came in one go, without waiting for a turn of the reactor in between."""
        try:
            if not self._replies.add(data):
                return
            while not self.transport.disconnecting:
                whole = self._replies.next()
                if whole is None:
                    return
                reply = whole[0]
                if type(reply) is Push:
                    self.told(reply)
                else:
                    self.replyReceived(reply)
        except Exception:  # noqa: BLE001 - whatever it was, the rest makes no sense any more
            self.abort(f"it does not speak RESP{3 if self.speaks_three else 2}")
