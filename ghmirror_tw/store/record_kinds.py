"""The kinds of records, and the encoding that memory, Redis and snapshots have in common.

Two times of each record stand in its header, because scripts in Redis compare them. Its other
values are MessagePack. Only a representation has content behind them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import isfinite
from operator import attrgetter
from types import NoneType
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgpack
from attrs import fields as attributes
from attrs import frozen

from ghmirror_tw.caching.epochs import epoch_shows_acceptance
from ghmirror_tw.caching.records import (
    Entry,
    Grant,
    NegativeResponse,
    Representation,
    digest_of,
)
from ghmirror_tw.github.reported_limit import EVERYTHING, Limit, LimitKind
from ghmirror_tw.http.content_codings import ContentTooLargeError, UndecodableError, decompress
from ghmirror_tw.http.entity_tags import is_entity_tag
from ghmirror_tw.http.fields import Fields

R = TypeVar("R")
Times: TypeAlias = tuple[float, float]
_NO_TIME: Final = 0.0
_NO_TIMES: Final = (_NO_TIME, _NO_TIME)
#: The optional values at the end of a grant; they are left out where all are None.
_NOTHING_MORE: Final = (None, None, None, None, None)


#: The longest array in a payload: field lines, of which GitHub sends about 30. Memory for an array
#: is allocated as soon as its length is read, and a few bytes may nest a thousand arrays.
_MOST_ELEMENTS: Final = 1024

_BYTES: Final = frozenset({bytes})
_OPTIONAL: Final = frozenset[Any]({bytes, NoneType})
_FLOAT: Final = frozenset({float})
_INT: Final = frozenset({int})
_BOOL: Final = frozenset({bool})


class MalformedRecordError(Exception):
    """A payload whose values are not those that its kind needs."""


@frozen(eq=False)
class RecordKind(Generic[R]):
    """How the records of one kind are named and encoded; a new kind of record is one more of these.

    *letter* stands in names. What follows it in a name matches *rest*; None: the name is not that
    of a record of a cache key, and snapshots leave it out. *mark* stands in headers. *record_of*
    gets both times, the other values and the content, and raises `MalformedRecordError` for wrong
    ones. *attributes_of* returns all values of a record, of which *record* can be made again
    without any check.
    """

    letter: str
    mark: bytes
    rest: bytes | None
    times_of: Callable[[R], Times]
    values_of: Callable[[R], tuple[Any, ...]]
    record_of: Callable[[float, float, list[Any], bytes], R]
    record: Callable[..., R] | None = None
    attributes_of: Callable[[R], tuple[Any, ...] | None] | None = None

    def pack(self, record: R) -> bytes:
        """Return the payload of a record."""
        payload: bytes = msgpack.packb(self.values_of(record))
        return payload

    def unpack(self, times: Times, payload: bytes, content: bytes = b"") -> R:
        """Return the record, or raise `MalformedRecordError` or another error of a value."""
        values = msgpack.unpackb(
            payload, raw=True, max_array_len=_MOST_ELEMENTS, max_map_len=0, max_ext_len=0
        )
        if type(values) is not list:
            raise MalformedRecordError
        return self.record_of(*times, values, content)


def _take(value: Any, *types: type[Any] | None) -> Any:
    """Return *value*, which must be of exactly one of the *types*; None stands for itself."""
    if (None if value is None else type(value)) not in types:
        raise MalformedRecordError
    return value


def _text(value: Any) -> str:
    return str(_take(value, bytes).decode("ascii"))


def _check(values: list[Any], types: Sequence[frozenset[Any]]) -> None:
    """Check that each of the first *values* is of one of its *types*."""
    for value, allowed in zip(values, types, strict=False):
        if type(value) not in allowed:
            raise MalformedRecordError


# Representations.


def _values_of_representation(stored: Representation) -> tuple[Any, ...]:
    return bytes.fromhex(stored.digest), stored.fields.lines, stored.size, stored.items


def _representation(_: float, __: float, values: list[Any], packed: bytes) -> Representation:
    digest, lines, size, items = values
    return Representation(
        digest=_take(digest, bytes).hex(),
        fields=Fields(tuple((_take(n, bytes), _take(v, bytes)) for n, v in lines)),
        packed=packed,
        size=_take(size, int),
        items=_take(items, int, None),
    )


def is_whole(stored: Representation, limit_bytes: int) -> bool:
    """Return whether content and fields are those that the digest covers, and the size is right.

    Content of more than *limit_bytes* is not whole. No more than the stated size is decompressed,
    since a few bytes of gzip may decompress to a thousand times as many.
    """
    if stored.size > limit_bytes:
        return False
    try:
        content = decompress(stored.packed, stored.size)
    except (UndecodableError, ContentTooLargeError, zlib.error):
        return False
    return len(content) == stored.size and digest_of(content, stored.fields) == stored.digest


# Grants.


def _values_of_grant(grant: Grant) -> tuple[Any, ...]:
    more: tuple[Any, ...]
    more = (grant.scopes, grant.sso, grant.poll_interval, grant.varied, grant.epoch)
    if grant.borrowed_date:
        # Earlier versions do not read such a grant, but they compute its entity-tag again.
        more = (*more, True)
    return (
        bytes.fromhex(grant.digest),
        grant.etag,
        grant.last_modified,
        grant.link,
        grant.validated_at,
        grant.shareable,
        None if grant.principal is None else grant.principal.encode("ascii"),
        grant.epoch is None,  # a place that earlier versions read: whether it was restored
        *(() if more == _NOTHING_MORE else more),
    )


_GRANT_TYPES: Final = (
    *(_BYTES, _OPTIONAL, _OPTIONAL, _OPTIONAL, _FLOAT, _BOOL, _OPTIONAL, _BOOL),
    *([_OPTIONAL] * len(_NOTHING_MORE)),
    _BOOL,
)
_MOST_VALUES: Final = len(_GRANT_TYPES)


def _grant(requested_at: float, expires_at: float, values: list[Any], _: bytes) -> Grant:
    # Records that were written before the last fields were stored have none of them.
    values += [None] * (_MOST_VALUES - 1 - len(values))
    if len(values) < _MOST_VALUES:
        values.append(False)
    _check(values, _GRANT_TYPES)
    digest, etag, modified, link, validated_at, shareable, principal, _restored, *more = values
    if not isfinite(validated_at) or not (etag is None or is_entity_tag(etag)):
        raise MalformedRecordError
    return Grant(
        digest.hex(),
        etag,
        modified,
        link,
        requested_at,
        validated_at,
        shareable,
        None if principal is None else principal.decode("ascii"),
        expires_at,
        *more,
    )


# Entries of recency lists.


def _values_of_entry(entry: Entry) -> tuple[Any, ...]:
    return (
        bytes.fromhex(entry.digest),
        entry.shareable,
        entry.size,
        entry.link,
        entry.last_modified,
        None if entry.principal is None else entry.principal.encode("ascii"),
        None if entry.supersedes is None else bytes.fromhex(entry.supersedes),
        False,  # a place that earlier versions read
    )


_ENTRY_TYPES: Final = (_BYTES, _BOOL, _INT, _OPTIONAL, _OPTIONAL, _OPTIONAL, _OPTIONAL)


def _entry(validated_at: float, received_at: float, values: list[Any], _: bytes) -> Entry:
    _check(values, _ENTRY_TYPES)
    digest, shareable, size, link, modified, principal, supersedes, _ = values
    return Entry(
        digest.hex(),
        received_at,
        validated_at,
        shareable,
        size,
        link,
        modified,
        None if principal is None else principal.decode("ascii"),
        None if supersedes is None else supersedes.hex(),
    )


# Negative responses.


def _values_of_negative(negative: NegativeResponse) -> tuple[Any, ...]:
    found = [(bytes.fromhex(digest), at) for digest, at in negative.found]
    lines, coding = negative.fields.lines, negative.coding
    return negative.epoch, negative.status, lines, negative.content, coding, found


_NEGATIVE_TYPES: Final = (_BYTES, _INT, frozenset({list}), _BYTES, _BYTES, frozenset({list}))


def _negative(
    requested_at: float, received_at: float, values: list[Any], _: bytes
) -> NegativeResponse:
    _check(values, _NEGATIVE_TYPES)
    epoch, status, lines, content, coding, found = values
    if not isfinite(received_at):
        raise MalformedRecordError
    return NegativeResponse(
        requested_at,
        received_at,
        epoch,
        status,
        Fields(tuple((_take(n, bytes), _take(v, bytes)) for n, v in lines)),
        content,
        coding,
        tuple([(_take(digest, bytes).hex(), _take(at, float)) for digest, at in found]),
    )


# Epochs and limits.


def _epoch(_: float, __: float, values: list[Any], ___: bytes) -> bytes:
    (epoch,) = values
    return bytes(_take(epoch, bytes))


def _values_of_limit(limit: Limit) -> tuple[Any, ...]:
    kind = limit.kind.value.encode("ascii")
    return kind, limit.status, limit.fields, limit.content, limit.hinted


@lru_cache(64)
def limit_kind(scope: str) -> RecordKind[Limit]:
    """Return the kind of limits in *scope*, which stands in their names only."""

    def limit_of(until: float, _: float, values: list[Any], __: bytes) -> Limit:
        if not values:  # earlier versions stored only a time
            kind = LimitKind.SECONDARY if scope == EVERYTHING else LimitKind.PRIMARY
            return Limit(kind, scope, until)
        kind_name, status, lines, content, hinted = values
        return Limit(
            LimitKind(_text(kind_name)),
            scope,
            until,
            _take(status, int),
            tuple([(_take(n, bytes), _take(v, bytes)) for n, v in lines]),
            _take(content, bytes),
            _take(hinted, bool),
        )

    def times_of(limit: Limit) -> Times:
        # How long it lasts is the life of its key; the end is by the clock of the writer.
        return limit.until, _NO_TIME

    return RecordKind("s", b"T", None, times_of, _values_of_limit, limit_of)


def _all_of(record: type) -> Callable[[Any], tuple[Any, ...]]:
    getter: Callable[[Any], tuple[Any, ...]] = attrgetter(*(a.name for a in attributes(record)))
    return getter


REPRESENTATION: Final = RecordKind[Representation](
    "r",
    b"R",
    rb":([0-9a-f]{64})",
    lambda _: _NO_TIMES,
    _values_of_representation,
    _representation,
)
#: The times of the request and of the end.
GRANT: Final = RecordKind[Grant](
    "g",
    b"G",
    rb":([0-9a-f]{32})",
    lambda grant: (grant.requested_at, grant.expires_at),
    _values_of_grant,
    _grant,
    Grant,
    _all_of(Grant),
)
#: The time of the request.
REFUSAL: Final = RecordKind[float](
    "x",
    b"T",
    rb":([0-9a-f]{32})",
    lambda at: (at, _NO_TIME),
    lambda _: (),
    lambda at, *_: at,
)
#: An entry of a recency list. The times of the last validation and of the last 200.
ENTRY: Final = RecordKind[Entry](
    "l",
    b"E",
    b"",
    lambda entry: (entry.validated_at, entry.received_at),
    _values_of_entry,
    _entry,
    Entry,
    _all_of(Entry),
)
EPOCH: Final = RecordKind[bytes](
    "e",
    b"P",
    None,
    lambda _: _NO_TIMES,
    lambda epoch: (epoch,),
    _epoch,
    bytes,
    # A client can make up any number of tokens, whose epochs would evict the records of others.
    lambda epoch: (epoch,) if epoch_shows_acceptance(epoch) else None,
)

#: The times of the request and of the response.
NEGATIVE: Final = RecordKind[NegativeResponse](
    "n",
    b"N",
    rb":([0-9a-f]{32})",
    lambda negative: (negative.requested_at, negative.received_at),
    _values_of_negative,
    _negative,
)

KINDS: Final[tuple[RecordKind[Any], ...]] = (
    REPRESENTATION,
    GRANT,
    REFUSAL,
    ENTRY,
    EPOCH,
    NEGATIVE,
)
