"""The commands that put records back into Redis, over nothing or over older ones only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import evolve

from ghmirror_tw.redis.servers_interface import Command
from ghmirror_tw.redis_store import scripts
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.store.record_kinds import ENTRY, GRANT, REFUSAL, REPRESENTATION, RecordKind
from ghmirror_tw.store.record_names import RecordName, parse


def putting(records: RedisRecords, name: bytes, blob: bytes) -> Command | None:
    """Return the command that puts *blob* back under *name*.

    None for what has expired, for what is no record or not sealed with our secret, and for
    refusals. Grants permit nothing before GitHub has confirmed them.
    """
    parsed = parse(name)
    put = None if parsed is None else _BY_KIND.get(parsed.kind)
    return None if put is None or parsed is None else put(records, parsed, name, blob)


def _representation(
    records: RedisRecords, _: RecordName, name: bytes, blob: bytes
) -> Command | None:
    if not records.codec.vouches_for(REPRESENTATION, name, blob):
        return None
    life = records.life(records.ttl_s)
    return Command((b"SET", records.key(name), blob, b"PX", life, b"NX"))


def _grant(records: RedisRecords, parsed: RecordName, name: bytes, blob: bytes) -> Command | None:
    grant = records.codec.open(GRANT, name, blob)
    left_s = 0.0 if grant is None else min(grant.expires_at - records.now(), records.grant_life_s)
    if grant is None or left_s <= 0:
        return None
    keys = records.keys(name, evolve(parsed, kind=REFUSAL).encode())
    sealed = records.codec.seal(GRANT, name, evolve(grant, epoch=None))
    return scripts.PUT_GRANT.call(keys, sealed, records.life(left_s))


def _entry(records: RedisRecords, _: RecordName, name: bytes, blob: bytes) -> Command | None:
    entry = records.codec.open(ENTRY, name, blob)
    if entry is None:
        return None
    life = records.life(records.ttl_s)
    return scripts.PUT_ENTRY.call(records.keys(name), bytes.fromhex(entry.digest), blob, life)


_BY_KIND: Final[
    dict[RecordKind[Any], Callable[[RedisRecords, RecordName, bytes, bytes], Command | None]]
] = {
    REPRESENTATION: _representation,
    GRANT: _grant,
    ENTRY: _entry,
}
