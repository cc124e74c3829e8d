"""The records in Redis: keys, lives, and values that other programs have stored there."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from attrs import evolve
from twisted.trial.unittest import TestCase

from ghmirror_tw.caching.records import RECENCY_LENGTH
from ghmirror_tw.github.reported_limit import Limit, LimitKind
from ghmirror_tw.redis.cluster_slots import slot_of_tag
from ghmirror_tw.redis.unsharded_servers import SingleServer
from ghmirror_tw.redis_store.redis_archive import RedisArchive
from ghmirror_tw.store import record_names
from ghmirror_tw.store.failover import FailoverStore
from ghmirror_tw.store.record_kinds import REFUSAL, REPRESENTATION, limit_kind
from ghmirror_tw.store.record_sealing import VERSION, Codec
from ghmirror_tw.store.remote_interface import EpochWrite
from ghmirror_tw.store.store_interface import Deadline, LockName, LockOutcome
from tests.harness.home import reactor
from tests.harness.redis_servers import start_redis
from tests.harness.redis_sets import open_cluster
from tests.harness.redis_stores import DAY_S, PREFIX, SOON, at_rest, node_at, open_store, settled
from tests.unit.redis.test_cluster import cluster_at
from tests.unit.store.store_contract import (
    ALICE,
    BOB,
    COLD,
    EPOCH,
    HELD,
    KEY,
    OTHER,
    entry,
    grant,
    held,
)

GRANT_NAME = record_names.grant(KEY, ALICE)
REFUSAL_NAME = record_names.refusal(KEY, ALICE)
LIST = record_names.recency_list(KEY)
CONTENT = record_names.representation(KEY, HELD.digest)
CODEC = Codec(b"secret")


def at(name: bytes) -> str:
    """Return the key of a record."""
    return f"{PREFIX}:{name.decode()}"


class Records(TestCase):
    """One server, a store that writes, and another one with an empty memory."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        self.redis = self.server.client()
        self.addCleanup(self.redis.close)
        self.store = await open_store(self, self.server.address)

    def send(self, *parts: Any) -> Any:
        return self.redis.send(*parts)

    async def reader(self, servers: Any = None, **more: Any) -> FailoverStore:
        return await open_store(self, servers or self.server.address, **more)

    async def remember(self, requested_at: float = 1.0) -> None:
        self.store.store_response(KEY, ALICE, HELD, grant(requested_at), entry())
        await settled(self.store)

    async def known(self, credential: str = ALICE, **more: Any) -> Any:
        store = await self.reader(**more)
        return await store.look_up(KEY, credential, Deadline(SOON))

    async def test_all_records_of_a_key_share_a_slot(self) -> None:
        """So a script can use them together in a cluster."""
        await self.remember()
        self.store.deny(KEY, ALICE, 0.5)
        self.store.mark_unstorable(KEY)
        await self.store.try_acquire(LockName(KEY, BOB), "a", Deadline(SOON))
        await settled(self.store)
        keys = [key.decode() for key in self.send("KEYS", "*")]
        ours = [key for key in keys if "{" in key]
        assert len(ours) >= 4
        assert {key.split("{")[1].split("}")[0] for key in ours} == {KEY.name}

    async def test_names_contain_only_hashes(self) -> None:
        """Neither targets nor credentials."""
        await self.remember()
        everything = b" ".join(self.send("KEYS", "*"))
        assert b"/x" not in everything
        assert KEY.name.encode() in everything

    async def test_a_limit_lasts_no_longer_by_another_clock(self) -> None:
        """The clock of the replica that met the limit may be an hour ahead."""
        ahead = reactor.seconds() + 3600.0
        self.store.redis.now = lambda: ahead
        self.store.set_limit(ALICE, Limit(LimitKind.PRIMARY, "core", ahead + 60.0))
        await settled(self.store)
        (limit,) = (await self.known()).limits
        assert 0 < limit.until - reactor.seconds() <= 60
        assert 0 < self.send("PTTL", at(record_names.limit(ALICE, "core"))) <= 60_000
        # And what is met by a clock that is right is not outlasted by that one.
        now = reactor.seconds()
        reader = await self.reader()
        reader.set_limit(ALICE, Limit(LimitKind.SECONDARY, "core", now + 600.0))
        await settled(reader)
        (limit,) = (await self.known()).limits
        assert limit.kind is LimitKind.SECONDARY
        assert now + 590 < limit.until <= now + 600

    async def test_a_limit_of_an_earlier_version(self) -> None:
        """It has only a time; the kind follows from the name."""
        until = reactor.seconds() + 60.0
        for scope in ("", "core"):
            name = record_names.limit(ALICE, scope)
            self.send("SET", at(name), CODEC.seal(REFUSAL, name, until), "PX", 60_000)
        limits = (await self.known()).limits
        kinds = [(each.scope, each.kind) for each in limits]
        assert kinds == [("", LimitKind.SECONDARY), ("core", LimitKind.PRIMARY)]
        # What it reads, in turn, is the time.
        made = Limit(LimitKind.PRIMARY, "core", until, 429, ((b"a", b"b"),), b"{}")
        name = record_names.limit(ALICE, "core")
        assert CODEC.open(REFUSAL, name, CODEC.seal(limit_kind("core"), name, made)) == until

    async def test_a_limit_of_another_program(self) -> None:
        """It is ignored, and replaced."""
        name = record_names.limit(ALICE, "core")
        for strange in (
            b"",
            b"junk",
            Codec(b"other").seal(REFUSAL, name, reactor.seconds() + 60.0),
        ):
            self.send("SET", at(name), strange, "PX", 60_000)
            assert (await self.known()).limits == ()
        self.send("DEL", at(name))
        self.send("LPUSH", at(name), "x")
        assert (await self.known()).limits == ()
        limit = Limit(LimitKind.PRIMARY, "core", reactor.seconds() + 60.0)
        self.store.set_limit(ALICE, limit)
        await settled(self.store)
        assert [each.scope for each in (await self.known()).limits] == ["core"]

    async def test_replica_in_another_history_sees_that_an_epoch_was_replaced(self) -> None:
        """Replicas find a new history at different times; until then, a write must count."""
        self.store.replace_epoch(ALICE, EPOCH)
        await settled(self.store)
        here, there = self.store.redis, (await self.reader()).redis
        assert (await here.look_up(KEY, ALICE, SOON, current=True)).epoch == EPOCH
        there.change_history(b"f" * 16)
        assert (await there.look_up(KEY, ALICE, SOON, current=True)).epoch is None
        later = b"12345678"
        assert await there.put_epoch(ALICE, later, SOON, EpochWrite.ALWAYS) == later
        assert (await here.look_up(KEY, ALICE, SOON, current=True)).epoch is None
        assert await here.put_epoch(ALICE, EPOCH, SOON, EpochWrite.IF_ABSENT) == EPOCH
        assert await here.put_epoch(ALICE, later, SOON, EpochWrite.IF_ABSENT) == EPOCH

    async def test_every_key_has_a_life(self) -> None:
        """Extended by up to a tenth; grants live no longer than their tokens."""
        now = reactor.seconds()
        self.store.store_response(KEY, ALICE, HELD, grant(now, expires_at=now + 3600), entry())
        self.store.freshen(KEY, BOB, grant(now), entry())
        self.store.deny(KEY, "c" * 32, now)
        self.store.revoke("d" * 32, EPOCH)
        self.store.replace_epoch("f" * 32, EPOCH)
        self.store.mark_unstorable(names_key := evolve(KEY, target=b"/other"))
        await self.store.try_acquire(LockName(KEY, "e" * 32), "a", Deadline(SOON))
        await settled(self.store)
        lives_s = {
            at(GRANT_NAME): 3600.0,
            at(record_names.grant(KEY, BOB)): DAY_S,
            at(LIST): 30 * DAY_S,
            at(CONTENT): 30 * DAY_S,
            at(record_names.refusal(KEY, "c" * 32)): 2 * DAY_S,
            at(record_names.epoch("f" * 32)): 2 * DAY_S,
            f"{PREFIX}:probe:history": 30.0 / 1.1,
            at(record_names.unstorable(names_key)): 60.0,
            at(record_names.lock(LockName(KEY, "e" * 32))): 3.0,
        }
        keys = {key.decode() for key in self.send("KEYS", "*")} - {f"{PREFIX}:probe"}
        assert keys == set(lives_s)
        for key, life_s in lives_s.items():
            left_s = self.send("PTTL", key) / 1000
            assert life_s * 0.5 < left_s <= life_s * 1.1, key
        # A refusal is never forgotten before what it outweighs.
        refused_ms = self.send("PTTL", at(record_names.refusal(KEY, "c" * 32)))
        assert refused_ms > self.send("PTTL", at(record_names.grant(KEY, BOB)))

    async def test_a_confirmation_renews_lives(self) -> None:
        """Those of the representation and of the recency list."""
        await self.remember()
        for key in (at(CONTENT), at(LIST)):
            self.send("PEXPIRE", key, 60_000)
        self.store.freshen(KEY, BOB, grant(2.0), entry(2.0))
        await settled(self.store)
        for key in (at(CONTENT), at(LIST)):
            assert self.send("PTTL", key) > 29 * DAY_S * 1000

    async def test_a_lost_representation_is_written_again(self) -> None:
        """A replica that still has it confirms a grant."""
        await self.remember()
        self.send("DEL", at(CONTENT))
        self.store.freshen(KEY, ALICE, grant(2.0), entry(2.0))
        await settled(self.store)
        store = await self.reader()
        assert await store.fetch(KEY, (HELD.digest,), Deadline(SOON)) == {HELD.digest: HELD}

    async def test_a_refusal_deletes_the_grant(self) -> None:
        """A later grant stays."""
        await self.remember(requested_at=2.0)
        self.store.deny(KEY, ALICE, 1.0)
        await settled(self.store)
        assert self.send("EXISTS", at(GRANT_NAME)) == 1
        self.store.deny(KEY, ALICE, 2.0)
        await settled(self.store)
        assert self.send("EXISTS", at(GRANT_NAME)) == 0

    async def test_records_of_a_newer_version_are_not_changed(self) -> None:
        """They are neither read nor replaced, with any times."""
        await self.remember()
        self.store.deny(KEY, BOB, 1.0)
        await settled(self.store)
        refusal = at(record_names.refusal(KEY, BOB))
        newer = bytes([VERSION + 1])
        digest = bytes.fromhex(HELD.digest)
        for key in (at(GRANT_NAME), refusal, at(CONTENT)):
            self.send("SETRANGE", key, 1, newer)
        listed = self.send("HGET", at(LIST), digest)
        self.send("HSET", at(LIST), digest, listed[:1] + newer + listed[2:])
        before = [self.send("GET", key) for key in (at(GRANT_NAME), refusal, at(CONTENT))]
        assert (await self.known()).grant is None
        store = await self.reader()
        store.store_response(KEY, ALICE, HELD, grant(9.0), entry(9.0))
        store.deny(KEY, BOB, 9.0)
        await settled(store)
        assert [self.send("GET", key) for key in (at(GRANT_NAME), refusal, at(CONTENT))] == before
        assert self.send("HGET", at(LIST), digest)[1:2] == newer

    async def test_garbage_is_a_miss_and_is_replaced(self) -> None:
        """Invalid bytes, incomplete records, and keys of another type."""
        await self.remember()
        for spoil in (
            lambda key: self.send("SET", key, b"garbage"),
            lambda key: self.send("SET", key, b""),
            lambda key: self.send("SET", key, bytes(range(256)) * 4),
            lambda key: (self.send("DEL", key), self.send("LPUSH", key, b"garbage")),
            lambda key: (self.send("DEL", key), self.send("HSET", key, b"field", b"garbage")),
        ):
            for key in (at(GRANT_NAME), at(REFUSAL_NAME), at(LIST), at(CONTENT)):
                spoil(key)
            store = await self.reader()
            known = await store.look_up(KEY, ALICE, Deadline(SOON))
            assert (known.grant, known.entries, known.refused) == (None, (), False)
            assert await store.fetch(KEY, (HELD.digest,), Deadline(SOON)) == {}
            store.store_response(KEY, ALICE, HELD, grant(5.0), entry(5.0))
            store.deny(KEY, ALICE, 4.0)
            await settled(store)
            known = await self.known()
            assert known.grant == grant(5.0)
            assert known.entries == (entry(5.0),)
            fetched = await (await self.reader()).fetch(KEY, (HELD.digest,), Deadline(SOON))
            assert fetched == {HELD.digest: HELD}

    async def test_large_values_are_misses_and_are_replaced(self) -> None:
        """Larger than any record: they are never held, and end no connection."""
        await self.remember()
        node = node_at(self.server.address, largest_bytes=4000)
        store = await self.reader(servers=SingleServer(node))
        await at_rest(node)
        connections = list(node.pool.connections)
        for value in (b"x" * 4001, b"x" * 1_000_000):
            for key in (at(GRANT_NAME), at(REFUSAL_NAME), at(CONTENT)):
                self.send("SET", key, value)
            known = await store.look_up(KEY, ALICE, Deadline(SOON))
            assert (known.grant, known.entries, known.refused) == (None, (), False)
            assert await store.fetch(KEY, (HELD.digest,), Deadline(SOON)) == {}
            self.store.store_response(KEY, ALICE, HELD, grant(5.0), entry(5.0))
            self.store.deny(KEY, ALICE, 4.0)
            await settled(self.store)
            known = await store.look_up(KEY, ALICE, Deadline(SOON))
            assert (known.grant, known.entries) == (grant(5.0), (entry(5.0),))
            assert await store.redis.fetch(KEY, (HELD.digest,), SOON) == {HELD.digest: HELD}
        assert node.pool.connections == connections

    async def test_large_values_are_in_no_snapshot(self) -> None:
        """Neither alone nor together, and no large name; the other records are."""
        await self.remember()
        other, third = (evolve(KEY, target=target) for target in (b"/other", b"/third"))
        for key in (other, third):
            self.store.store_response(key, ALICE, HELD, grant(1.0), entry())
        await settled(self.store)
        self.send("SET", at(record_names.representation(other, HELD.digest)), b"x" * 1_000_000)
        self.send("SET", at(b"{%s}:g:x" % (b"x" * 4001)), b"x")
        self.send("HSET", at(b"{x}:l"), *(str(number) for number in range(2000)))
        for number in range(3):
            self.send("SET", at(b"{x}:g:%d" % number), b"x" * 3000)
        node = node_at(self.server.address, largest_bytes=4000)
        store = await self.reader(servers=SingleServer(node))
        await at_rest(node)
        connections = list(node.pool.connections)
        async with aclosing(RedisArchive(store.redis).dump()) as batches:
            pairs = [pair async for batch in batches for pair in batch]
        names = {name for name, _ in pairs}
        for key in (KEY, third):
            assert record_names.representation(key, HELD.digest) in names
        assert record_names.representation(other, HELD.digest) not in names
        assert sum(len(blob) for name, blob in pairs if b"}:g:" in name) <= 4000
        assert node.pool.connections == connections

    async def test_garbage_in_the_list_of_entries_hides_no_others(self) -> None:
        """Invalid entries are left out."""
        await self.remember()
        self.send("HSET", at(LIST), b"x" * 32, b"garbage")
        assert (await self.known(BOB)).entries == (entry(),)

    async def test_a_full_list_of_garbage_makes_room(self) -> None:
        """Invalid entries are removed first."""
        for number in range(RECENCY_LENGTH + 2):
            self.send("HSET", at(LIST), bytes([number]) * 32, b"garbage")
        await self.remember()
        assert (await self.known(BOB)).entries == (entry(),)
        assert self.send("HLEN", at(LIST)) == RECENCY_LENGTH

    async def test_a_key_copied_onto_another_is_a_miss(self) -> None:
        """A record is sealed for its own name."""
        await self.remember()
        other = evolve(KEY, target=b"/private")
        self.store.store_response(other, BOB, OTHER, grant(1.0, OTHER), entry(of=OTHER))
        await settled(self.store)
        for source, target in (
            (record_names.grant(other, BOB), record_names.grant(other, ALICE)),
            (record_names.grant(KEY, ALICE), record_names.grant(other, ALICE)),
            (record_names.recency_list(KEY), record_names.recency_list(other)),
            (CONTENT, record_names.representation(other, OTHER.digest)),
        ):
            self.send("COPY", at(source), at(target), "REPLACE")
        store = await self.reader()
        known = await store.look_up(other, ALICE, Deadline(SOON))
        assert (known.grant, known.entries) == (None, ())
        assert await store.fetch(other, (OTHER.digest,), Deadline(SOON)) == {}

    async def test_another_secret_finds_nothing(self) -> None:
        """After a change of ``credential_secret`` the cache is empty."""
        await self.remember()
        for secret in (b"another", b""):
            known = await self.known(secret=secret)
            assert (known.grant, known.entries) == (None, ())

    async def test_without_a_secret_content_must_match_its_digest(self) -> None:
        """Other content under the same digest is a miss."""
        store = await self.reader(secret=b"")
        store.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        await settled(store)
        forged = evolve(held(b"[666]"), digest=HELD.digest)
        self.send("SET", at(CONTENT), Codec().seal(REPRESENTATION, CONTENT, forged))
        reader = await self.reader(secret=b"")
        assert await reader.fetch(KEY, (HELD.digest,), Deadline(SOON)) == {}

    async def test_content_beyond_the_limit_is_a_miss(self) -> None:
        """Also where the record was stored with a higher limit."""
        await self.remember()
        for limit, found in ((HELD.size, {HELD.digest: HELD}), (HELD.size - 1, {})):
            store = await self.reader()
            store.redis.codec = Codec(b"secret", largest_content_bytes=limit)
            assert await store.fetch(KEY, (HELD.digest,), Deadline(SOON)) == found

    async def test_the_later_200_is_listed_beside_a_later_validation(self) -> None:
        """Until it is overtaken."""
        digest = bytes.fromhex(HELD.digest)
        two = (entry(received_at=5.0, validated_at=6.0), entry(received_at=1.0, validated_at=9.0))
        for each in two:
            self.store.freshen(KEY, ALICE, grant(1.0), each)
            await settled(self.store)
        assert set(self.send("HKEYS", at(LIST))) == {digest, b"b" + digest}
        self.store.freshen(KEY, ALICE, grant(1.0), entry(10.0))
        await settled(self.store)
        assert self.send("HKEYS", at(LIST)) == [digest]

    async def test_a_lock_expires_with_its_owner(self) -> None:
        """The lease is renewed while the process runs."""
        assert await self.store.try_acquire(COLD, "a", Deadline(SOON)) is LockOutcome.ACQUIRED
        key = at(record_names.lock(COLD))
        self.send("PEXPIRE", key, 1500)
        while self.send("PTTL", key) <= 1500:
            await self.turn()
        other = await self.reader()
        assert await other.try_acquire(COLD, "b", Deadline(SOON)) is LockOutcome.HELD
        waiting = other.released(COLD, SOON)
        self.store.locks.leases.close()  # as if it had died
        self.send("PEXPIRE", key, 1)
        await waiting
        assert await other.try_acquire(COLD, "b", Deadline(SOON)) is LockOutcome.ACQUIRED

    async def test_an_evicted_lock_is_acquired_again(self) -> None:
        """Unless another owner has acquired it."""
        assert await self.store.try_acquire(COLD, "a", Deadline(SOON)) is LockOutcome.ACQUIRED
        key = at(record_names.lock(COLD))
        self.send("DEL", key)
        while self.send("GET", key) != b"a":
            await self.turn()
        self.send("SET", key, b"b")
        await self.store.redis.renew(COLD, "a", 3.0, SOON)
        await self.store.redis.release(COLD, "a", SOON)
        assert self.send("GET", key) == b"b"

    async def turn(self) -> None:
        """Wait for an iteration of the reactor."""
        await self.store.memory.released(COLD, 0.01)


class Sharded(TestCase):
    """A Redis Cluster."""

    async def test_the_limits_of_a_token_may_be_on_another_server(self) -> None:
        """They are read beside the records of the key, and so is its epoch."""
        servers = await open_cluster(self, replicas=0)
        store = await open_store(self, cluster_at(self, servers.servers[0]))
        token = next(
            name
            for name in (f"{number:032x}" for number in range(100))
            if servers.owner(slot_of_tag(name.encode()))
            is not servers.owner(slot_of_tag(ALICE.encode()))
        )
        until_ = reactor.seconds() + 100
        reader = await open_store(self, cluster_at(self, servers.servers[0]))
        store.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        store.set_limit(token, Limit(LimitKind.SECONDARY, "core", until_))
        store.set_limit(ALICE, Limit(LimitKind.SECONDARY, "", until_))
        store.replace_epoch(token, EPOCH)
        await settled(store)
        known = await reader.look_up(KEY, ALICE, Deadline(SOON), token=token)
        assert [each.scope for each in known.limits] == ["core"]
        assert (known.grant, known.epoch) == (grant(1.0), EPOCH)
        known = await reader.look_up(KEY, ALICE, Deadline(SOON))
        assert [each.scope for each in known.limits] == [""]
        found = await reader.limits(token, ("", "core", "search"), Deadline(SOON))
        assert [each.scope for each in found] == ["core"]
