"""Content and its codings: how an answer becomes a representation (RFC 9110, section 8.4)."""

from __future__ import annotations

import gzip
import sys
import zlib
from typing import Any, Final

from attrs import define, field

#: The level at which we compress: what more costs isn't worth what it saves.
LEVEL: Final = 5
_GZIP: Final = 16 + zlib.MAX_WBITS

#: How much is handed to zlib at a time, in bytes.
_PART_BYTES: Final = 16 * 1024

#: So many members may be of any size; on average, others unpack to so many bytes.
_MOST_TINY: Final = 100
_TINY_BYTES: Final = 512


class UndecodableError(Exception):
    """Content that does not unpack, or is coded in a way that was not asked for."""


class ContentTooLargeError(Exception):
    """Content that unpacks to more than may be stored."""


def compress(content: bytes) -> bytes:
    """Return *content* gzip-compressed, the same bytes each time."""
    return gzip.compress(content, LEVEL, mtime=0)


@define(eq=False)
class GzipDecompressor:
    """Unpacks a gzip stream that comes in pieces, and no more of it at a time than is taken.

    A stream may have several members, whose contents follow each other (RFC 1952, section 2.2),
    and zeros between and behind them. Raises `UndecodableError` for what is no gzip stream, and for
    members that are tiny on average: each takes as much time as kilobytes of content.
    """

    _packed: bytes = b""
    #: The part of `_packed` that is being unpacked; zlib copies what it leaves of it.
    _part: bytes = field(init=False, default=b"")
    #: Where the rest of `_packed` begins.
    _position: int = field(init=False, default=0)
    _member: Any = field(init=False, factory=lambda: zlib.decompressobj(_GZIP))
    #: How many members have begun, and how many bytes were unpacked.
    _members: int = field(init=False, default=1)
    _unpacked: int = field(init=False, default=0)

    def feed(self, packed: bytes) -> None:
        """Add a piece."""
        self._packed = self._packed[self._position :] + packed
        self._position = 0

    def take(self, most: int) -> bytes:
        """Return up to *most* bytes, at least one of which there must be room for; b"": feed it."""
        while True:
            if not self._part:
                self._part = self._packed[self._position : self._position + _PART_BYTES]
                self._position += len(self._part)
            if self._member.eof:
                self._part = self._part.lstrip(b"\0")
                if not self._part and self._position < len(self._packed):
                    continue
                if not self._part:
                    return b""
                self._begin_member()
            try:
                unpacked: bytes = self._member.decompress(self._part, most)
            except zlib.error as error:
                raise UndecodableError(str(error)) from error
            member = self._member
            self._part = member.unused_data if member.eof else member.unconsumed_tail
            if unpacked:
                self._unpacked += len(unpacked)
                return unpacked
            if not self._part and self._position >= len(self._packed):
                return b""

    def _begin_member(self) -> None:
        self._members += 1
        if self._members > _MOST_TINY + self._unpacked // _TINY_BYTES:
            raise UndecodableError("the gzip stream has too many tiny members")
        self._member = zlib.decompressobj(_GZIP)

    def finish(self) -> None:
        """Raise `UndecodableError` unless the stream has ended, now that nothing more comes."""
        if not self._member.eof:
            raise UndecodableError("the gzip stream breaks off")


def decompress(packed: bytes, limit_bytes: int) -> bytes:
    """Return gzip-compressed content of at most *limit_bytes*.

    Raises `UndecodableError` for what is no whole gzip stream, `ContentTooLargeError` beyond the
    limit.
    """
    if limit_bytes < 0:
        raise ContentTooLargeError  # for zlib, room for nothing is room for everything
    limit_bytes = min(limit_bytes, sys.maxsize - 1)
    unpacking, unpacked = GzipDecompressor(packed), bytearray()
    while piece := unpacking.take(limit_bytes + 1 - len(unpacked)):
        unpacked += piece
        if len(unpacked) > limit_bytes:
            raise ContentTooLargeError
    unpacking.finish()
    return bytes(unpacked)


def estimated_size(content: bytes, coding: bytes | None) -> int:
    """Return about how many bytes *content* has without its *coding*, before it is unpacked.

    A gzip stream ends with that number (RFC 1952, section 2.3.1), though not everybody's does; it
    is never taken to be less than what text usually unpacks to.
    """
    if not coding:
        return len(content)
    return max(8 * len(content), int.from_bytes(content[-4:], "little"))


def decoded(content: bytes, coding: bytes | None, limit_bytes: int) -> bytes:
    """Return content without its *coding*, which is gzip or none (RFC 9110, section 8.4.1).

    Raises `UndecodableError` or `ContentTooLargeError`.
    """
    if coding in {None, b"", b"identity"}:
        return content
    if coding in {b"gzip", b"x-gzip"}:
        return decompress(content, limit_bytes)
    raise UndecodableError(f"content coding {coding!r} was not asked for")
