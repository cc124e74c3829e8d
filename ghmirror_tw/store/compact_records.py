"""How a memory store keeps records and their names: small, and as what can't refer back to them.

Python's garbage collector soon leaves bytes, and tuples of them, alone for good, but goes through
objects of any other class again and again: some hundred thousand of them hold up everything for
half a second. A grant and a list that are packed take a third of what their values would take.
"""

from __future__ import annotations

import re
from functools import lru_cache
from operator import attrgetter
from struct import Struct
from typing import Any, Final, TypeAlias

from attrs import define, field
from attrs import fields as attributes
from msgpack import Packer, unpackb

from ghmirror_tw.caching.records import Entry, Grant, Representation
from ghmirror_tw.http.fields import Fields

#: Bytes are an epoch.
Record = Representation | Grant | tuple[Entry, ...] | float | bytes
#: A representation's values, all but its digest; a grant, a list or an epoch, packed; or a time.
Kept: TypeAlias = tuple[bytes, Any, int, int | None] | bytes | float
#: What a record is called: its kind, and of what it is (a cache key's name, a credential, ...).
Name: TypeAlias = tuple[str, ...]

#: How each kind is called where it takes less room, and of how many texts it is.
REPRESENTATION: Final = b"r"
GRANT: Final = b"g"
REFUSAL: Final = b"x"
LIST: Final = b"l"
EPOCH: Final = b"e"
_KINDS: Final = {
    "representation": (REPRESENTATION, 2),
    "grant": (GRANT, 2),
    "refusal": (REFUSAL, 2),
    "list": (LIST, 1),
    "epoch": (EPOCH, 1),
}
_CALLED: Final = {letter[0]: (kind, texts) for kind, (letter, texts) in _KINDS.items()}
#: The longest text of hexadecimal digits that is written as bytes; a length above is that of text.
_LONGEST: Final = 127
_LENGTH: Final = Struct(">I")
_TIME: Final = Struct("<d")
_TAG: Final = re.compile(rb'(W/)?"((?:[0-9a-f]{2})+)"')

# What Python needs for a record and its name besides the bytes in it, measured with tracemalloc
# where there are few; the more there are, the less of a dict is empty.
_REPRESENTATION_BYTES: Final = 420
_PACKED_BYTES: Final = 270
_TIME_BYTES: Final = 200
_LINE_BYTES: Final = 120

_OF_GRANT: Final = [each.name for each in attributes(Grant)]
_GRANT_VALUES: Final = attrgetter(*_OF_GRANT)
_ASKED_AT: Final = _OF_GRANT.index("asked_at")
#: Digest and entity-tag come first.
_BEFORE: Final = 2
_ENTRY_VALUES: Final = attrgetter(*(each.name for each in attributes(Entry)))
_OF_ENTRY: Final = len(attributes(Entry))
_SUPERSEDES: Final = [each.name for each in attributes(Entry)].index("supersedes")
#: So many lists are remembered as what they mean.
_MOST_LISTS: Final = 256
#: So many different sets of fields are kept once for all that have them.
_MOST_FIELDS: Final = 1000
#: Names one file, and so is nobody else's.
_OF_ONE: Final = b"content-disposition"


# Names.


@lru_cache(1024)
def short_text(text: str) -> bytes:
    """Return a text in few bytes, its length first: most are hexadecimal digits."""
    raw = _raw(text)
    if isinstance(raw, bytes) and len(raw) <= _LONGEST:
        return bytes((len(raw),)) + raw
    coded = text.encode()
    return b"\xff" + _LENGTH.pack(len(coded)) + coded


@lru_cache(1024)
def _raw(text: str | None) -> bytes | str | None:
    """Return hexadecimal digits as the bytes that they are; any other text as it is."""
    if text is None:
        return None
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return text
    return raw if raw.hex() == text else text


def _text(raw: bytes | str | None) -> str | None:
    return raw.hex() if isinstance(raw, bytes) else raw


def short(kind: str, *texts: str) -> bytes:
    """Return a record's name in few bytes: a letter and short texts. No two names share them."""
    letter, _ = _KINDS[kind]
    return letter + b"".join(map(short_text, texts))


def long(name: bytes) -> Name:
    """Return the name that `short` has made few bytes of."""
    kind, texts = _CALLED[name[0]]
    found, position = [kind], 1
    for _ in range(texts):
        length, position = name[position], position + 1
        if length <= _LONGEST:
            found.append(name[position : position + length].hex())
        else:
            (length,) = _LENGTH.unpack_from(name, position)
            position += _LENGTH.size
            found.append(name[position : position + length].decode())
        position += length
    return tuple(found)


# Records.


@lru_cache(1024)
def _short_tag(etag: bytes | None) -> bytes | tuple[bool, bytes] | None:
    """Return an entity-tag in few bytes: what is between its quotes are hexadecimal digits."""
    found = None if etag is None else _TAG.fullmatch(etag)
    return etag if found is None else (found[1] is not None, bytes.fromhex(found[2].decode()))


def _long_tag(short_tag: Any) -> bytes | None:
    if isinstance(short_tag, list):
        weak, raw = short_tag
        return b'%b"%b"' % (b"W/" if weak else b"", raw.hex().encode())
    tag: bytes | None = short_tag
    return tag


def is_representation(kept: Kept) -> bool:
    """Tell whether a representation is kept."""
    return isinstance(kept, tuple)


def is_grant(kept: Kept) -> bool:
    """Tell whether a grant is kept."""
    return isinstance(kept, bytes) and kept.startswith(GRANT)


def time_of(kept: Any) -> float:
    """Return the time that is kept."""
    at: float = kept
    return at


def granted_at(kept: Any) -> float:
    """Return when the question was asked to which a grant that is kept was the answer."""
    at: float
    (at,) = _TIME.unpack_from(kept, len(GRANT))
    return at


def size_of(kept: Kept) -> int:
    """Return about how many bytes of memory a record takes with its name."""
    if isinstance(kept, bytes):
        return _PACKED_BYTES + len(kept)
    if isinstance(kept, float):
        return _TIME_BYTES
    packed, known, *_ = kept
    size = _REPRESENTATION_BYTES + len(packed)
    if not isinstance(known, int):
        size += sum(len(name) + len(value) + _LINE_BYTES for name, value in known)
    return size


@define(eq=False)
class Keeper:
    """Makes what is kept of records; fields of content that are the same are kept once."""

    _known: list[Fields] = field(init=False, factory=list)
    _numbers: dict[Fields, int] = field(init=False, factory=dict)
    _pack: Any = field(init=False, factory=lambda: Packer().pack)

    def keep(self, record: Record) -> Kept:
        """Return a record as it is kept."""
        if isinstance(record, Representation):
            return record.packed, self._shared(record.fields), record.size, record.items
        if isinstance(record, Grant):
            digest, etag, *values = _GRANT_VALUES(record)
            del values[_ASKED_AT - _BEFORE]
            packed: bytes = self._pack((_raw(digest), _short_tag(etag), *values))
            return GRANT + _TIME.pack(record.asked_at) + packed
        if isinstance(record, tuple):
            flat: list[Any] = []
            for entry in record:
                values = list(_ENTRY_VALUES(entry))
                values[0], values[_SUPERSEDES] = _raw(entry.digest), _raw(entry.supersedes)
                flat += values
            packed = self._pack(flat)
            return LIST + packed
        return EPOCH + record if isinstance(record, bytes) else float(record)

    def _shared(self, fields: Fields) -> int | tuple[tuple[bytes, bytes], ...]:
        """Return the number by which *fields* are known; their lines, where others won't have them.

        A number, since that refers to nothing.
        """
        number = self._numbers.get(fields)
        if number is not None:
            return number
        if len(self._known) >= _MOST_FIELDS or fields.get(_OF_ONE) is not None:
            return fields.lines
        number = self._numbers[fields] = len(self._known)
        self._known.append(fields)
        return number

    def found(self, kept: Kept, digest: str = "") -> Record:
        """Return the record that is kept; *digest* is that of a representation."""
        if isinstance(kept, tuple):
            return self.representation(kept, digest)
        if isinstance(kept, float):
            return kept
        if is_grant(kept):
            return grant_of(kept)
        return epoch_of(kept) if kept.startswith(EPOCH) else entries_of(kept)

    def representation(self, kept: Any, digest: str) -> Representation:
        """Return the representation that is kept, with its *digest*."""
        packed, known, size, items = kept
        fields = self._known[known] if isinstance(known, int) else Fields.of(known)
        return Representation(digest, fields, packed, size, items)


def epoch_of(kept: Any) -> bytes:
    """Return the epoch that is kept."""
    epoch: bytes = kept[len(EPOCH) :]
    return epoch


def grant_of(kept: Any) -> Grant:
    """Return the grant that is kept."""
    of, etag, *values = unpackb(kept[len(GRANT) + _TIME.size :])
    values.insert(_ASKED_AT - _BEFORE, granted_at(kept))
    return Grant(_text(of) or "", _long_tag(etag), *values)


@lru_cache(_MOST_LISTS)
def entries_of(kept: Any) -> tuple[Entry, ...]:
    """Return the recency list that is kept: it is looked up, and soon again to be put back."""
    flat: list[Any] = unpackb(kept[len(LIST) :])
    starts = range(0, len(flat), _OF_ENTRY)
    for start in starts:
        flat[start] = _text(flat[start])
        flat[start + _SUPERSEDES] = _text(flat[start + _SUPERSEDES])
    return tuple([Entry(*flat[start : start + _OF_ENTRY]) for start in starts])
