"""Values that are made from the bytes of one input."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from random import Random

from ghmirror_tw.http.fields import Fields

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class InputValues:
    """Reads values from the front of an input; at its end, all values are zero or empty."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def number(self, below: int) -> int:
        """Return a number from 0 to *below* - 1, of two bytes."""
        return int.from_bytes(self.take(2).ljust(2, b"\0"), "big") % below

    def flag(self) -> bool:
        """Return a boolean, of one byte."""
        return bool(self.take(1).ljust(1, b"\0")[0] & 1)

    def seconds(self) -> float:
        """Return a time with microseconds."""
        return int.from_bytes(self.take(7), "big") / 1_000_000

    def some(self, most: int = 255) -> bytes:
        """Return up to *most* bytes; the byte before them is their number."""
        return self.take(self.take(1).ljust(1, b"\0")[0] % (most + 1))

    def maybe(self) -> bytes | None:
        """Return bytes, or None."""
        return self.some() if self.flag() else None

    def take(self, size: int) -> bytes:
        """Return the next *size* bytes, or all that are left."""
        taken, self._raw = self._raw[:size], self._raw[size:]
        return taken

    def rest(self) -> bytes:
        """Return all that are left."""
        return self.take(len(self._raw))

    def __bool__(self) -> bool:
        return bool(self._raw)


def ways(raw: bytes) -> Iterator[list[bytes]]:
    """Return *raw* in pieces, in several ways that follow from it: byte by byte, and at random."""
    yield [raw[at : at + 1] for at in range(len(raw))]
    random = Random(zlib.crc32(raw))
    for size in (4, 40):
        cut: list[bytes] = []
        at = 0
        while at < len(raw):
            end = at + random.randint(1, size)
            cut.append(raw[at:end])
            at = end
        yield cut
    middle = random.randint(0, len(raw))
    yield [piece for piece in (raw[:middle], raw[middle:]) if piece]


def fields_of(raw: bytes) -> Fields:
    """Return the fields of a message whose lines *raw* is; lines that are none are left out.

    As after every parser of heads, a name is a token, and a value holds no CR, LF or NUL.
    """
    lines = []
    for line in raw.replace(b"\r", b"").replace(b"\0", b"").split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon and _NAME.fullmatch(name):
            lines.append((name.lower(), value.strip(b" \t")))
    return Fields(lines)
