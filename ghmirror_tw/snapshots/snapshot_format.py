"""The format of snapshots; `snapshot_writer` encodes it and `snapshot_reader` decodes it.

All numbers are unsigned and big-endian::

    magic      8 bytes
    version    2 bytes
    header     2 bytes of length; when it was written, 8 bytes, ms since the epoch;
               the owner, the kind of store, the fingerprint of the secret that seals the
               records, and the URL of the API that they come from, each with its length in
               1 byte, UTF-8; version 1 had no fingerprint, version 2 no URL
    blocks     each 4 bytes of length, not 0, and a zstd frame (RFC 8878) with the size of its
               content, at most 256 KiB. The content of all blocks are the records, most recently
               used first:
               4 bytes of length of the name, 4 of the blob, the name, the blob.
               A record may continue in the next block.
    end        4 bytes, 0
    trailer    8 bytes: how many records; 8 bytes: how many bytes the blocks hold;
               32 bytes: BLAKE2b of all bytes before them

The number of records is known only at the end, so it is not in the header. Frames are independent:
memory holds one block and one record, with any file.

Records are unverified until `SnapshotReader.finish` returns. So a restore reads the snapshot twice:
first to check it, then to store its records; see `snapshot_repository`.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Final

from attrs import frozen

#: A name and a sealed blob, which only stores interpret.
Pair = tuple[bytes, bytes]

#: The eighth bit and the line ends detect transfers that change content.
MAGIC: Final = b"\x89GHMS\r\n\n"
#: The version that is written; older versions are still read.
VERSION: Final = 3
#: The number of texts in a header, by version.
_TEXTS: Final = {1: 2, 2: 3, 3: 4}

#: The bytes of records in one block.
BLOCK_BYTES: Final = 256 * 1024

#: The default limit of a record, name and blob together.
LARGEST_BYTES: Final = 16 * 1024 * 1024

PACKED_BYTES: Final = BLOCK_BYTES + BLOCK_BYTES // 256 + 64  # the most that zstd needs for a block

START: Final = struct.Struct(">8sHH")
_TIME: Final = struct.Struct(">Q")
LENGTH: Final = struct.Struct(">I")
RECORD: Final = struct.Struct(">II")
COUNTS: Final = struct.Struct(">QQ")
DIGEST_BYTES: Final = 32


def new_hash() -> Any:
    """Return a new hash object."""
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


def _text(value: str, field_name: str) -> bytes:
    encoded = value.encode()
    if len(encoded) > 255:  # noqa: PLR2004 - the most that one byte can express
        raise ValueError(f"the {field_name} is longer than 255 bytes")
    return bytes((len(encoded),)) + encoded


@frozen
class Header:
    """The owner of a snapshot, the kind of its store, and its start (ms since the epoch).

    *fingerprint* is that of the secret that seals the records (see `Codec.fingerprint`), *api_url*
    the URL of the API that they come from. Both are None in versions without them.
    """

    owner: str
    kind: str
    written_at_ms: int
    fingerprint: str | None = ""
    api_url: str | None = ""

    def encode(self) -> bytes:
        """Return the encoded header. Raises `ValueError` for a text that is too long."""
        return (
            _TIME.pack(self.written_at_ms)
            + _text(self.owner, "owner")
            + _text(self.kind, "kind of store")
            + _text(self.fingerprint or "", "fingerprint")
            + _text(self.api_url or "", "API's URL")
        )

    @classmethod
    def decode(cls, raw: bytes, version: int = VERSION) -> Header:
        """Return the header of that *version*. Raises `ValueError`.

        Its texts are shown on terminals, which other characters than printable ones control.
        """
        if len(raw) < _TIME.size:
            raise ValueError("it is too short")
        (at,) = _TIME.unpack_from(raw)
        texts, rest = [], raw[_TIME.size :]
        while rest and len(rest) > rest[0]:
            end = 1 + rest[0]
            texts.append(rest[1:end].decode())
            rest = rest[end:]
        if rest or len(texts) != _TEXTS[version]:
            raise ValueError("it does not contain an owner and a kind of store")
        if not all(text.isprintable() for text in texts):
            raise ValueError("it contains characters that are not printable")
        fingerprint, api_url, *_ = (*texts[2:], None, None)
        return cls(texts[0], texts[1], at, fingerprint, api_url)


@frozen
class Summary:
    """The header of a snapshot, the number of its records, and their bytes."""

    header: Header
    records: int
    size_bytes: int
