"""Requests that differ from the one before on their connection by the request line alone.

A client says the same about itself again and again: over one connection nearly all requests have
the same field lines, byte for byte. What was made of them once is true again, and neither parsing
them nor what follows from them has to be done anew.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen
from twisted.web.http_headers import Headers

from ghmirror_tw.http.fields import Fields

#: A request line of which nobody can have another opinion (RFC 9112, section 3): part of those
#: that Twisted takes.
_LINE: Final = re.compile(rb"(GET|HEAD) ([\x21-\x7e]+) HTTP/1\.1")
_ENDED_LINE: Final = re.compile(_LINE.pattern + rb"\r\n")
_END: Final = b"\r\n\r\n"
#: Longer blocks are not kept, in bytes: what is made of one takes several times as much, for each
#: connection.
LONGEST_BYTES: Final = 2048
#: Blocks of more lines are not kept either: a line of five bytes takes as much as one of a hundred.
MOST_LINES: Final = 32
#: With these the next request might mean something else, or more than its fields follows.
_NOT_ALONE: Final = frozenset({b"content-length", b"expect", b"transfer-encoding", b"upgrade"})


@frozen(eq=False)
class Front:
    """The beginning of a request, if that is all there is: its line, and the *block* behind it.

    *block* is what stands behind the request line, with the empty line at its end.
    """

    method: bytes
    target: bytes
    block: bytes

    @classmethod
    def of(cls, data: bytes, most: int) -> Front | None:
        """Return the front of a request that *data* is, whole and alone, of *most* bytes at most.

        None: it may be one all the same, but takes a parser to tell.
        """
        line, _, block = data.partition(b"\r\n")
        read = _LINE.fullmatch(line)
        if read is None or len(data) > most or not block.endswith(_END):
            return None
        # The first end there is must be the last: with no fields at all it comes at once.
        if block.startswith(b"\r\n") or block.find(_END) != len(block) - len(_END):
            return None
        return cls(read[1], read[2], block)


@frozen(eq=False)
class Heard:
    """A block of field lines, and what Twisted's parser made of it."""

    block: bytes
    headers: Headers
    fields: Fields

    @classmethod
    def of(cls, front: Front, headers: Headers, fields: Fields) -> Heard | None:
        """Return what can be used again; None: nothing can, or it would take too much memory."""
        if (
            len(front.block) > LONGEST_BYTES
            or front.block.count(b"\n") > MOST_LINES
            or any(name in _NOT_ALONE for name, _ in fields)
        ):
            return None
        return cls(front.block, headers, fields)

    def again(self, data: bytes, most: int) -> re.Match[bytes] | None:
        """Return method and target of a request that *data* is, if it has this block.

        It is one of those that have a front, whole and alone, and *most* bytes at most.
        """
        end = len(data) - len(self.block)
        if len(data) > most or not data.endswith(self.block):
            return None
        return _ENDED_LINE.fullmatch(data, 0, end)
