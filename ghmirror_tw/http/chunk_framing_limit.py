"""How many bytes chunked content may spend on its framing (RFC 9112, section 7.1).

Each chunk takes microseconds at any size. A million chunks of one byte would take seconds.
Chunk extensions and trailers count against no other limit.
"""

from __future__ import annotations

from typing import Final

#: The framing may take `FREE_BYTES`, and one byte for each `_CONTENT_PER_BYTE` of the content. A
#: chunk has five bytes of framing at least, so after some 26,000 chunks they average 20 bytes.
FREE_BYTES: Final = 128 * 1024
_CONTENT_PER_BYTE: Final = 4


def is_mostly_framing(wire_bytes: int, content_bytes: int) -> bool:
    """Return whether chunked content has too much framing: it has *wire_bytes* with framing."""
    return wire_bytes - content_bytes > FREE_BYTES + content_bytes // _CONTENT_PER_BYTE
