"""Records are copied and restored, over older ones only, into either store."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.redis_store import redis_archive
from ghmirror_tw.redis_store.redis_archive import RedisArchive
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.store import record_names
from ghmirror_tw.store.memory_archive import MemoryArchive
from ghmirror_tw.store.memory_records_by_name import NamedRecords
from ghmirror_tw.store.memory_store import MemoryStore
from ghmirror_tw.store.record_kinds import ENTRY, GRANT, REFUSAL, REPRESENTATION
from ghmirror_tw.store.record_names import RecordName, parse
from ghmirror_tw.store.record_sealing import VERSION, Codec
from ghmirror_tw.store.store_interface import Deadline, IArchive, Pair
from tests.harness.home import reactor
from tests.harness.redis_servers import start_redis
from tests.harness.redis_stores import SOON, open_store, settled
from tests.unit.store.store_contract import ALICE, BOB, EPOCH, HELD, KEY, OTHER, entry, grant, held

CODEC = Codec(b"secret")
HEX32 = st.text("0123456789abcdef", min_size=32, max_size=32)
HEX40 = st.text("0123456789abcdef", min_size=40, max_size=40)
HEX64 = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = (
    st.builds(RecordName, st.just(REPRESENTATION), HEX40, HEX64)
    | st.builds(RecordName, st.sampled_from([GRANT, REFUSAL]), HEX40, HEX32)
    | st.builds(RecordName, st.just(ENTRY), HEX40)
)


@given(NAMES)
def test_names_are_parsed_and_encoded(name: RecordName) -> None:
    """Each name names one record."""
    assert parse(name.encode()) == name


@given(st.binary(max_size=100))
def test_other_bytes_are_no_name(name: bytes) -> None:
    """No bytes raise an error."""
    assert parse(name) is None or parse(name).encode() == name  # type: ignore[union-attr]


def test_names_of_records_are_parsed() -> None:
    """Those of locks, notes and epochs are not: snapshots leave them out."""
    assert parse(record_names.grant(KEY, ALICE)) == RecordName(GRANT, KEY.name, ALICE)
    assert parse(record_names.refusal(KEY, ALICE)) == RecordName(REFUSAL, KEY.name, ALICE)
    assert parse(record_names.recency_list(KEY)) == RecordName(ENTRY, KEY.name)
    digest = HELD.digest
    name = record_names.representation(KEY, digest)
    assert parse(name) == RecordName(REPRESENTATION, KEY.name, digest)
    assert parse(record_names.unstorable(KEY)) is None
    assert parse(record_names.epoch(ALICE)) is None


class Archives:
    """The rules of `IArchive`; mixed into a test case that makes stores."""

    async def dumped(self, archive: Any) -> list[Pair]:
        assert verifyObject(IArchive, archive)
        pairs: list[Pair] = []
        async with aclosing(archive.dump()) as batches:
            async for batch in batches:
                pairs += batch
        return pairs

    async def fill(self: Any, store: Any) -> None:
        """Store records of each kind."""
        now = reactor.seconds()
        store.store_response(
            KEY, ALICE, HELD, grant(now, principal="alice"), entry(now, link=b"<x>")
        )
        store.store_response(KEY, BOB, OTHER, grant(now, OTHER), entry(now + 1, OTHER))
        store.deny(CacheKey(b"/no"), ALICE, now)
        store.replace_epoch(ALICE, EPOCH)
        await self.settle(store)

    async def test_records_are_copied_and_restored(self: Any) -> None:
        """Each record that permits nothing by itself, into an empty store of either kind."""
        store, archive = await self.make()
        await self.fill(store)
        pairs = await self.dumped(archive)
        sorts = sorted(parse(name).kind.letter for name, _ in pairs)  # type: ignore[union-attr]
        assert sorts == sorted("rgl" * 2)
        for make in (self.make, self.make_memory, self.make_redis):
            other, into = await make()
            assert await into.admit(pairs) == len(pairs)
            assert await into.admit(pairs) == 0
            for credential in (ALICE, BOB):
                before = await store.look_up(KEY, credential, Deadline(SOON), current=True)
                after = await other.look_up(KEY, credential, Deadline(SOON))
                assert before.permits is (credential == ALICE)
                assert after == evolve(before, epoch=None, grant=evolve(before.grant, epoch=None))
            digests = (HELD.digest, OTHER.digest)
            found = await other.fetch(KEY, digests, Deadline(SOON))
            assert found == {HELD.digest: HELD, OTHER.digest: OTHER}

    async def test_newer_records_stay(self: Any) -> None:
        """Later grants, refusals and entries stay, and a refused key stays refused."""
        store, archive = await self.make()
        await self.fill(store)
        pairs = await self.dumped(archive)
        later = reactor.seconds() + 10
        other, into = await self.make()
        other.freshen(KEY, ALICE, grant(later), entry(later, link=b"<new>"))
        other.deny(KEY, BOB, later)
        await self.settle(other)
        await into.admit(pairs)
        known = await other.look_up(KEY, ALICE, Deadline(SOON))
        assert known.grant == grant(later)
        assert [each.link for each in known.entries if each.digest == HELD.digest] == [b"<new>"]
        assert (await other.look_up(KEY, BOB, Deadline(SOON))).grant is None

    async def test_records_of_other_secrets_are_left_out(self: Any) -> None:
        """So are garbage, other versions, other names, and expired records."""
        name = record_names.grant(KEY, ALICE)
        good = CODEC.seal(GRANT, name, grant(reactor.seconds()))
        content = record_names.representation(KEY, HELD.digest)
        pairs = [
            (name, b"garbage"),
            (name, Codec(b"other").seal(GRANT, name, grant(reactor.seconds()))),
            (name, good[:1] + bytes([VERSION + 1]) + good[2:]),
            (record_names.grant(KEY, BOB), good),
            (b"{}:g:x", good),
            (name, CODEC.seal(GRANT, name, grant(1.0, expires_at=2.0))),
            (content, b"garbage"),
            (
                record_names.representation(KEY, OTHER.digest),
                CODEC.seal(REPRESENTATION, content, HELD),
            ),
            (record_names.recency_list(KEY), b"garbage"),
            (
                record_names.refusal(KEY, ALICE),
                CODEC.seal(REFUSAL, record_names.refusal(KEY, ALICE), 1.0),
            ),
        ]
        _, into = await self.make()
        assert await into.admit(pairs) == 0

    async def test_a_filled_store_has_a_mark(self: Any) -> None:
        """The mark is lost with the records."""
        _, archive = await self.make()
        assert not await archive.mark()
        assert await archive.mark() is None
        await archive.mark_filled()
        assert await archive.mark()
        mark = await archive.mark()
        assert mark is not None
        assert await archive.mark() == mark
        await archive.mark_filled()
        assert await archive.mark() not in {None, mark}
        _, another = await self.make()
        assert not await another.mark()

    async def test_large_stores_are_copied_in_batches(self: Any) -> None:
        """The records used last are first, and none is missing."""
        self.patch(redis_archive, "_SORTED_AT_ONCE", 300)
        store, archive = await self.make()
        count = 700
        for number in range(count):
            made = held(b"[%d]" % number)
            key = CacheKey(b"/%d" % number)
            store.store_response(
                key, ALICE, made, grant(1e9 + number, made), entry(number + 1.0, made)
            )
        await self.settle(store)
        pairs = await self.dumped(archive)
        contents = [name for name, _ in pairs if parse(name).kind is REPRESENTATION]  # type: ignore[union-attr]
        expected = [
            record_names.representation(CacheKey(b"/%d" % number), held(b"[%d]" % number).digest)
            for number in reversed(range(count))
        ]
        assert contents == expected
        assert len(set(pairs)) == len(pairs) == 3 * count


class Stores(TestCase):
    """Makes stores of both kinds."""

    async def make_memory(self) -> tuple[Any, Any]:
        store = MemoryStore(reactor, 10_000_000)
        threads = ContentThreads(reactor)
        threads.open()
        self.addCleanup(threads.close)
        return store, MemoryArchive(reactor, NamedRecords(store.records), CODEC, threads)

    async def make_redis(self) -> tuple[Any, Any]:
        store = await open_store(self, start_redis(self).address)
        return store, RedisArchive(store.redis)


class Memory(Archives, Stores):
    """The memory store."""

    async def make(self) -> tuple[Any, Any]:
        return await self.make_memory()

    async def settle(self, store: Any) -> None:
        """Memory has no writes in flight."""

    async def test_a_full_store_evicts_restored_records_first(self) -> None:
        """Records that are in use stay."""
        store, archive = await self.make_memory()
        await self.fill(store)
        pairs = await self.dumped(archive)
        store = MemoryStore(reactor, 10_000)
        for number in range(20):
            made = held(b"[%d]" % number)
            key = CacheKey(b"/%d" % number)
            store.store_response(key, ALICE, made, grant(1.0, made), entry(of=made))
        records = NamedRecords(store.records)
        into = MemoryArchive(reactor, records, CODEC, archive.threads)
        newest = records.names()[0]
        await into.admit(pairs)
        assert store.records.size <= 10_000
        assert records.names()[0] == newest


class Redis(Archives, Stores):
    """The store in Redis."""

    async def make(self) -> tuple[Any, Any]:
        return await self.make_redis()

    async def settle(self, store: Any) -> None:
        await settled(store)

    async def test_one_replica_holds_a_lease(self) -> None:
        """One lease is for copying, one for restoring; each expires."""
        store, archive = await self.make_redis()
        other = RedisArchive(store.redis)
        assert await archive.acquire_lease("save", "a", 60.0)
        assert await archive.acquire_lease("save", "a", 60.0)
        assert not await other.acquire_lease("save", "b", 60.0)
        assert await other.acquire_lease("restore", "b", 60.0)
        await other.release_lease("save", "b")
        assert not await other.acquire_lease("save", "b", 60.0)
        await archive.release_lease("save", "a")
        assert await other.acquire_lease("save", "b", 0.001)
        while not await archive.acquire_lease("save", "a", 60.0):
            pass

    async def test_fleets_do_not_share_marks_and_leases(self) -> None:
        """Mirrors of another server or secret have their own."""
        store, archive = await self.make_redis()
        assert await archive.filled_by_others() is None
        await archive.mark_filled()
        mark = await archive.mark()
        assert await archive.filled_by_others() is None
        assert await archive.acquire_lease("save", "a", 60.0)
        other = RedisArchive(store.redis, "https://github.example.org/api/v3")
        assert not await other.mark()
        others = await other.filled_by_others()
        assert others == f"api_url= fingerprint={CODEC.fingerprint}"
        assert await other.acquire_lease("save", "b", 60.0)
        await other.mark_filled()
        assert await archive.mark() == mark
        store.redis.codec = Codec(b"another")
        assert not await archive.mark()

    async def test_each_key_expires(self) -> None:
        """So do restored records, and the mark."""
        server = start_redis(self)
        store = await open_store(self, server.address)
        await self.fill(store)
        pairs = await self.dumped(RedisArchive(store.redis))
        server.send("FLUSHALL")
        archive = RedisArchive(store.redis)
        await archive.admit(pairs)
        await archive.mark_filled()
        await archive.acquire_lease("save", "a", 60.0)
        keys = server.send("KEYS", "*")
        assert len(keys) > len(pairs)
        assert all(server.send("PTTL", key) > 0 for key in keys)
