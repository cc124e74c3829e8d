"""RESP2 as txredisapi reads and writes it, but quicker, and not taking anything for it."""

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


def written(parts: Sequence[bytes]) -> bytes:
    """Return a command as it is sent."""
    measured: list[bytes | int] = []
    for part in parts:
        measured += (len(part), part)
    return _form(len(parts)) % tuple(measured)


@lru_cache(64)
def _form(count: int) -> bytes:
    return b"*%d\r\n" % count + b"$%d\r\n%b\r\n" * count


class _Incomplete(Exception):  # noqa: N818 - it never leaves this module
    """What has come of something is not all of it: that is so many bytes, or nobody knows."""

    def __init__(self, size: int = 0) -> None:
        super().__init__(size)
        self.size = size


def _line(data: bytes, at: int) -> int:
    """Return where the line that begins at *at* ends."""
    end = data.find(b"\r\n", at, at + _LONGEST_LINE + 2)
    if end >= 0:
        return end
    if len(data) - at > _LONGEST_LINE:
        raise ValueError("the line has no end")
    raise _Incomplete


def _number(data: bytes, at: int, end: int) -> int:
    """Return the size or the count in the line from *at* to *end*."""
    number = int(data[at:end])
    if not _NULL <= number <= _BIGGEST:
        raise ValueError(number)
    return number


@define(eq=False)
class _Replies:
    """Takes bytes in whatever pieces, and gives whole replies."""

    #: Arrays that have begun, outer ones first: what is in them by now, and how much will be.
    _begun: list[tuple[list[Any], int]] = field(init=False, factory=list)
    #: The beginning of something, and how long it will be at least.
    _pieces: list[bytes] = field(init=False, factory=list)
    _had: int = field(init=False, default=0)
    _needed: int = field(init=False, default=0)
    _data: bytes = field(init=False, default=b"")
    _at: int = field(init=False, default=0)

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
        data = self._data
        while self._at < len(data):
            try:
                item = self._item(data, self._at)
            except _Incomplete as some:
                self._keep(data[self._at :], some.size)
                break
            if item is not None:
                whole = self._put(item[0])
                if whole is not None:
                    return whole
        else:
            self._data = b""
        return None

    def _keep(self, rest: bytes, needed: int) -> None:
        self._pieces.append(rest)
        self._had, self._needed = len(rest), needed
        self._data, self._at = b"", 0

    def _item(self, data: bytes, at: int) -> tuple[Any] | None:
        """Take what begins at *at*; nothing where that is the beginning of an array."""
        end = _line(data, at)
        kind = data[at]
        if kind == _BULK:
            size = _number(data, at + 1, end)
            if size == _NULL:
                self._at = end + 2
                return (None,)
            start, stop = end + 2, end + 2 + size
            if len(data) < stop + 2:
                raise _Incomplete(stop + 2 - at)
            self._at = stop + 2
            return (data[start:stop],)
        if kind == _ARRAY:
            count = _number(data, at + 1, end)
            self._at = end + 2
            if count > 0:
                if len(self._begun) == _DEEPEST:
                    raise ValueError("too deep")
                self._begun.append(([], count))
                return None
            return (None if count == _NULL else [],)
        if kind == _INTEGER:
            value: Any = int(data[at + 1 : end])
        elif kind == _STATUS:
            value = data[at + 1 : end].decode()
        elif kind == _ERROR:
            value = ResponseError(data[at + 1 : end].decode())
        else:
            raise ValueError("unknown")
        self._at = end + 2
        return (value,)

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
    not for this one.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._replies = _Replies()

    def abort(self, why: str) -> None:  # noqa: ARG002 - who extends this may tell
        """Close at once."""
        self.transport.abortConnection()

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
                self.replyReceived(whole[0])
        except Exception:  # noqa: BLE001 - whatever it was, the rest makes no sense any more
            self.abort("it does not speak RESP2")
