"""How a snapshot looks; `writer` and `reader` make it and take it apart, piece by piece.

All numbers are unsigned and big-endian::

    magic      8 bytes
    version    2 bytes
    header     2 bytes of length; when it was written, 8 bytes, ms since the epoch;
               the owner, the kind of store, the fingerprint of the secret that seals the
               records, and the URL of the API that they come from, each with its length in
               1 byte, UTF-8; version 1 had no fingerprint, version 2 no URL
    blocks     each 4 bytes of length, not 0, and a zstd frame (RFC 8878) that says how much it
               holds, at most 256 KiB. Together the blocks hold the records, hottest first:
               4 bytes of length of the name, 4 of the blob, the name, the blob.
               A record may go on in the next block.
    end        4 bytes, 0
    trailer    8 bytes: how many records; 8 bytes: how many bytes the blocks hold;
               32 bytes: BLAKE2b of all that stands before them

How many records there are is only known at the end, so the header does not say. A frame never
refers to another one: what is held in memory is one block and one record, whatever a file says.

Nothing that a reader gives can be believed before `Reader.finish` has returned. Whoever restores
reads the whole snapshot twice: once to check it, and again to use it; see `copies`.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Final

from attrs import frozen

#: A name and a sealed blob; a store makes them, and only a store knows what they mean.
Pair = tuple[bytes, bytes]

#: The eighth bit and the line ends show transfers that change content.
MAGIC: Final = b"\x89GHMS\r\n\n"
#: What is written; older versions are still read.
VERSION: Final = 3
#: How many texts a header has, by version.
_TEXTS: Final = {1: 2, 2: 3, 3: 4}

#: How many bytes of records are compressed together.
BLOCK_BYTES: Final = 256 * 1024

#: The largest record, name and blob together, unless somebody says otherwise.
LARGEST_BYTES: Final = 16 * 1024 * 1024

PACKED_BYTES: Final = BLOCK_BYTES + BLOCK_BYTES // 256 + 64  # the worst that zstd makes of a block

START: Final = struct.Struct(">8sHH")
_TIME: Final = struct.Struct(">Q")
LENGTH: Final = struct.Struct(">I")
RECORD: Final = struct.Struct(">II")
COUNTS: Final = struct.Struct(">QQ")
DIGEST_BYTES: Final = 32
#: The kind of store and the fingerprint together; a sealed record is several times as long. A
#: version that names the server is never written without records.
_MOST_OF_OTHER_TEXTS: Final = 16


def new_hash() -> Any:
    """Return the checksum of nothing yet."""
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


def _text(value: str, what: str) -> bytes:
    encoded = value.encode()
    if len(encoded) > 255:  # noqa: PLR2004 - what one byte can say
        raise ValueError(f"the {what} is longer than 255 bytes")
    return bytes((len(encoded),)) + encoded


@frozen
class Header:
    """Whose snapshot it is, of which kind of store, and when it was begun (ms since the epoch).

    *fingerprint*: of the secret that seals the records (see `Codec.fingerprint`). *api_url*: the
    URL of the API that the records come from. Either is None in a snapshot of a version without it.
    """

    owner: str
    kind: str
    written_at_ms: int
    fingerprint: str | None = ""
    api_url: str | None = ""

    def encode(self) -> bytes:
        """Return it as bytes. Raises ValueError for what has no place in it."""
        return (
            _TIME.pack(self.written_at_ms)
            + _text(self.owner, "owner")
            + _text(self.kind, "kind of store")
            + _text(self.fingerprint or "", "fingerprint")
            + _text(self.api_url or "", "API's URL")
        )

    @classmethod
    def decode(cls, raw: bytes, version: int = VERSION) -> Header:
        """Return what `encode` was called on, in that *version*. Raises ValueError."""
        if len(raw) < _TIME.size:
            raise ValueError("it is too short")
        (at,) = _TIME.unpack_from(raw)
        texts, rest = [], raw[_TIME.size :]
        while rest and len(rest) > rest[0]:
            end = 1 + rest[0]
            texts.append(rest[1:end].decode())
            rest = rest[end:]
        if rest or len(texts) != _TEXTS[version]:
            raise ValueError("it does not hold an owner and a kind of store")
        fingerprint, api_url, *_ = (*texts[2:], None, None)
        return cls(texts[0], texts[1], at, fingerprint, api_url)


def may_hold_records(owner: str, size_bytes: int) -> bool:
    """Tell whether a snapshot of *owner* with that size holds more than a header and a trailer.

    The smallest record is larger than the names of the kind of store and of the secret together.
    """
    header = Header(owner, "", 0, "").encode()
    empty = START.size + len(header) + LENGTH.size + COUNTS.size + DIGEST_BYTES
    return size_bytes > empty + _MOST_OF_OTHER_TEXTS


@frozen
class Summary:
    """What a whole snapshot says of itself: its header, its records, and their bytes."""

    header: Header
    records: int
    size_bytes: int
