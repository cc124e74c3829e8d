"""The store in Redis is saved and filled by hand, as mirrors do it, and together with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghmirror_tw.snapshots.snapshot_format import Pair
from ghmirror_tw.snapshots.snapshot_reader import SnapshotReader
from ghmirror_tw.store import record_names
from ghmirror_tw.store.record_kinds import GRANT
from ghmirror_tw.store.record_sealing import Codec
from tests.harness.redis_servers import RedisServer
from tests.unit.cli.command_process import Operator
from tests.unit.cli.snapshot_files import (
    AT_MS,
    CODEC,
    FLEET,
    MARK_KEY,
    OWN_MARK_KEY,
    OWNER,
    packed,
    put,
    some,
)
from tests.unit.store.store_contract import ALICE, KEY, grant

LEASES = {what: f"ghmirror:{{{what}}}:lease:{FLEET}" for what in ("save", "restore")}


def pairs_in(path: Path) -> list[Pair]:
    """Return what a snapshot holds."""
    reader = SnapshotReader()
    pairs = [pair for some in reader.feed(path.read_bytes()) for pair in some]
    reader.finish()
    return pairs


def keys_of(redis: RedisServer) -> set[bytes]:
    """Return the names of the records in Redis, and of the mark."""
    beside = {each.encode() for each in LEASES.values()}
    return {*redis.send("KEYS", "*")} - beside - {b"ghmirror:probe"}


def with_mark(pairs: list[Pair]) -> set[bytes]:
    return {b"ghmirror:" + name for name, _ in pairs} | {MARK_KEY, OWN_MARK_KEY}


def store_some(redis: RedisServer) -> None:
    """Store a few records, and mark the store as filled."""
    for name, blob in some():
        if b":l" not in name:
            redis.send("SET", b"ghmirror:" + name, blob)
    redis.send("SET", OWN_MARK_KEY, "1")


def test_there_and_back(operator: Operator, kept: Path, redis: RedisServer) -> None:
    """Restored records that are saved again are the same; the lease is renewed throughout."""
    pairs = some(250)
    name = put(kept, packed(pairs))
    ended = operator.run("snapshot", "restore")
    assert ended.status == 0, ended.err
    assert ended.out == f"Restored 753 of 753 records from {name}\n"
    assert [line.split(" (")[0] for line in ended.err.splitlines()] == ["Checking", "Restoring"]
    assert keys_of(redis) == with_mark(pairs)
    assert not redis.send("EXISTS", LEASES["restore"])

    ended = operator.run("snapshot", "save", "--json")
    assert ended.status == 0, ended.err
    output = ended.json
    assert (output["records"], output["left_out"], output["owner"]) == (753, 0, OWNER)
    assert list(output) == [
        *("target", "name", "owner", "written_at", "size_bytes"),
        *("records", "left_out", "seconds", "warnings"),
    ]
    path = kept / output["name"]
    assert path.stat().st_size == output["size_bytes"]
    assert {each for each, _ in pairs_in(path)} == {each for each, _ in pairs}
    # as mirrors do, so that none of them makes the next one at once
    assert 0.8 * 900_000 < redis.send("PTTL", LEASES["save"]) <= 0.9 * 900_000


def test_superseded_snapshots_are_deleted(
    operator: Operator, kept: Path, redis: RedisServer
) -> None:
    """`keep` counts for manual snapshots, too."""
    operator.configure({"snapshot": {"keep": 1}})
    old = put(kept, packed(some()))
    other = put(kept, packed(some(), "memory-host"), "memory-host")
    assert operator.run("snapshot", "restore").status == 0
    ended = operator.run("snapshot", "save")
    assert ended.status == 0, ended.err
    (made,) = {path.name for path in kept.iterdir()} - {other}
    assert made != old
    assert ended.out.startswith("Saved 12 records (")
    assert ended.out.endswith(f") as {made}\n")


def test_a_store_without_records_is_not_saved(
    operator: Operator, kept: Path, redis: RedisServer
) -> None:
    """An empty snapshot would precede a full one; the lease is released."""
    operator.configure({"snapshot": {"keep": 1}})
    old = put(kept, packed(some()))
    redis.send("SET", OWN_MARK_KEY, "1")
    status, code, message = operator.run("snapshot", "save", "--json").error
    assert (status, code) == (1, "no-records")
    assert message == "the store has no records; no snapshot was written"
    assert [path.name for path in kept.iterdir()] == [old]
    assert not redis.send("EXISTS", LEASES["save"])


def test_the_first_one_makes_the_directory(
    operator: Operator, kept: Path, redis: RedisServer
) -> None:
    """It is readable only by its user, as by mirrors."""
    store_some(redis)
    assert operator.run("snapshot", "save").status == 0
    assert kept.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in kept.iterdir()] == [0o600]


def test_one_at_a_time(operator: Operator, kept: Path, redis: RedisServer) -> None:
    """While a mirror has the lease, nothing is saved; the message names the last snapshot."""
    name = put(kept, packed(some()))
    redis.send("SET", OWN_MARK_KEY, "1")
    for lease in LEASES.values():
        redis.send("SET", lease, "a mirror", "PX", "100000000")
    status, code, message = operator.run("snapshot", "save", "--json").error
    assert (status, code) == (1, "lease")
    output = "another replica has the lease: it saves the store now, or has done so within 15m"
    assert message.startswith(f"{output}; the newest snapshot is {name}, ")
    assert [path.name for path in kept.iterdir()] == [name]
    status, code, message = operator.run("snapshot", "restore", "--json").error
    assert (status, code) == (1, "lease")
    assert message == "another replica has the lease: it restores the store now"
    assert keys_of(redis) == {OWN_MARK_KEY}
    assert {redis.send("GET", lease) for lease in LEASES.values()} == {b"a mirror"}


def test_a_store_that_was_not_filled_is_not_saved(
    operator: Operator, kept: Path, redis: RedisServer
) -> None:
    """Its copy would precede the one that it has to be filled from."""
    put(kept, packed(some()))
    status, code, message = operator.run("snapshot", "save", "--json").error
    assert (status, code) == (1, "not-filled")
    assert "snapshot restore" in message
    assert len(list(kept.iterdir())) == 1
    assert not redis.send("EXISTS", LEASES["save"])


def test_nothing_newer_is_replaced(operator: Operator, kept: Path, redis: RedisServer) -> None:
    """Not even with --force while the store counts as filled."""
    name = record_names.grant(KEY, ALICE)
    old, new = CODEC.seal(GRANT, name, grant(1000.0)), CODEC.seal(GRANT, name, grant(2000.0))
    stored = put(kept, packed([*some(1), (name, old)]))
    redis.send("SET", b"ghmirror:" + name, new)
    redis.send("SET", OWN_MARK_KEY, "1")
    ended = operator.run("snapshot", "restore", stored)
    assert ended.status == 0, ended.err
    assert ended.out == (
        f"Restored 6 of 7 records from {stored}\n"
        "The others have expired, or the store has them already.\n"
    )
    assert redis.send("GET", b"ghmirror:" + name) == new


def test_nothing_is_restored_with_another_secret(
    operator: Operator, kept: Path, redis: RedisServer
) -> None:
    """It is not restored from, named or not, and the store does not count as filled."""
    name = put(kept, packed(some(), codec=Codec(b"another secret")))
    status, code, message = operator.run("snapshot", "restore", "--json", name).error
    assert (status, code) == (1, "other-secret")
    assert "sealed with another [cache] credential_secret" in message
    assert operator.run("snapshot", "restore", "--json").error[:2] == (1, "no-snapshot")
    assert keys_of(redis) == set()


def test_a_restore_of_nothing_is_no_success(
    operator: Operator, kept: Path, redis: RedisServer
) -> None:
    """Status 1, and the store does not count as filled."""
    name = record_names.grant(KEY, ALICE)
    stored = put(kept, packed([(name, CODEC.seal(GRANT, name, grant(1000.0)))]))
    redis.send("SET", b"ghmirror:" + name, CODEC.seal(GRANT, name, grant(2000.0)))
    ended = operator.run("snapshot", "restore")
    assert ended.status == 1, ended.err
    assert ended.out == (
        f"Restored 0 of 1 record from {stored}\nThey have expired, or the store has them already.\n"
    )
    fields = operator.run("snapshot", "restore", "--json")
    assert (fields.status, fields.json["records"], fields.json["restored"]) == (1, 1, 0)
    assert list(fields.json) == [
        *("target", "name", "owner", "written_at", "size_bytes"),
        *("records", "restored", "seconds", "warnings"),
    ]
    assert keys_of(redis) == {b"ghmirror:" + name}


def test_the_newest_that_is_whole(operator: Operator, kept: Path, redis: RedisServer) -> None:
    """Of this store before others'; damaged ones are named and skipped."""
    pairs = some(2)
    damaged = put(kept, packed(some())[:-1], at_ms=AT_MS)
    good = put(kept, packed(pairs), at_ms=AT_MS - 1)
    put(kept, packed(some(5), "another"), "another", AT_MS + 1)
    ended = operator.run("snapshot", "restore", damaged)
    assert (ended.status, ended.out) == (1, "")
    assert "error: the snapshot cannot be used: it ends without a trailer" in ended.err
    assert keys_of(redis) == set()
    ended = operator.run("snapshot", "restore", "--json")
    assert ended.status == 0, ended.err
    assert ended.json["name"] == good
    (warning,) = ended.json["warnings"]
    assert warning.startswith(
        f"Snapshot not usable: name={damaged} error=it ends without a trailer"
    )
    assert f"warning: {warning}\n" in ended.err
    assert keys_of(redis) == with_mark(pairs)


def test_anybodys_will_do(operator: Operator, kept: Path, redis: RedisServer) -> None:
    """Where there is none of this store; where there is none at all, it doesn't count as filled."""
    kept.mkdir()
    status, code, _ = operator.run("snapshot", "restore", "--json").error
    assert (status, code) == (1, "no-snapshot")
    assert keys_of(redis) == set()
    name = put(kept, packed(some(), "another"), "another")
    assert operator.run("snapshot", "restore", "--json").json["name"] == name


@pytest.mark.parametrize("command", ["save", "restore"])
def test_a_memory_store_is_the_mirrors_own(operator: Operator, kept: Path, command: str) -> None:
    """Commands cannot access it, and the message names the process that can."""
    put(kept, packed(some()))
    status, code, message = operator.run("snapshot", command, "--json").error
    assert (status, code) == (2, "memory-store")
    assert message.startswith("[cache] backend: memory is a store inside the process of the mirror")
    assert "the mirror can save it, every 15m" in message or "at its start" in message


# Redis as it shouldn't be.


@pytest.mark.parametrize("command", ["save", "restore"])
def test_redis_is_away(operator: Operator, kept: Path, redis: RedisServer, command: str) -> None:
    """One line states it, before anything is read or written; status 3."""
    put(kept, packed(some()))
    redis.kill()
    ended = operator.run("snapshot", command)
    assert (ended.status, ended.out) == (3, "")
    line, _hint = ended.err.splitlines()
    assert line.startswith(f"error: Redis at 127.0.0.1:{redis.port}: ")
    assert "refused" in line
    status, code, message = operator.run("snapshot", command, "--json").error
    assert (status, code, f"error: {message}") == (3, "store", line)


@pytest.mark.parametrize("command", ["save", "restore"])
def test_redis_wants_another_password(operator: Operator, kept: Path, command: str) -> None:
    """The message has the error of Redis, and never the password."""
    put(kept, packed(some()))
    with RedisServer(password="right-right-right") as server:
        operator.configure(
            {
                "cache": {"backend": "redis"},
                "redis": {
                    "url": f"redis://127.0.0.1:{server.port}",
                    "password": "wrong-wrong-wrong",
                },
            }
        )
        for more in ([], ["--json"], ["--verbose"]):
            ended = operator.run("snapshot", command, *more)
            assert ended.status == 3
            assert "WRONGPASS" in ended.out + ended.err
            assert "wrong-wrong" not in ended.out + ended.err
        operator.configure({"redis": {"password": ""}})
        ended = operator.run("snapshot", command)
        assert ended.status == 3
        line, _hint = ended.err.splitlines()
        assert "NOAUTH" in line


def test_redis_refuses_changes(operator: Operator, kept: Path, redis: RedisServer) -> None:
    """Nothing can be agreed on, and nothing is half done."""
    put(kept, packed(some()))
    redis.send("CONFIG", "SET", "maxmemory", "1")
    for command in ("save", "restore"):
        status, code, message = operator.run("snapshot", command, "--json").error
        assert (status, code) == (3, "store")
        assert "OOM" in message
    assert len(list(kept.iterdir())) == 1


def test_a_directory_that_cannot_be_written(
    operator: Operator, kept: Path, redis: RedisServer
) -> None:
    """The message has the error of the system, and the lease is released for another replica."""
    kept.write_text("")
    store_some(redis)
    ended = operator.run("snapshot", "save", "--quiet")
    assert (ended.status, ended.out) == (3, "")
    text = f"{kept.as_uri()} cannot be written to: File exists"
    assert ended.err.startswith(f"error: {text}\nhint: ")
    assert not redis.send("EXISTS", LEASES["save"])


def test_the_log_can_be_read(operator: Operator, kept: Path, redis: RedisServer) -> None:
    """With --verbose, on stderr, as the mirror writes it."""
    put(kept, packed(some()))
    ended = operator.run("snapshot", "restore", "--verbose", "--json")
    assert ended.json["restored"] == 12
    address = f"Redis available: address=127.0.0.1:{redis.port}"
    assert f"info ghmirror.store {address}\n" in ended.err
