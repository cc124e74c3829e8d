"""The head of an answer as it goes over the wire (RFC 9112, section 4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from twisted.web.http import RESPONSES
from twisted.web.http_headers import Headers

#: So many names are spelled at most; nobody has so many.
_MOST_NAMES: Final = 1000


class _Spelled(dict[bytes, bytes]):
    """Names of fields as Twisted spells them, each with what stands between it and its value."""

    def __missing__(self, name: bytes) -> bytes:
        headers = Headers()
        headers.addRawHeader(name, b"")
        ((spelled, _),) = headers.getAllRawHeaders()
        if len(self) >= _MOST_NAMES:
            self.clear()
        said = self[name] = spelled + b": "
        return said


_SPELLED: Final = _Spelled()
_STATUS: Final = {status: b" %d %s\r\n" % (status, reason) for status, reason in RESPONSES.items()}


def head_of(version: bytes, status: int, lines: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return status line and fields, up to the empty line.

    None where there is an end of line in a value, so that nobody gets to write lines of his own.
    """
    pieces = [_SPELLED[name] + value for name, value in lines]
    first = version + (_STATUS.get(status) or b" %d Unknown Status\r\n" % status)
    pieces.append(b"\r\n")
    head = first + b"\r\n".join(pieces)
    if head.count(b"\n") != len(pieces) + 1 or head.count(b"\r") != len(pieces) + 1:
        return None
    return head
