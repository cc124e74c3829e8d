"""Content codings: gzip or none (RFC 9110, section 8.4), and their negotiation (12.5.3)."""

from __future__ import annotations

import gzip
import sys
import zlib
from functools import lru_cache
from typing import Any, Final

from attrs import define, field

from ghmirror_tw.http.fields import Fields, tokens

#: The level of compression: higher ones take much more time for little.
LEVEL: Final = 5
_GZIP: Final = 16 + zlib.MAX_WBITS

#: The input of one call of zlib, in bytes.
_PART_BYTES: Final = 16 * 1024

#: This many members may be of any size; the content of further ones has this size on average.
_MOST_TINY: Final = 100
_TINY_BYTES: Final = 512


class UndecodableError(Exception):
    """Content that is no valid gzip stream, or has a coding that was not requested."""


class ContentTooLargeError(Exception):
    """Content that is larger than the limit without its coding."""


def compress(content: bytes) -> bytes:
    """Return *content* gzip-compressed; the result is deterministic."""
    return gzip.compress(content, LEVEL, mtime=0)


@define(eq=False)
class GzipDecompressor:
    """Decompresses a gzip stream in pieces, with a bound for each step.

    A stream may have several members, whose contents follow each other (RFC 1952, section 2.2),
    and zeros between and behind them. Raises `UndecodableError` for an invalid stream, and for too
    many tiny members: each takes as much time as kilobytes of content.
    """

    _packed: bytes = b""
    #: The current input of zlib, which copies the rest at each call.
    part: bytes = field(init=False, default=b"")
    #: The position of the rest in `_packed`.
    _position: int = field(init=False, default=0)
    _member: Any = field(init=False, factory=lambda: zlib.decompressobj(_GZIP))
    #: The number of members so far, and of bytes of content.
    _members: int = field(init=False, default=1)
    _unpacked: int = field(init=False, default=0)

    def feed(self, packed: bytes) -> None:
        """Add a piece of the stream."""
        self._packed = self._packed[self._position :] + packed
        self._position = 0

    def take(self, most: int) -> bytes:
        """Return up to *most* bytes of content (*most* > 0); b"": more input is needed."""
        while True:
            if not self.part:
                self.part = self._packed[self._position : self._position + _PART_BYTES]
                self._position += len(self.part)
            if self._member.eof:
                self.part = self.part.lstrip(b"\0")
                if not self.part and self._position < len(self._packed):
                    continue
                if not self.part:
                    return b""
                self._begin_member()
            try:
                unpacked: bytes = self._member.decompress(self.part, most)
            except zlib.error as error:
                raise UndecodableError(str(error)) from error
            member = self._member
            self.part = member.unused_data if member.eof else member.unconsumed_tail
            if unpacked:
                self._unpacked += len(unpacked)
                return unpacked
            if not self.part and self._position >= len(self._packed):
                return b""

    def _begin_member(self) -> None:
        self._members += 1
        if self._members > _MOST_TINY + self._unpacked // _TINY_BYTES:
            raise UndecodableError("the gzip stream has too many tiny members")
        self._member = zlib.decompressobj(_GZIP)

    def finish(self) -> None:
        """Raise `UndecodableError` unless the stream is complete, at the end of the input."""
        if not self._member.eof:
            raise UndecodableError("the gzip stream breaks off")


def decompress(packed: bytes, limit_bytes: int) -> bytes:
    """Return gzip-compressed content of at most *limit_bytes*.

    Raises `UndecodableError` for an invalid or incomplete stream, and `ContentTooLargeError` beyond
    the limit.
    """
    if limit_bytes < 0:
        raise ContentTooLargeError  # zlib takes 0 for no limit
    limit_bytes = min(limit_bytes, sys.maxsize - 1)
    unpacking, unpacked = GzipDecompressor(packed), bytearray()
    while piece := unpacking.take(limit_bytes + 1 - len(unpacked)):
        unpacked += piece
        if len(unpacked) > limit_bytes:
            raise ContentTooLargeError
    unpacking.finish()
    return bytes(unpacked)


def estimated_size(content: bytes, coding: bytes | None) -> int:
    """Return an estimate of the size of *content* without its *coding*, before decompression.

    A gzip stream ends with its size (RFC 1952, section 2.3.1), but the sender may lie. So the
    estimate is at least the usual size of text.
    """
    if not coding:
        return len(content)
    return max(8 * len(content), int.from_bytes(content[-4:], "little"))


def decoded(content: bytes, coding: bytes | None, limit_bytes: int) -> bytes:
    """Return *content* without its *coding*, gzip or none (RFC 9110, section 8.4.1).

    Raises `UndecodableError` or `ContentTooLargeError`.
    """
    if coding in {None, b"", b"identity"}:
        return content
    if coding in {b"gzip", b"x-gzip"}:
        return decompress(content, limit_bytes)
    raise UndecodableError(f"content coding {coding!r} was not requested")


def _weight(parameters: list[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.strip().partition(b"=")
        if name.strip() == b"q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def accepts_gzip(fields: Fields) -> bool:
    """Return whether gzip is acceptable, and weighs no less than no coding."""
    return fields.memoised(_accepts_gzip)


def _accepts_gzip(fields: Fields) -> bool:
    value = fields.combined(b"accept-encoding")
    if value is None:
        return False
    weights: dict[bytes, float] = {}
    for member in tokens(value):
        coding, *parameters = member.split(b";")
        weights[coding.strip()] = _weight(parameters)
    gzip = weights.get(b"gzip", weights.get(b"x-gzip", weights.get(b"*", 0.0)))
    return gzip > 0.0 and gzip >= weights.get(b"identity", 0.0)


@lru_cache(256)
def vary_with_accept_encoding(vary: bytes | None) -> bytes:
    """Return *vary* with `Accept-Encoding` in it."""
    if vary is None:
        return b"Accept-Encoding"
    if {b"*", b"accept-encoding"} & set(tokens(vary)):
        return vary
    return vary + b", Accept-Encoding"
