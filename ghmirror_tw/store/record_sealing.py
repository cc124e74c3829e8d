"""Records as bytes: versioned, bound to their names, and accepted only when whole.

A sealed record is ``header payload seal content``. The header's 20 bytes mean the same in every
version, because scripts in Redis read them: magic, version, kind, flags, and two times as
big-endian doubles. The payload is that of `record_kinds`, after its length. The seal is an HMAC
over name, header and payload, where there is a secret. Only a representation has content behind it,
which its digest covers, and the payload contains the digest.

An attacker with write access to Redis or to snapshots can at worst make a record unreadable: a
record that does not decode, has another secret's seal or stands under another name counts as
missing.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from contextlib import suppress
from math import isfinite, isnan
from typing import Any, Final, TypeAlias, TypeVar

from attrs import field, frozen

from ghmirror_tw.caching.records import Representation
from ghmirror_tw.github.reported_limit import Limit
from ghmirror_tw.runtime.recent_cache import RecentCache
from ghmirror_tw.store.record_kinds import (
    KINDS,
    REFUSAL,
    REPRESENTATION,
    MalformedRecordError,
    RecordKind,
    Times,
    is_whole,
    limit_kind,
)

#: The version that is written. A newer one is neither read nor replaced.
VERSION: Final = 1
MAGIC: Final = 0x47
_SEALED: Final = 1
_HEADER: Final = struct.Struct(">BBcBdd")
_HEADER_AND_LENGTH: Final = struct.Struct(">BBcBddI")
_LENGTH: Final = struct.Struct(">I")
_SEAL_BYTES: Final = 16
#: How many values of records are cached.
_CACHED: Final = 4096
#: The default limit of decoded content; it is that of `[cache] max_stored_size`.
_LARGEST_CONTENT_BYTES: Final = 8 * 1024 * 1024

_Values: TypeAlias = RecentCache[tuple[bytes, bytes], tuple[Any, ...]]
R = TypeVar("R")


@frozen
class Codec:
    """Seals records and opens them; *name* is what a record is stored under, without any prefix.

    Records that one of the *older* secrets has sealed are opened as well. None is sealed with them.
    A representation whose decoded content is larger than *largest_content_bytes* does not open.
    """

    secret: bytes = field(default=b"", repr=False)
    older: tuple[bytes, ...] = field(default=(), repr=False)
    largest_content_bytes: int = _LARGEST_CONTENT_BYTES
    #: The values of records that were sealed or opened, by name and all of their bytes, so that
    #: each is decoded only once. They end with this codec, so no record that a foreign secret has
    #: sealed is among them. Python's garbage collector ignores such tuples, but not records.
    _values: _Values = field(init=False, eq=False, repr=False, factory=lambda: RecentCache(_CACHED))
    _keyed: hmac.HMAC = field(init=False, eq=False, repr=False)
    _older: tuple[Codec, ...] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # to be copied: setting the key takes longer than all the rest
        object.__setattr__(self, "_keyed", hmac.new(self.secret, digestmod="sha256"))
        object.__setattr__(self, "_older", tuple(map(Codec, self.older)))

    @classmethod
    def by(
        cls, secrets: Sequence[bytes], largest_content_bytes: int = _LARGEST_CONTENT_BYTES
    ) -> Codec:
        """Return the codec that seals with the first of *secrets*; the others are older ones."""
        current, *others = secrets or (b"",)
        return cls(current, tuple(others), largest_content_bytes)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprint of the secret, and those of the older ones."""
        return self.fingerprint, *[codec.fingerprint for codec in self._older]

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that identify the secret; empty without a secret."""
        if not self.secret:
            return ""
        keyed = self._keyed.copy()
        keyed.update(b"fingerprint")
        return keyed.hexdigest()[:8]

    def seal(self, kind: RecordKind[R], name: bytes, record: R) -> bytes:
        """Seal *record* for *name* (an entry is sealed for the name of its recency list)."""
        flags = _SEALED if self.secret else 0
        payload, times = kind.pack(record), kind.times_of(record)
        head = _HEADER_AND_LENGTH.pack(MAGIC, VERSION, kind.mark, flags, *times, len(payload))
        head += payload
        content = record.packed if isinstance(record, Representation) else b""
        sealed = b"".join((head, self.seal_of(name, head), content))
        self._cache(kind, name, sealed, record)
        return sealed

    def _cache(self, kind: RecordKind[R], name: bytes, sealed: bytes, record: R) -> None:
        values = None if kind.attributes_of is None else kind.attributes_of(record)
        if values is not None:
            self._values.put((name, sealed), values)

    def seal_of(self, name: bytes, head: bytes) -> bytes:
        """Return the seal of a record without its content; empty without a secret."""
        if not self.secret:
            return b""
        message = b"record\0%d:%s%s" % (len(name), name, head)
        seal = self._keyed.copy()
        seal.update(message)
        return seal.digest()[:_SEAL_BYTES]

    def open(self, kind: RecordKind[R], name: bytes, blob: Any) -> R | None:
        """Return the record that is sealed in *blob* for *name*, or None.

        The content of a representation is checked against its digest, which takes time where it is
        large.
        """
        if not blob or not isinstance(blob, bytes):
            return None
        make = kind.record
        if make is not None and blob[2:3] == kind.mark:
            values = self._values.get((name, blob))
            if values is not None:
                return make(*values)
        try:
            record = kind.unpack(*self._unsealed(kind, name, blob))
        except (MalformedRecordError, struct.error, ValueError, TypeError):
            return None
        if isinstance(record, Representation) and not is_whole(record, self.largest_content_bytes):
            return None
        self._cache(kind, name, blob, record)
        return record

    def _unsealed(
        self, kind: RecordKind[Any], name: bytes, blob: bytes
    ) -> tuple[Times, bytes, bytes]:
        """Check a record, and return its times, payload and content."""
        if not self._older:
            return self._unsealed_by_own(kind, name, blob)
        for codec in (self, *self._older):
            with suppress(MalformedRecordError):
                return codec._unsealed_by_own(kind, name, blob)  # noqa: SLF001 - of the same class
        raise MalformedRecordError

    def _unsealed_by_own(
        self, kind: RecordKind[Any], name: bytes, blob: bytes
    ) -> tuple[Times, bytes, bytes]:
        """Check a record that the current secret has sealed, as `_unsealed` does."""
        magic, version, mark, flags, first, second = _HEADER.unpack_from(blob)
        (length,) = _LENGTH.unpack_from(blob, _HEADER.size)
        start = _HEADER.size + _LENGTH.size
        end = start + length
        content_at = end + (_SEAL_BYTES if self.secret else 0)
        if (
            (magic, version, mark) != (MAGIC, VERSION, kind.mark)
            or flags != (_SEALED if self.secret else 0)
            or content_at > len(blob)
            or (kind is not REPRESENTATION and content_at < len(blob))
            or not isfinite(first)
            or isnan(second)
            or not hmac.compare_digest(self.seal_of(name, blob[:end]), blob[end:content_at])
        ):
            raise MalformedRecordError
        return (first, second), blob[start:end], blob[content_at:]

    def open_limit(self, name: bytes, blob: Any, scope: str) -> Limit | None:
        """Return the limit in *scope* that is sealed in *blob* for *name*, or None."""
        return self.open(limit_kind(scope), name, blob)

    def refused_at(self, name: bytes, blob: Any, now: float) -> float:
        """Return the time of the refusal that is sealed in *blob* for *name*, or 0.0.

        That of a newer version counts by its header, though its seal can't be checked: a forged
        one causes a miss, and a refusal must not be overlooked while versions mix. It is *now*
        at most, so that a forged one does not advance the clock.
        """
        at = self.open(REFUSAL, name, blob)
        if at is None and isinstance(blob, bytes) and len(blob) >= _HEADER.size:
            magic, version, mark, _flags, first, _second = _HEADER.unpack_from(blob)
            if magic == MAGIC and version > VERSION and mark == REFUSAL.mark:
                at = min(first, now)
        return at or 0.0

    def opens(self, name: bytes, blob: bytes) -> bool:
        """Return whether *blob* is a record of any kind, sealed with this secret for *name*.

        The content of a representation is not compared with its digest.
        """
        return any(self.vouches_for(kind, name, blob) for kind in KINDS if blob[2:3] == kind.mark)

    def seals(self, name: bytes, blob: bytes) -> bool:
        """Return whether the current secret has sealed *blob* for *name*."""
        return any(self._is_sealed(kind, name, blob) for kind in KINDS if blob[2:3] == kind.mark)

    def _is_sealed(self, kind: RecordKind[Any], name: bytes, blob: bytes) -> bool:
        try:
            self._unsealed_by_own(kind, name, blob)
        except (MalformedRecordError, struct.error):
            return False
        return True

    def resealed(self, name: bytes, blob: bytes) -> bytes:
        """Return *blob*, sealed with the current secret if an older one has sealed it for *name*.

        Anything else is returned as it is.
        """
        if not self._older or self.seals(name, blob):
            return blob
        for codec in self._older:
            if codec.seals(name, blob):
                return self._with_seal(name, blob, _SEAL_BYTES if codec.secret else 0)
        return blob

    def _with_seal(self, name: bytes, blob: bytes, former_bytes: int) -> bytes:
        """Return a whole record with the current secret's seal in place of the former one."""
        (length,) = _LENGTH.unpack_from(blob, _HEADER.size)
        end = _HEADER.size + _LENGTH.size + length
        flags = bytes((_SEALED if self.secret else 0,))
        head = blob[:3] + flags + blob[4:end]
        return b"".join((head, self.seal_of(name, head), blob[end + former_bytes :]))

    def vouches_for(self, kind: RecordKind[Any], name: bytes, blob: bytes) -> bool:
        """Return whether *blob* is a record of *kind*, sealed with this secret for *name*.

        The content of a representation is not compared with its digest.
        """
        try:
            self._unsealed(kind, name, blob)
        except (MalformedRecordError, struct.error):
            return False
        return True
