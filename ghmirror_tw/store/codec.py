"""Records as bytes: versioned, bound to their names, and believed only when whole.

A sealed record is ``header payload seal content``. The header's 20 bytes mean the same in every
version, since scripts in Redis go by them: magic, version, kind, flags, and two times (see
`RecordKind`) as big-endian doubles. The payload is MessagePack. The seal is an HMAC over name,
header and payload, where there is a secret. Only a representation has content behind it, which its
digest covers, and the payload names the digest.

Whoever can write to where records are kept can at worst make one unreadable: what does not
decode, is sealed with another secret or stands under another name is None, as if it weren't there.
"""

from __future__ import annotations

import hmac
import struct
import zlib
from collections.abc import Callable
from enum import Enum
from math import isfinite, isnan
from operator import attrgetter
from typing import Any, Final, TypeAlias, TypeVar

import msgpack
from attrs import field, frozen
from attrs import fields as attributes

from ghmirror_tw.caching.records import Entry, Grant, Representation, digest_of
from ghmirror_tw.github.rate_limits import EVERYTHING, Limit, LimitKind
from ghmirror_tw.http.content_codings import ContentTooLargeError, UndecodableError, decompress
from ghmirror_tw.http.entity_tags import is_entity_tag
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.runtime.recent_cache import RecentCache

#: What is written. The version before it is read, too; a newer one is neither read nor replaced.
VERSION: Final = 1
MAGIC: Final = 0x47
_SEALED: Final = 1
_HEADER: Final = struct.Struct(">BBcBdd")
_HEADER_AND_LENGTH: Final = struct.Struct(">BBcBddI")
_LENGTH: Final = struct.Struct(">I")
_SEAL_BYTES: Final = 16
_NO_TIME: Final = 0.0
#: The optional values at the end of a grant; they are left out where all are None.
_NOTHING_MORE: Final = (None, None, None, None, None)

#: So many records are remembered as they were sealed or opened.
_LATELY: Final = 2048

_Values: TypeAlias = RecentCache[tuple[bytes, bytes], tuple[Any, ...]]

T = TypeVar("T")


class RecordKind(Enum):
    """Kinds of records, and what their two times are."""

    #: Neither time is used.
    REPRESENTATION = b"R"
    #: When its question was asked; when it expires.
    GRANT = b"G"
    #: When its question was asked. Of a limit, when it ends by the clock that wrote it; how long
    #: it lasts is its key's life.
    TIME = b"T"
    #: When it was last validated; when a 200 last brought it.
    ENTRY = b"E"
    #: Neither time is used.
    EPOCH = b"P"


_values_of_grant: Final[Callable[[Grant], tuple[Any, ...]]] = attrgetter(
    *(each.name for each in attributes(Grant))
)
_values_of_entry: Final[Callable[[Entry], tuple[Any, ...]]] = attrgetter(
    *(each.name for each in attributes(Entry))
)


class _MalformedRecordError(Exception):
    """A payload that is not what its kind needs."""


def _take(value: Any, *types: type[Any] | None) -> Any:
    """Return *value*, which must be of exactly one of the *types*; None stands for itself."""
    if (None if value is None else type(value)) not in types:
        raise _MalformedRecordError
    return value


def _moment(value: Any) -> float:
    """Return a finite time. Raises `_MalformedRecordError` for anything else."""
    at: float = _take(value, float)
    if not isfinite(at):
        raise _MalformedRecordError
    return at


def _text(value: Any) -> str:
    return str(_take(value, bytes).decode("ascii"))


def _tag(value: Any) -> bytes | None:
    """Return an entity-tag or None. Raises `_MalformedRecordError` for any other value."""
    tag: bytes | None = _take(value, bytes, None)
    if tag is not None and not is_entity_tag(tag):
        raise _MalformedRecordError
    return tag


def _login(value: Any) -> str | None:
    return None if value is None else _text(value)


def _grant(asked_at: float, expires_at: float, values: list[Any], _: bytes) -> Grant:
    digest, etag, modified, link, validated_at, shareable, principal, restored, *more = values
    _take(restored, bool)
    # Records that were written before these fields were stored have none of them.
    more += _NOTHING_MORE[len(more) :]
    scopes, sso, poll_interval, varied, epoch = more
    return Grant(
        digest=_take(digest, bytes).hex(),
        etag=_tag(etag),
        last_modified=_take(modified, bytes, None),
        link=_take(link, bytes, None),
        asked_at=asked_at,
        validated_at=_moment(validated_at),
        shareable=_take(shareable, bool),
        principal=_login(principal),
        expires_at=expires_at,
        scopes=_take(scopes, bytes, None),
        sso=_take(sso, bytes, None),
        poll_interval=_take(poll_interval, bytes, None),
        varied=_take(varied, bytes, None),
        epoch=_take(epoch, bytes, None),
    )


def _entry(validated_at: float, brought_at: float, values: list[Any], _: bytes) -> Entry:
    digest, shareable, size, link, modified, principal, supersedes, _ = values
    return Entry(
        digest=_take(digest, bytes).hex(),
        brought_at=brought_at,
        validated_at=validated_at,
        shareable=_take(shareable, bool),
        size=_take(size, int),
        link=_take(link, bytes, None),
        last_modified=_take(modified, bytes, None),
        principal=_login(principal),
        supersedes=None if supersedes is None else _take(supersedes, bytes).hex(),
    )


@frozen
class Codec:
    """Seals records and opens them; *name* is what a record is stored under, without any prefix."""

    secret: bytes = field(default=b"", repr=False)
    #: The values of grants, and those of entries, by name and all of their bytes, so that each is
    #: looked into only once. They end with this codec, so nothing that another secret has sealed is
    #: among them. The garbage collector leaves such tuples alone, but not what is made of them.
    _grants: _Values = field(init=False, eq=False, repr=False, factory=lambda: RecentCache(_LATELY))
    _entries: _Values = field(
        init=False, eq=False, repr=False, factory=lambda: RecentCache(_LATELY)
    )
    _keyed: hmac.HMAC = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # to be copied: putting the key in takes longer than all the rest
        object.__setattr__(self, "_keyed", hmac.new(self.secret, digestmod="sha256"))

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that identify the secret; empty without a secret."""
        if not self.secret:
            return ""
        keyed = self._keyed.copy()
        keyed.update(b"fingerprint")
        return keyed.hexdigest()[:8]

    # Sealing.

    def _seal(
        self,
        name: bytes,
        kind: RecordKind,
        times: tuple[float, float],
        *values: Any,
        content: bytes = b"",
    ) -> bytes:
        flags = _SEALED if self.secret else 0
        payload = msgpack.packb(values)
        length = len(payload)
        head = _HEADER_AND_LENGTH.pack(MAGIC, VERSION, kind.value, flags, *times, length) + payload
        return b"".join((head, self._seal_of(name, head), content))

    def _seal_of(self, name: bytes, head: bytes) -> bytes:
        if not self.secret:
            return b""
        message = b"record\0%d:%s%s" % (len(name), name, head)
        seal = self._keyed.copy()
        seal.update(message)
        return seal.digest()[:_SEAL_BYTES]

    def grant(self, name: bytes, grant: Grant) -> bytes:
        """Return *grant* as it is stored under *name*."""
        more = (grant.scopes, grant.sso, grant.poll_interval, grant.varied, grant.epoch)
        sealed = self._seal(
            name,
            RecordKind.GRANT,
            (grant.asked_at, grant.expires_at),
            bytes.fromhex(grant.digest),
            grant.etag,
            grant.last_modified,
            grant.link,
            grant.validated_at,
            grant.shareable,
            _encoded(grant.principal),
            grant.epoch is None,  # a place that earlier versions read: whether it was restored
            *(() if more == _NOTHING_MORE else more),
        )
        self._grants.put((name, sealed), _values_of_grant(grant))
        return sealed

    def time(self, name: bytes, at: float) -> bytes:
        """Return a moment (seconds) as it is stored under *name*."""
        return self._seal(name, RecordKind.TIME, (at, _NO_TIME))

    def epoch(self, name: bytes, epoch: bytes) -> bytes:
        """Return an epoch as it is stored under *name*."""
        return self._seal(name, RecordKind.EPOCH, (_NO_TIME, _NO_TIME), epoch)

    def limit(self, name: bytes, limit: Limit) -> bytes:
        """Return a limit as it is stored under *name*; earlier versions read it as a time."""
        kind = limit.kind.value.encode("ascii")
        facts = kind, limit.status, limit.fields, limit.content, limit.hinted
        return self._seal(name, RecordKind.TIME, (limit.until, _NO_TIME), *facts)

    def entry(self, name: bytes, entry: Entry) -> bytes:
        """Return an entry of a recency list; *name* is that of the list."""
        sealed = self._seal(
            name,
            RecordKind.ENTRY,
            (entry.validated_at, entry.brought_at),
            bytes.fromhex(entry.digest),
            entry.shareable,
            entry.size,
            entry.link,
            entry.last_modified,
            _encoded(entry.principal),
            None if entry.supersedes is None else bytes.fromhex(entry.supersedes),
            False,  # a place that earlier versions read
        )
        self._entries.put((name, sealed), _values_of_entry(entry))
        return sealed

    def representation(self, name: bytes, stored: Representation) -> bytes:
        """Return a representation as it is stored under *name*."""
        return self._seal(
            name,
            RecordKind.REPRESENTATION,
            (_NO_TIME, _NO_TIME),
            bytes.fromhex(stored.digest),
            stored.fields.lines,
            stored.size,
            stored.items,
            content=stored.packed,
        )

    # Opening.

    def _open(
        self,
        name: bytes,
        blob: bytes | None,
        kind: RecordKind,
        make: Callable[[float, float, list[Any], bytes], T],
    ) -> T | None:
        if not blob:
            return None
        try:
            times, payload, content = self._unsealed(name, _take(blob, bytes), kind)
            return make(*times, _take(msgpack.unpackb(payload, raw=True), list), content)
        except (_MalformedRecordError, struct.error, ValueError, TypeError):
            return None

    def _unsealed(
        self, name: bytes, blob: bytes, kind: RecordKind
    ) -> tuple[tuple[float, float], bytes, bytes]:
        """Return the times, the payload and the content of a record that is what it should be."""
        magic, version, found, flags, first, second = _HEADER.unpack_from(blob)
        (length,) = _LENGTH.unpack_from(blob, _HEADER.size)
        start = _HEADER.size + _LENGTH.size
        end = start + length
        content_at = end + (_SEAL_BYTES if self.secret else 0)
        if (
            (magic, version, found) != (MAGIC, VERSION, kind.value)
            or flags != (_SEALED if self.secret else 0)
            or content_at > len(blob)
            or (kind is not RecordKind.REPRESENTATION and content_at < len(blob))
            or not isfinite(first)
            or isnan(second)
            or not hmac.compare_digest(self._seal_of(name, blob[:end]), blob[end:content_at])
        ):
            raise _MalformedRecordError
        return (first, second), blob[start:end], blob[content_at:]

    def open_grant(self, name: bytes, blob: bytes | None) -> Grant | None:
        """Return the grant that is sealed in *blob* for *name*, or None."""
        values = self._grants.get((name, blob)) if isinstance(blob, bytes) else None
        if values is not None:
            return Grant(*values)
        grant = self._open(name, blob, RecordKind.GRANT, _grant)
        if grant is not None and blob is not None:
            self._grants.put((name, blob), _values_of_grant(grant))
        return grant

    def open_time(self, name: bytes, blob: bytes | None) -> float | None:
        """Return the moment that is sealed in *blob* for *name*, or None."""
        return self._open(name, blob, RecordKind.TIME, lambda at, *_: at)

    def open_epoch(self, name: bytes, blob: bytes | None) -> bytes | None:
        """Return the epoch that is sealed in *blob* for *name*, or None."""

        def make(_: float, __: float, values: list[Any], ___: bytes) -> bytes:
            (epoch,) = values
            return bytes(_take(epoch, bytes))

        return self._open(name, blob, RecordKind.EPOCH, make)

    def open_limit(self, name: bytes, blob: bytes | None, scope: str) -> Limit | None:
        """Return the limit that is sealed in *blob* for *name*, or None.

        Earlier versions stored only a time; the kind of such a limit follows from its scope.
        """

        def make(until: float, _: float, values: list[Any], __: bytes) -> Limit:
            if not values:
                everything = scope == EVERYTHING
                kind = LimitKind.SECONDARY if everything else LimitKind.PRIMARY
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

        return self._open(name, blob, RecordKind.TIME, make)

    def refused_at(self, name: bytes, blob: bytes | None, now: float) -> float:
        """Return the time of the refusal that is sealed in *blob* for *name*, or 0.0.

        That of a newer version counts by its header, though its seal can't be checked: a forged
        one causes a miss, and a refusal must not be overlooked while versions mix. It is *now*
        at most, so that a forged one does not advance the clock.
        """
        at = self.open_time(name, blob)
        if at is None and isinstance(blob, bytes) and len(blob) >= _HEADER.size:
            magic, version, kind, _flags, first, _second = _HEADER.unpack_from(blob)
            if magic == MAGIC and version > VERSION and kind == RecordKind.TIME.value:
                at = min(first, now)
        return at or 0.0

    def open_entry(self, name: bytes, blob: bytes | None) -> Entry | None:
        """Return the entry that is sealed in *blob* for the list called *name*, or None."""
        values = self._entries.get((name, blob)) if isinstance(blob, bytes) else None
        if values is not None:
            return Entry(*values)
        entry = self._open(name, blob, RecordKind.ENTRY, _entry)
        if entry is not None and blob is not None:
            self._entries.put((name, blob), _values_of_entry(entry))
        return entry

    def opens(self, name: bytes, blob: bytes) -> bool:
        """Tell whether *blob* is a record of any kind, sealed with this secret for *name*.

        The content of a representation is not compared with its digest.
        """
        try:
            _, _, kind, *_ = _HEADER.unpack_from(blob)
            self._unsealed(name, blob, RecordKind(kind))
        except (_MalformedRecordError, struct.error, ValueError):
            return False
        return True

    def vouches_for(self, name: bytes, blob: bytes) -> bool:
        """Tell whether *blob* is a representation by somebody with our secret, for *name*.

        That its content is what its digest says is not looked at.
        """
        try:
            self._unsealed(name, blob, RecordKind.REPRESENTATION)
        except (_MalformedRecordError, struct.error):
            return False
        return True

    def open_representation(self, name: bytes, blob: bytes | None) -> Representation | None:
        """Return the representation that is sealed in *blob* for *name*, or None.

        Its content is checked against its digest, which takes time where it is large.
        """

        def make(_: float, __: float, values: list[Any], packed: bytes) -> Representation:
            digest, lines, size, items = values
            stored = Representation(
                digest=_take(digest, bytes).hex(),
                fields=Fields(tuple((_take(n, bytes), _take(v, bytes)) for n, v in lines)),
                packed=packed,
                size=_take(size, int),
                items=_take(items, int, None),
            )
            if not is_whole(stored):
                raise _MalformedRecordError
            return stored

        return self._open(name, blob, RecordKind.REPRESENTATION, make)


def _encoded(login: str | None) -> bytes | None:
    return None if login is None else login.encode("ascii")


def is_whole(stored: Representation) -> bool:
    """Tell whether a representation's content and fields are those that its digest covers."""
    try:
        content = decompress(stored.packed, stored.size)
    except (UndecodableError, ContentTooLargeError, zlib.error):
        return False
    return digest_of(content, stored.fields) == stored.digest
