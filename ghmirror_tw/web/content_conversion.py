"""Conversion of content while it is sent: unpacking, rewriting and packing, piece by piece."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Final, Protocol

from attrs import define, field

from ghmirror_tw.http.content_codings import LEVEL, GzipDecompressor

#: The bytes that are converted in one step; a piece of gzip may unpack to any size.
STEP_BYTES: Final = 64 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS


class ContentStream(Protocol):
    """Rewrites content in pieces."""

    def feed(self, chunk: bytes) -> bytes:
        """Add *chunk*; return what can be rewritten by now. Later calls return the rest."""

    def close(self) -> bytes:
        """Return the rest, at the end of the content."""


def compressor() -> Any:
    """Return a compressor for gzip."""
    return zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)


@define(eq=False)
class Conversion:
    """Unpacks, rewrites and packs content, step by step: `feed` a piece, `take` until None.

    Raises `UndecodableError` for content that does not unpack.
    """

    unpacking: GzipDecompressor | None = None
    rewriting: tuple[ContentStream, ...] = ()
    packing: Any = None
    _fed: bytes = field(default=b"", init=False)

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes (zlib.h: 32 kB to unpack, 256 kB to pack)."""
        return STEP_BYTES if self.packing is None else 4 * STEP_BYTES

    def feed(self, piece: bytes) -> None:
        """Add a piece, after `take` has returned None."""
        if self.unpacking is None:
            self._fed = piece
        else:
            self.unpacking.feed(piece)

    def take(self) -> bytes | None:
        """Return the result of the next step, which may be empty; None: feed the next piece."""
        if self.unpacking is None:
            plain, self._fed = self._fed, b""
        else:
            plain = self.unpacking.take(STEP_BYTES)
        if not plain:
            return None
        return self._converted(plain, self.rewriting)

    def finish(self) -> bytes:
        """Return the rest, at the end of the content."""
        if self.unpacking is not None:
            self.unpacking.finish()
        rest = b"".join(
            [
                self._converted(stream.close(), self.rewriting[place:])
                for place, stream in enumerate(self.rewriting, 1)
            ]
        )
        return rest if self.packing is None else rest + self.packing.flush()

    def _converted(self, plain: bytes, streams: tuple[ContentStream, ...]) -> bytes:
        for stream in streams:
            plain = stream.feed(plain)
        if self.packing is None:
            return plain
        packed: bytes = self.packing.compress(plain)
        return packed


def pieces(content: bytes) -> Iterator[bytes]:
    """Yield *content* in pieces of a step."""
    for position in range(0, len(content), STEP_BYTES):
        yield content[position : position + STEP_BYTES]


def converted(content: bytes, conversion: Conversion) -> Iterator[bytes]:
    """Yield the result of *conversion* for *content*, step by step."""
    for piece in pieces(content):
        conversion.feed(piece)
        while (step := conversion.take()) is not None:
            yield step
    yield conversion.finish()


def is_changed_by(packed: bytes, rewriting: tuple[ContentStream, ...]) -> bool:
    """Return whether *rewriting* changes the content of *packed*; compares them in steps."""
    plain = b""
    unpacked, rewritten = Conversion(GzipDecompressor()), Conversion(rewriting=rewriting)
    for step in converted(packed, unpacked):
        plain += step
        rewritten.feed(step)
        made = rewritten.take() or b""
        if plain[: len(made)] != made:
            return True
        plain = plain[len(made) :]
    return plain != rewritten.finish()
