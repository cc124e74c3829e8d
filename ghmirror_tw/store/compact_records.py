"""Records and their names in few bytes, for a memory store.

Python's garbage collector ignores bytes, and tuples of them. It visits objects of other classes
again and again: some hundred thousand of them stop the process for half a second. So a record is
kept as its payload (see `record_kinds`) behind the letter of its kind and its times. Encoded, a
grant or an entry takes a third of the memory of its values.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Any, Final, TypeAlias, cast

from attrs import define, field

from ghmirror_tw.caching.records import Entry, Grant, NegativeResponse, Representation
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.store.record_kinds import (
    ENTRY,
    EPOCH,
    GRANT,
    KINDS,
    NEGATIVE,
    REFUSAL,
    REPRESENTATION,
    RecordKind,
)
from ghmirror_tw.store.record_names import RecordName

#: A recency list is a tuple of entries, a refusal a float, and an epoch bytes.
Record: TypeAlias = Representation | Grant | tuple[Entry, ...] | float | bytes | NegativeResponse
#: A representation's values, all but its digest; any other record as bytes.
Compact: TypeAlias = tuple[bytes, Any, int, int | None] | bytes

_LETTERS: Final = {kind: kind.letter.encode("ascii") for kind in KINDS}
_KINDS: Final = {letter[0]: kind for kind, letter in _LETTERS.items()}
#: The longest text of hexadecimal digits that is written as bytes; a length above is that of text.
_LONGEST: Final = 127
_LENGTH: Final = Struct(">I")
_TIMES: Final = Struct(">dd")
_TIME: Final = Struct(">d")
_TIMES_AND_LENGTH: Final = Struct(">ddI")

# The memory that Python needs for a record and its name besides the bytes in it, measured with
# tracemalloc where there are few; the more there are, the less of a dict is empty.
_REPRESENTATION_BYTES: Final = 420
_ENCODED_BYTES: Final = 270
_LINE_BYTES: Final = 120

#: How many records of each kind are cached decoded; it takes 4 µs to decode one.
_CACHED: Final = 256
#: How many different sets of fields are stored once for all representations that have them.
_MOST_FIELDS: Final = 1000
#: Shared fields live on and are not counted, so they are small; GitHub's have about 200 bytes.
_LARGEST_SHARED_BYTES: Final = 2048
#: A field with a file name, which no other representation has.
_UNSHARED: Final = b"content-disposition"


# Names.


@lru_cache(1024)
def short_text(text: str) -> bytes:
    """Return a text in few bytes, its length first: most are hexadecimal digits."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if raw.hex() == text and len(raw) <= _LONGEST:
        return bytes((len(raw),)) + raw
    coded = text.encode()
    return b"\xff" + _LENGTH.pack(len(coded)) + coded


def short(kind: RecordKind[Any], hash_tag: str, rest: str = "") -> bytes:
    """Return a record's name in few bytes: a letter and short texts. No two names share them."""
    name = _LETTERS[kind] + short_text(hash_tag)
    return name + short_text(rest) if kind.rest else name


def long(name: bytes) -> RecordName:
    """Return the name of which `short` made *name*."""
    kind = _KINDS[name[0]]
    texts, position = [], 1
    for _ in range(2 if kind.rest else 1):
        length, position = name[position], position + 1
        if length <= _LONGEST:
            texts.append(name[position : position + length].hex())
        else:
            (length,) = _LENGTH.unpack_from(name, position)
            position += _LENGTH.size
            texts.append(name[position : position + length].decode())
        position += length
    return RecordName(kind, *texts)


# Records.


def is_representation(compact: Compact) -> bool:
    """Return whether a record is a representation."""
    return isinstance(compact, tuple)


def is_of(kind: RecordKind[Any], compact: Compact) -> bool:
    """Return whether a record is of a *kind* other than representations."""
    return isinstance(compact, bytes) and compact[:1] == _LETTERS[kind]


def first_time(compact: Any) -> float:
    """Return the time of the request of a grant, a refusal or a negative response."""
    at: float
    (at,) = _TIME.unpack_from(compact, 1)
    return at


def size_of(compact: Compact) -> int:
    """Return about how many bytes of memory a record takes with its name."""
    if isinstance(compact, bytes):
        return _ENCODED_BYTES + len(compact)
    packed, fields, *_ = compact
    size = _REPRESENTATION_BYTES + len(packed)
    if not isinstance(fields, int):
        size += sum(len(name) + len(value) + _LINE_BYTES for name, value in fields)
    return size


def _encode(kind: RecordKind[Any], record: Any) -> bytes:
    return _LETTERS[kind] + _TIMES.pack(*kind.times_of(record)) + kind.pack(record)


def _decode(kind: RecordKind[Any], compact: bytes) -> Any:
    return kind.unpack(_TIMES.unpack_from(compact, 1), compact[1 + _TIMES.size :])


def _encode_list(entries: tuple[Entry, ...]) -> bytes:
    parts = [_LETTERS[ENTRY]]
    for entry in entries:
        payload = ENTRY.pack(entry)
        parts += _TIMES_AND_LENGTH.pack(*ENTRY.times_of(entry), len(payload)), payload
    return b"".join(parts)


@lru_cache(_CACHED)
def entries_of(compact: Any) -> tuple[Entry, ...]:
    """Return a recency list."""
    entries, position = [], 1
    while position < len(compact):
        *times, length = _TIMES_AND_LENGTH.unpack_from(compact, position)
        position += _TIMES_AND_LENGTH.size
        payload = compact[position : position + length]
        entries.append(ENTRY.unpack((times[0], times[1]), payload))
        position += length
    return tuple(entries)


@lru_cache(_CACHED)
def grant_of(compact: Any) -> Grant:
    """Return a grant."""
    return cast("Grant", _decode(GRANT, compact))


@lru_cache(_CACHED)
def epoch_of(compact: Any) -> bytes:
    """Return an epoch."""
    return cast("bytes", _decode(EPOCH, compact))


def negative_of(compact: Any) -> NegativeResponse:
    """Return a negative response."""
    return cast("NegativeResponse", _decode(NEGATIVE, compact))


@define(eq=False)
class Compactor:
    """Makes compact records, and records of them; equal fields of content are stored once."""

    _fields: list[Fields] = field(init=False, factory=list)
    _numbers: dict[Fields, int] = field(init=False, factory=dict)

    def compact(self, record: Record) -> Compact:
        """Return the compact form of a record."""
        if isinstance(record, Representation):
            return record.packed, self._shared(record.fields), record.size, record.items
        if isinstance(record, tuple):
            return _encode_list(record)
        if isinstance(record, Grant):
            return _encode(GRANT, record)
        if isinstance(record, NegativeResponse):
            return _encode(NEGATIVE, record)
        return _encode(EPOCH, record) if isinstance(record, bytes) else _encode(REFUSAL, record)

    def _shared(self, fields: Fields) -> int | tuple[tuple[bytes, bytes], ...]:
        """Return the index of *fields* in the shared table, or their lines if not worth sharing.

        An index, since the garbage collector ignores a tuple with it.
        """
        number = self._numbers.get(fields)
        if number is not None:
            return number
        if len(self._fields) >= _MOST_FIELDS or fields.get(_UNSHARED) is not None:
            return fields.lines
        if sum(len(name) + len(value) for name, value in fields) > _LARGEST_SHARED_BYTES:
            return fields.lines
        number = self._numbers[fields] = len(self._fields)
        self._fields.append(fields)
        return number

    def record(self, name: RecordName, compact: Compact) -> Record:
        """Return the record of a compact form."""
        if name.kind is REPRESENTATION:
            return self.representation(compact, name.rest)
        record: Record = entries_of(compact) if name.kind is ENTRY else _decode(name.kind, compact)  # type: ignore[arg-type]  # bytes
        return record

    def representation(self, compact: Any, digest: str) -> Representation:
        """Return a representation with its *digest*."""
        packed, shared, size, items = compact
        fields = self._fields[shared] if isinstance(shared, int) else Fields.of(shared)
        return Representation(digest, fields, packed, size, items)
