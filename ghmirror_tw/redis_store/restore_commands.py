"""The commands that restore records into Redis: only if no record or an older one is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import evolve

from ghmirror_tw.redis import Command
from ghmirror_tw.redis_store import scripts
from ghmirror_tw.redis_store.redis_access import RedisAccess
from ghmirror_tw.store.record_kinds import ENTRY, GRANT, REFUSAL, REPRESENTATION, RecordKind
from ghmirror_tw.store.record_names import RecordName, parse


def restore_command(records: RedisAccess, name: bytes, blob: bytes) -> Command | None:
    """Return the command that restores *blob* under *name*.

    None for expired records, for refusals, and for anything not sealed with this secret. Restored
    grants permit nothing until GitHub has confirmed them.
    """
    parsed = parse(name)
    restore = None if parsed is None else _BY_KIND.get(parsed.kind)
    return None if restore is None or parsed is None else restore(records, parsed, name, blob)


def _representation(
    records: RedisAccess, _: RecordName, name: bytes, blob: bytes
) -> Command | None:
    if not records.codec.vouches_for(REPRESENTATION, name, blob):
        return None
    life = records.life(records.ttl_s)
    sealed = records.codec.resealed(name, blob)
    return Command((b"SET", records.key(name), sealed, b"PX", life, b"NX"))


def _grant(records: RedisAccess, parsed: RecordName, name: bytes, blob: bytes) -> Command | None:
    grant = records.codec.open(GRANT, name, blob)
    left_s = 0.0 if grant is None else min(grant.expires_at - records.now(), records.grant_life_s)
    if grant is None or left_s <= 0:
        return None
    keys = records.keys(name, evolve(parsed, kind=REFUSAL).encode())
    sealed = records.codec.seal(GRANT, name, evolve(grant, epoch=None))
    return scripts.PUT_GRANT.call(keys, sealed, records.life(left_s))


def _entry(records: RedisAccess, _: RecordName, name: bytes, blob: bytes) -> Command | None:
    entry = records.codec.open(ENTRY, name, blob)
    if entry is None:
        return None
    life, sealed = records.life(records.ttl_s), records.codec.resealed(name, blob)
    return scripts.PUT_ENTRY.call(records.keys(name), bytes.fromhex(entry.digest), sealed, life)


_BY_KIND: Final[
    dict[RecordKind[Any], Callable[[RedisAccess, RecordName, bytes, bytes], Command | None]]
] = {
    REPRESENTATION: _representation,
    GRANT: _grant,
    ENTRY: _entry,
}
