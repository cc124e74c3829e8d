"""The head of a response as it goes over the wire (RFC 9112, section 4).

Every response to a client is written here, so what all of them have in common is added here.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from twisted.web.http_headers import Headers

from ghmirror_tw.policy.cors import ON_EVERY_RESPONSE
from ghmirror_tw.policy.spelling import SPELLINGS

#: So many names are spelled at most; nobody has so many.
_MOST_NAMES: Final = 1000


class _Spelled(dict[bytes, bytes]):
    """Names of fields as they are spelled, each with what stands between it and its value.

    The spelling is GitHub's where it has one of its own, else Twisted's.
    """

    def __missing__(self, name: bytes) -> bytes:
        headers = Headers()
        headers.addRawHeader(name, b"")
        ((spelled, _),) = headers.getAllRawHeaders()
        if len(self) >= _MOST_NAMES:
            self.clear()
        said = self[name] = SPELLINGS.get(name.lower(), spelled) + b": "
        return said


_SPELLED: Final = _Spelled()
#: Reason phrases; of those that Python's versions have differently, RFC 9110's, and GitHub's 422.
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus} | {
    413: b"Content Too Large",
    414: b"URI Too Long",
    422: b"Unprocessable Entity",
}
_STATUS: Final = {status: b" %d %s\r\n" % (status, reason) for status, reason in _REASONS.items()}
_COMMON: Final = tuple(_SPELLED[name] + value for name, value in ON_EVERY_RESPONSE)
#: Names of fields that are added here, as Fields and Twisted spell them.
_REPLACED: Final = frozenset(
    spelling for name, _ in ON_EVERY_RESPONSE for spelling in (name, name.title())
)


def head_of(version: bytes, status: int, lines: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return status line and fields, up to the empty line.

    None where there is an end of line in a value, so that nobody gets to write lines of his own.
    """
    pieces = [_SPELLED[name] + value for name, value in lines if name not in _REPLACED]
    pieces += _COMMON
    first = version + (_STATUS.get(status) or b" %d Unknown Status\r\n" % status)
    pieces.append(b"\r\n")
    head = first + b"\r\n".join(pieces)
    if head.count(b"\n") != len(pieces) + 1 or head.count(b"\r") != len(pieces) + 1:
        return None
    return head
