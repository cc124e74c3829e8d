"""Content and its codings: how an answer becomes a representation (RFC 9110, section 8.4)."""

from __future__ import annotations

import gzip
import zlib
from typing import Final

from ghmirror_tw.policy.fields import CONTENT_FIELDS, Fields
from ghmirror_tw.policy.pagination import count_items
from ghmirror_tw.policy.records import Representation, digest_of

#: The level at which we compress: what more costs isn't worth what it saves.
LEVEL: Final = 5
_GZIP: Final = 16 + zlib.MAX_WBITS


class Undecodable(Exception):  # noqa: N818 - it is what the content is
    """Content that does not unpack, or is coded in a way that was not asked for."""


class TooLarge(Exception):  # noqa: N818 - it is what the content is
    """Content that unpacks to more than may be stored."""


def pack(content: bytes) -> bytes:
    """Return *content* gzip-compressed, the same bytes each time."""
    return gzip.compress(content, LEVEL, mtime=0)


def unpack(packed: bytes, limit_bytes: int) -> bytes:
    """Return gzip-compressed content of at most *limit_bytes*.

    Raises `Undecodable` for what is no whole gzip stream, `TooLarge` beyond the limit.
    """
    unpacked = bytearray()
    while True:
        member = zlib.decompressobj(_GZIP)
        try:
            unpacked += member.decompress(packed, limit_bytes + 1 - len(unpacked))
        except zlib.error as error:
            raise Undecodable(str(error)) from error
        if len(unpacked) > limit_bytes:
            raise TooLarge
        if not member.eof:
            raise Undecodable("the gzip stream breaks off")
        packed = member.unused_data
        if not packed.strip(b"\0"):
            return bytes(unpacked)


def unpacked_size(content: bytes, coding: bytes | None) -> int:
    """Return about how many bytes *content* has without its *coding*, before it is unpacked.

    A gzip stream ends with that number (RFC 1952, section 2.3.1), though not everybody's does; it
    is never taken to be less than what text usually unpacks to.
    """
    if not coding:
        return len(content)
    return max(8 * len(content), int.from_bytes(content[-4:], "little"))


def identity(content: bytes, coding: bytes | None, limit_bytes: int) -> bytes:
    """Return content without its *coding*, which is gzip or none (RFC 9110, section 8.4.1).

    Raises `Undecodable` or `TooLarge`.
    """
    if coding in {None, b"", b"identity"}:
        return content
    if coding in {b"gzip", b"x-gzip"}:
        return unpack(content, limit_bytes)
    raise Undecodable(f"content coding {coding!r} was not asked for")


def represent(
    fields: Fields, content: bytes, coding: bytes | None, limit_bytes: int
) -> tuple[Representation, bytes]:
    """Return what an answer's content is, as a representation, and the content itself.

    Raises `Undecodable` or `TooLarge`.
    """
    plain = identity(content, coding, limit_bytes)
    described = fields.only(CONTENT_FIELDS)
    packed = content if plain is not content else pack(plain)
    return (
        Representation(
            digest=digest_of(plain, described),
            fields=described,
            packed=packed,
            size=len(plain),
            items=count_items(plain),
        ),
        plain,
    )
