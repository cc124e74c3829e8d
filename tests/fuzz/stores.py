"""Parsers of what stores hold: replies of Redis, records, snapshots."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, get_args, get_origin, get_type_hints

import zstandard
from attrs import astuple, has
from attrs import fields as attributes
from txredisapi import ResponseError

from ghmirror_tw.caching.records import Entry, Grant, NegativeResponse, Representation, digest_of
from ghmirror_tw.github.reported_limit import EVERYTHING, Limit, LimitKind
from ghmirror_tw.http.content_codings import compress
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.redis.cluster_slots import SLOTS, read_redirection, read_slots
from ghmirror_tw.redis.error_codes import code_of, kind_of
from ghmirror_tw.redis.resp import LARGEST_BYTES, ReplyParser, encode_command
from ghmirror_tw.redis.server_endpoint import Address
from ghmirror_tw.redis.servers_interface import Purpose
from ghmirror_tw.snapshots.snapshot_errors import SnapshotError
from ghmirror_tw.snapshots.snapshot_format import (
    COUNTS,
    LENGTH,
    MAGIC,
    START,
    VERSION,
    Header,
    Pair,
    Summary,
    new_hash,
)
from ghmirror_tw.snapshots.snapshot_names import SnapshotName, owner_of
from ghmirror_tw.snapshots.snapshot_reader import SnapshotReader
from ghmirror_tw.snapshots.snapshot_writer import SnapshotWriter
from ghmirror_tw.store import record_sealing as codecs
from ghmirror_tw.store.record_kinds import (
    ENTRY,
    GRANT,
    KINDS,
    NEGATIVE,
    REFUSAL,
    REPRESENTATION,
    RecordKind,
    limit_kind,
)
from ghmirror_tw.store.record_names import parse
from ghmirror_tw.store.record_sealing import Codec
from tests.fuzz.input_values import InputValues, ways

#: What ends the list of replies where something is none.
BROKEN: Final = "broken"


#: A limit of replies that some of the inputs exceed.
SMALL: Final = 8


def _replies(pieces: list[bytes], largest_bytes: int = LARGEST_BYTES) -> list[Any]:
    parser = ReplyParser(largest_bytes)
    found: list[Any] = []
    try:
        for piece in pieces:
            if parser.feed(piece):
                while (reply := parser.next_reply()) is not None:
                    found.append(_plain(reply[0]))
    except ValueError:
        found.append(BROKEN)
    return found


def _plain(reply: Any) -> Any:
    """Return a reply as something that can be compared."""
    if isinstance(reply, ResponseError):
        return ("error", str(reply))
    if isinstance(reply, list):
        return (type(reply), [_plain(each) for each in reply])
    return (type(reply), reply)


def redis_replies(raw: bytes) -> None:
    """Replies are equal in any pieces; commands are parsed as they were written."""
    whole, small = _replies([raw]), _replies([raw], SMALL)
    for pieces in ways(raw):
        assert _replies(pieces) == whole
        assert _replies(pieces, SMALL) == small
    assert len(small) == len(whole)
    for reply in small:
        assert reply is BROKEN or _size_of(reply) <= SMALL
    parts = raw.split(b" ")
    command = encode_command(parts)
    expected = [_plain(parts)]
    assert _replies([command]) == expected
    # A truncation before it does not hide a reply; data after one is another.
    assert _replies([command + raw]) == expected + whole
    for reply in whole:
        if reply is not BROKEN:
            _bounded(reply)


def _bounded(reply: Any) -> None:
    kind, value = reply
    assert kind in {int, str, bytes, list, type(None), "error"}
    if isinstance(value, list):
        for each in value:
            _bounded(each)


def _size_of(reply: Any) -> int:
    _, value = reply
    if isinstance(value, list):
        return sum(map(_size_of, value))
    return len(value) if isinstance(value, bytes) else 0


_NODE: Final = Address("node", 6379)


def redis_errors(raw: bytes) -> None:
    """Errors and redirections are parsed, or are errors of the value, with any text."""
    text = raw.decode("utf-8", "replace")
    code = code_of(text)
    for purpose in Purpose:
        kind_of(code, purpose)
    with suppress(ValueError):
        redirection = read_redirection(text, _NODE)
        if redirection is not None:
            _check_address(redirection.address)
            assert 0 <= redirection.slot < SLOTS


def _check_address(address: Address) -> None:
    assert address.host.isascii()
    assert address.host.isprintable()
    assert " " not in address.host
    assert 0 < address.port < 65_536


def redis_slots(raw: bytes) -> None:
    """The owners of slots are addresses, or the reply is refused."""
    parser = ReplyParser()
    try:
        whole = parser.next_reply() if parser.feed(raw) else None
        if whole is None:
            return
        slots = read_slots(whole[0], _NODE)
    except ValueError:
        return
    assert len(slots.owners) == SLOTS
    for owner in slots.primaries:
        _check_address(owner)


# Records.

NAME: Final = b"k:{0123}g:abc"
SECRETS: Final = (b"", b"a secret of thirty-two characters")
_ENTITY_TAGS: Final = (None, b'"a"', b'W/"a"', b'"' + b"f" * 64 + b'"')


def _opened(blob: bytes, secret: bytes) -> dict[RecordKind[Any], Any]:
    """Return what *blob* is, for each kind that it is."""
    found: dict[RecordKind[Any], Any] = {}
    codec = Codec(secret)
    for kind in KINDS:
        value = codec.open(kind, NAME, blob)
        if value is None:
            continue
        found[kind] = value
        _check_types(value)
        assert codec.opens(NAME, blob)
        # It is what was sealed, for a store that seals it anew, and under no other name.
        other = Codec(secret)
        again = other.open(kind, NAME, codec.seal(kind, NAME, value))
        assert _same(again, value)
        if secret:
            assert other.open(kind, NAME + b"x", blob) is None
            assert Codec(secret + b"x").open(kind, NAME, blob) is None
            assert Codec().open(kind, NAME, blob) is None
    assert len(found) <= 1
    limit = codec.open_limit(NAME, blob, "core")
    if limit is not None:
        assert REFUSAL in found
        assert _same(limit.until, found[REFUSAL])
        _same(
            codec.open_limit(NAME, codec.seal(limit_kind(limit.scope), NAME, limit), "core"), limit
        )
        if math.isfinite(limit.until):  # a store drops what does not end later than now
            limit.response(limit.until)
    return found


def _check_types(value: Any) -> None:
    """Assert that each value of a record has the type that it is declared with."""
    if has(type(value)):
        hints = get_type_hints(type(value))
        for each in attributes(type(value)):
            assert _has_type(getattr(value, each.name), hints[each.name]), each.name


def _has_type(value: Any, hint: Any) -> bool:
    """Whether a value has a type, which may be that of tuples of a length or of any."""
    if get_origin(hint) is not tuple:
        return isinstance(value, hint)
    *first, last = get_args(hint)
    if not isinstance(value, tuple):
        return False
    types = first * len(value) if last is ... else [*first, last]
    return len(value) == len(types) and all(map(_has_type, value, types))


def _same(one: Any, other: Any) -> bool:
    """Compare two values, in which a time that is no number is equal to itself."""
    return repr(one) == repr(other) and type(one) is type(other)


def _wrapped(
    kind: RecordKind[Any], times: bytes, payload: bytes, content: bytes, secret: bytes
) -> bytes:
    """Return a record with any payload, sealed as a store seals it."""
    codec = Codec(secret)
    head = struct.pack(">BBcB", codecs.MAGIC, codecs.VERSION, kind.mark, 1 if secret else 0)
    head += times.ljust(16, b"\0") + struct.pack(">I", len(payload)) + payload
    return head + codec.seal_of(NAME, head) + content


def _record(inputs: InputValues, kind: RecordKind[Any]) -> Any:
    """Return some record of a kind."""
    if kind is REFUSAL:
        return inputs.seconds()
    if kind is REPRESENTATION:
        lines = tuple((b"content-type", inputs.some(30)) for _ in range(inputs.number(3)))
        items = inputs.number(1000) if inputs.flag() else None
        content = inputs.some()
        fields = Fields(lines)
        digest = digest_of(content, fields)
        return Representation(digest, fields, compress(content), len(content), items)
    if kind is NEGATIVE:
        requested_at, received_at, found_at = (inputs.seconds() for _ in range(3))
        return NegativeResponse(
            requested_at,
            received_at,
            epoch=inputs.some(9),
            status=inputs.number(1000),
            fields=Fields(((b"location", inputs.some(30)),)),
            content=inputs.some(),
            coding=inputs.some(9),
            found=((inputs.take(32).hex(), found_at),),
        )
    described: dict[RecordKind[Any], type[Any]] = {GRANT: Grant, ENTRY: Entry}
    return _made(inputs, described[kind]) if kind in described else inputs.some()


def _made(inputs: InputValues, kind: type[Any]) -> Any:
    """Return a record of a *kind* that is described by the types of its values."""
    makers: dict[Any, Callable[[], Any]] = {
        float: inputs.seconds,
        bool: inputs.flag,
        int: lambda: inputs.number(1 << 16),
        str: lambda: inputs.take(32).ljust(32, b"\0").hex(),
        str | None: lambda: inputs.take(32).ljust(32, b"\0").hex() if inputs.flag() else None,
        bytes | None: inputs.maybe,
    }
    hints = get_type_hints(kind)
    values = {each.name: makers[hints[each.name]]() for each in attributes(kind)}
    if "etag" in values:
        values["etag"] = _ENTITY_TAGS[inputs.number(len(_ENTITY_TAGS))]
    return kind(**values)


def records(raw: bytes) -> None:
    """A record is the one that was sealed, or none: never another one.

    The first byte selects the rest: a record, a payload to be sealed, values and a damage.
    """
    mode, rest = raw[:1], raw[1:]
    for secret in SECRETS:
        if mode == b"r":
            _opened(rest, secret)
            for value in (rest, b"", None):
                assert Codec(secret).open(REFUSAL, b"", value) is None or value
        elif mode == b"p":
            inputs = InputValues(rest)
            kind = KINDS[inputs.number(len(KINDS))]
            times = inputs.take(16)
            content = inputs.some() if kind is REPRESENTATION else b""
            _opened(_wrapped(kind, times, inputs.rest(), content, secret), secret)
        else:
            _damaged(InputValues(rest), secret)


def limits_stored(raw: bytes) -> None:
    """A limit is the one that was sealed."""
    inputs = InputValues(raw)
    for secret in SECRETS:
        codec = Codec(secret)
        for scope in (EVERYTHING, "core"):
            kind = LimitKind.PRIMARY if inputs.flag() else LimitKind.SECONDARY
            lines = tuple((inputs.some(9), inputs.some()) for _ in range(inputs.number(4)))
            limit = Limit(
                kind,
                scope,
                inputs.seconds(),
                inputs.number(1000),
                lines,
                inputs.some(),
                inputs.flag(),
            )
            blob = codec.seal(limit_kind(limit.scope), NAME, limit)
            assert Codec(secret).open_limit(NAME, blob, scope) == limit
            assert Codec(secret).open(REFUSAL, NAME, blob) == limit.until


def _damaged(inputs: InputValues, secret: bytes) -> None:
    kind = KINDS[inputs.number(len(KINDS))]
    value = _record(inputs, kind)
    codec = Codec(secret)
    blob = codec.seal(kind, NAME, value)
    fresh = Codec(secret)
    assert fresh.open(kind, NAME, blob) == value
    assert fresh.open(kind, NAME, blob) == value  # as it is remembered, too
    at, change = inputs.number(len(blob)), inputs.number(255) + 1
    damaged = bytearray(blob)
    damaged[at] ^= change
    for other in (bytes(damaged), blob[:at], blob + b"\0", blob[at:]):
        if other == blob:
            continue
        if secret:
            opened = fresh.open(kind, NAME, other)
            # The packed content may be another one that unpacks to the same.
            assert opened is None or (
                kind is REPRESENTATION
                and (opened.digest, opened.fields, opened.content())
                == (value.digest, value.fields, value.content())
            )
        _opened(other, secret)


# Snapshots.


def _read(pieces: list[bytes], largest_bytes: int = 1 << 20) -> tuple[list[Pair], Summary | str]:
    """Return the records of a snapshot, and its summary or what is wrong with it."""
    reader = SnapshotReader(largest_bytes)
    pairs: list[Pair] = []
    try:
        for piece in pieces:
            for some in reader.feed(piece):
                pairs += some
        summary = reader.finish()
    except SnapshotError as error:
        return pairs, type(error).__name__
    assert summary.records == len(pairs)
    return pairs, summary


def _written(header: Header, pairs: list[Pair]) -> bytes:
    writer = SnapshotWriter(header)
    return b"".join([*writer.add(pairs), writer.finish()])


def snapshots(raw: bytes) -> None:
    """A snapshot is the written one, or is refused, for any division into pieces.

    The first byte selects the rest: a file, blocks to be framed and counted, records and a damage.
    """
    mode, inputs = raw[:1], InputValues(raw[1:])
    if mode == b"r":
        _compare(inputs.rest())
    elif mode == b"b":
        _compare(_framed(inputs))
    else:
        kind = ("memory", "redis")[inputs.number(2)]
        header = Header(inputs.some(9).hex(), kind, inputs.number(1 << 16), inputs.some(4).hex())
        pairs = [(inputs.some(), inputs.some()) for _ in range(inputs.number(5))]
        whole = _written(header, pairs)
        found, summary = _compare(whole)
        assert found == pairs
        assert isinstance(summary, Summary)
        assert summary.header == header
        at = inputs.number(len(whole))
        damaged = bytearray(whole)
        damaged[at] ^= inputs.number(255) + 1
        for other in (bytes(damaged), whole[:at], whole + b"\0"):
            _, result = _compare(other)
            assert isinstance(result, str)


def _compare(raw: bytes) -> tuple[list[Pair], Summary | str]:
    pairs, result = _read([raw])
    for pieces in ways(raw):
        assert _read(pieces) == (pairs, result)
    if isinstance(result, Summary):
        header = result.header
        if None not in astuple(header):  # older versions lack some of it
            again, summary = _read([_written(header, pairs)])
            assert again == pairs
            assert summary == result
    for name, blob in _read([raw], 100)[0]:
        assert len(name) + len(blob) <= 100
    return pairs, result


def names_read(raw: bytes) -> None:
    """A name of a record or a snapshot is one that the mirror writes, letter by letter, or none."""
    record = parse(raw)
    assert record is None or record.encode() == raw
    text = raw.decode("utf-8", "replace")
    name = SnapshotName.parse(text)
    assert name is None or name.text == text
    owner = owner_of(text)
    assert owner_of(owner) == owner
    written = SnapshotName(owner, zlib.crc32(raw) * 1000 + len(raw) % 1000)
    assert SnapshotName.parse(written.text) == written


def _framed(inputs: InputValues) -> bytes:
    """Return a file with a checksum that is right, around blocks that hold anything."""
    version = inputs.number(4)
    header = inputs.some() if inputs.flag() else Header("o", "redis", 1).encode()
    parts = [START.pack(MAGIC, VERSION if version == 3 else version, len(header)), header]
    records, size = inputs.number(8), 0
    blocks = inputs.number(4)
    for _ in range(blocks):
        content = inputs.some()
        size += len(content)
        packed = inputs.some() if inputs.number(8) == 1 else zstandard.compress(content)
        parts += LENGTH.pack(len(packed)), packed
    if inputs.flag():
        size = inputs.number(1 << 16)
    parts += LENGTH.pack(0), COUNTS.pack(records, size)
    hashed = new_hash()
    for part in parts:
        hashed.update(part)
    return b"".join(parts) + bytes(hashed.digest())
