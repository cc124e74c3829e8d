"""How a memory store keeps records: as flat tuples of what can't refer back to them.

Python's garbage collector soon leaves such tuples alone for good, but goes through objects of any
other class again and again: some hundred thousand of them hold up everything for half a second.
Tuples within tuples take it longer to see through.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final, Protocol, cast

from attrs import define, field
from attrs import fields as attributes

from ghmirror_tw.policy.fields import Fields
from ghmirror_tw.policy.records import Entry, Grant, Representation

Record = Representation | Grant | tuple[Entry, ...] | float
#: What kind it is of, its size in bytes, and its values, one after the other.
Kept = tuple[Any, ...]

REPRESENTATION: Final = "representation"
GRANT: Final = "grant"
_LIST: Final = "list"
_TIME: Final = "time"

# What Python needs for a record besides the bytes in it, measured with tracemalloc.
_REPRESENTATION_BYTES: Final = 560
_GRANT_BYTES: Final = 480
_ENTRY_BYTES: Final = 320
_LIST_BYTES: Final = 250
_TIME_BYTES: Final = 250

_GRANT_VALUES: Final = attrgetter(*(each.name for each in attributes(Grant)))
_ENTRY_VALUES: Final = attrgetter(*(each.name for each in attributes(Entry)))
_ASKED_AT: Final = 2 + [each.name for each in attributes(Grant)].index("asked_at")
_OF_ENTRY: Final = len(attributes(Entry))
#: So many different sets of fields are kept once for all that have them.
_MOST_FIELDS: Final = 1000
#: Names one file, and so is nobody else's.
_OF_ONE: Final = b"content-disposition"


class _Sized(Protocol):
    """Something with a length in bytes."""

    def __len__(self) -> int: ...


def _length(*values: _Sized | None) -> int:
    return sum(len(value) for value in values if value is not None)


def _size_of(record: Record) -> int:
    """Return about how many bytes of memory a record takes."""
    if isinstance(record, Representation):
        lines = sum(len(name) + len(value) + 120 for name, value in record.fields)
        return _REPRESENTATION_BYTES + len(record.packed) + lines
    if isinstance(record, Grant):
        return _GRANT_BYTES + _length(record.etag, record.last_modified, record.link)
    if isinstance(record, tuple):
        return _LIST_BYTES + sum(_ENTRY_BYTES + _length(entry.link) for entry in record)
    return _TIME_BYTES


@define(eq=False)
class Keeper:
    """Makes what is kept of records; fields of content that are the same are kept once."""

    _known: list[Fields] = field(init=False, factory=list)
    _numbers: dict[Fields, int] = field(init=False, factory=dict)

    def keep(self, record: Record) -> Kept:
        """Return a record as it is kept."""
        size = _size_of(record)
        if isinstance(record, Representation):
            fields, packed = self._shared(record.fields), record.packed
            return REPRESENTATION, size, record.digest, fields, packed, record.size, record.items
        if isinstance(record, Grant):
            return GRANT, size, *_GRANT_VALUES(record)
        if isinstance(record, tuple):
            return _LIST, size, *(value for entry in record for value in _ENTRY_VALUES(entry))
        return _TIME, size, record

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

    def found(self, kept: Kept) -> Record:
        """Return the record that is kept."""
        kind = kept[0]
        if kind == REPRESENTATION:
            _, _, digest, known, packed, size, items = kept
            fields = self._known[known] if isinstance(known, int) else Fields.of(known)
            return Representation(digest, fields, packed, size, items)
        if kind == GRANT:
            return Grant(*kept[2:])
        if kind == _LIST:
            starts = range(2, len(kept), _OF_ENTRY)
            return tuple([Entry(*kept[start : start + _OF_ENTRY]) for start in starts])
        return time_of(kept)


def time_of(kept: Kept) -> float:
    """Return the time that is kept."""
    return cast(float, kept[2])


def granted_at(kept: Kept) -> float:
    """Return when the question was asked to which a grant that is kept was the answer."""
    return cast(float, kept[_ASKED_AT])
