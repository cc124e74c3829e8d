"""Records like those of a mirror, and snapshots of them in a directory."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.snapshots.snapshot_format import Header
from ghmirror_tw.snapshots.snapshot_names import SnapshotName
from ghmirror_tw.snapshots.snapshot_writer import SnapshotWriter
from ghmirror_tw.store import record_names
from ghmirror_tw.store.record_kinds import ENTRY, GRANT, REPRESENTATION
from ghmirror_tw.store.record_sealing import Codec
from ghmirror_tw.store.store_interface import Pair
from tests.unit.store.store_contract import ALICE, BOB, entry, grant, held

SECRET = "what-only-the-mirrors-know-of-all"
CODEC = Codec(SECRET.encode())
API_URL = "https://api.github.com"
#: 2026-11-25 09:30:00 UTC, in ms.
AT_MS = 1_795_599_000_123
MARK_KEY = b"ghmirror:probe:filled"
_SETTINGS = f"api_url={API_URL} fingerprint={CODEC.fingerprint}"
#: What the keys of mirrors end with that no mirror of another server or secret has.
FLEET = hashlib.sha256(_SETTINGS.encode()).hexdigest()[:8]
OWN_MARK_KEY = MARK_KEY + b":" + FLEET.encode()
OWNER = f"redis-ghmirror-{CODEC.fingerprint}"


def some(number: int = 3, content: bytes = b"[%d]") -> list[Pair]:
    """Return so many representations, as many entries, and three grants more."""
    now = time.time()
    pairs = []
    for each in range(number):
        key, made = CacheKey(b"/%d" % each), held(content.replace(b"%d", b"%d" % each))
        stored, listed = (
            record_names.representation(key, made.digest),
            record_names.recency_list(key),
        )
        granted = record_names.grant(key, ALICE)
        pairs += [
            (stored, CODEC.seal(REPRESENTATION, stored, made)),
            (listed, CODEC.seal(ENTRY, listed, entry(now, made))),
            (granted, CODEC.seal(GRANT, granted, grant(now, made))),
        ]
    for credential in (BOB, "c" * 32, "d" * 32):
        name = record_names.grant(CacheKey(b"/0"), credential)
        pairs.append(
            (name, CODEC.seal(GRANT, name, grant(now, held(content.replace(b"%d", b"0")))))
        )
    return pairs


def packed(
    pairs: Sequence[Pair], owner: str = OWNER, at_ms: int = AT_MS, codec: Codec = CODEC
) -> bytes:
    """Return a snapshot whose records *codec* has sealed."""
    writer = SnapshotWriter(Header(owner, "redis", at_ms, codec.fingerprint, API_URL))
    return b"".join(writer.add(pairs)) + writer.finish()


def put(directory: Path, content: bytes, owner: str = OWNER, at_ms: int = AT_MS) -> str:
    """Write a file with that time in place of a snapshot; return its name."""
    directory.mkdir(exist_ok=True)
    name = SnapshotName(owner, at_ms).text
    path = directory / name
    path.write_bytes(content)
    os.utime(path, (at_ms / 1000, at_ms / 1000))
    return name
