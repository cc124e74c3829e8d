"""A store's records are saved and restored; a damaged copy is reported and not deleted."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from ghmirror_tw.snapshots.blocking_threads import BlockingThreads
from ghmirror_tw.snapshots.directory_target import DirectoryTarget, TemporaryFile
from ghmirror_tw.snapshots.snapshot_errors import (
    DamagedError,
    NoSuchSnapshotError,
    OtherServerError,
    TargetError,
    TruncatedError,
)
from ghmirror_tw.snapshots.snapshot_format import BLOCK_BYTES, MAGIC, START, VERSION, Header, Pair
from ghmirror_tw.snapshots.snapshot_names import SnapshotName
from ghmirror_tw.snapshots.snapshot_repository import SnapshotRepository
from ghmirror_tw.snapshots.target_interface import StoredSnapshot
from ghmirror_tw.store.record_kinds import REFUSAL
from ghmirror_tw.store.record_sealing import Codec
from tests.unit.snapshots.test_snapshot_format import written

reactor: Any = global_reactor

PAIRS: list[Pair] = [(b"n%d" % number, os.urandom(999)) for number in range(2000)]


async def batches(pairs: Sequence[Pair], size: int = 100) -> AsyncGenerator[Sequence[Pair]]:
    for at in range(0, len(pairs), size):
        yield pairs[at : at + size]


class Copying(TestCase):
    """Copies in a directory."""

    def setUp(self) -> None:
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        self.directory = Path(made.name)
        self.threads = BlockingThreads(reactor)
        self.threads.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.threads.close()))
        self.target = DirectoryTarget(self.threads, self.directory)
        self.repository = SnapshotRepository(reactor, self.target, largest_bytes=100_000)
        self.logged: list[str] = []
        observer = cast("ILogObserver", self.log)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def log(self, event: LogEvent) -> None:
        if event.get("log_namespace") == "ghmirror.snapshots":
            self.logged.append(formatEvent(event))

    async def save(
        self, owner: str, at_ms: int, pairs: Sequence[Pair] = PAIRS, api_url: str = ""
    ) -> SnapshotName:
        header = Header(owner, "memory", at_ms, api_url=api_url)
        saved = await self.repository.save(header, batches(pairs))
        assert saved is not None
        assert saved.records == len(pairs) - saved.left_out
        assert saved.size_bytes == (self.directory / saved.name.text).stat().st_size
        return saved.name

    async def restored(self, owner: str | None = None) -> list[Pair]:
        whole = await self.repository.newest_usable(owner)
        assert whole is not None
        async with aclosing(self.repository.pairs(whole)) as lists:
            return [pair async for pairs in lists for pair in pairs]

    async def test_saved_records_are_restored(self) -> None:
        """In its order; the newest of one owner, or of anybody."""
        assert await self.repository.newest_usable() is None
        await self.save("a", 1, PAIRS[:1])
        await self.save("b", 2, PAIRS)
        await self.save("a", 3, PAIRS[:2])
        assert await self.restored("b") == PAIRS
        assert await self.restored("a") == await self.restored("c") == PAIRS[:2]
        assert await self.restored() == PAIRS[:2]
        whole = await self.repository.newest_usable("b")
        assert whole is not None
        assert whole.summary.header == Header("b", "memory", 2)
        assert whole.summary.records == len(PAIRS)

    async def test_without_records_nothing_is_written(self) -> None:
        """So that an empty snapshot never precedes a full one."""
        await self.save("a", 1, PAIRS)
        assert await self.repository.save(Header("a", "memory", 2), batches([])) is None
        assert len(list(self.directory.iterdir())) == 1

    def put(self, at_ms: int, pairs: Sequence[Pair], version: int, codec: Codec) -> SnapshotName:
        """Write a file as a mirror with that codec, or one of that version, has written it."""
        header = Header("a", "redis", at_ms, codec.fingerprint)
        raw = written(list(pairs), header)
        if version < VERSION:
            left_out = 1 + (1 + len(codec.fingerprint) if version == 1 else 0)
            old = header.encode()[:-left_out]
            start = START.pack(MAGIC, version, len(old)) + old
            raw = start + raw[START.size + len(header.encode()) :]
            raw = raw[:-32] + hashlib.blake2b(raw[:-32], digest_size=32).digest()
        name = SnapshotName("a", at_ms)
        (self.directory / name.text).write_bytes(raw)
        return name

    async def test_unusable_snapshots_are_skipped(self) -> None:
        """Of another secret, sealed or not, or without records: reported, and older ones tried."""
        ours, other, plain = Codec(b"ours"), Codec(b"other"), Codec()
        self.repository.codec = ours
        record = b"{%s}:w" % (b"0" * 32)
        good = [(record, ours.seal(REFUSAL, record, 1.0))]
        for version in (1, 2, 3):
            name = self.put(1, good, version, ours)
            self.put(2, [(record, other.seal(REFUSAL, record, 1.0))], version, other)
            newest = self.put(3, [(record, plain.seal(REFUSAL, record, 1.0))], version, plain)
            self.put(4, [], version, ours)
            self.logged.clear()
            found = await self.repository.newest_usable()
            assert found is not None
            assert found.stored.name == name
            assert found.summary.header.fingerprint == (None if version == 1 else ours.fingerprint)
            no_records, of_others = self.logged
            assert "it contains no records" in no_records
            assert of_others.startswith(
                f"Snapshots of another mirror are not used: count=2 newest={newest.text}: "
            )
            assert "[cache] credential_secret" in of_others
        self.repository.codec = plain
        found = await self.repository.newest_usable()
        assert found is not None
        assert found.stored.name.at_ms == 3

    async def test_records_of_another_server_are_not_used(self) -> None:
        """By the header; a snapshot of an older version does not name the server, and is used."""
        self.repository.api_url = "https://github.example.org/api/v3"
        ours = await self.save("a", 1, PAIRS[:1], api_url=self.repository.api_url)
        theirs = await self.save("a", 2, PAIRS, api_url="https://api.github.com")
        read: list[SnapshotName] = []
        reading = self.target.read

        def counted(_: Any, name: SnapshotName) -> AsyncGenerator[bytes]:
            read.append(name)
            return reading(name)

        self.patch(DirectoryTarget, "read", counted)
        whole = await self.repository.newest_usable("a")
        assert whole is not None
        assert whole.stored.name == ours
        assert read == [theirs, ours]
        (logged,) = self.logged
        assert logged == (
            f"Snapshots of another mirror are not used: count=1 newest={theirs.text}: its records"
            " are of https://api.github.com, and [github] api_url is"
            " https://github.example.org/api/v3 (at byte 0)"
        )
        with pytest.raises(OtherServerError):
            await self.repository.check_usable(StoredSnapshot(theirs, 0))
        record = b"{%s}:w" % (b"0" * 32)
        self.put(3, [(record, Codec().seal(REFUSAL, record, 1.0))], 2, Codec())
        found = await self.repository.newest_usable("a")
        assert found is not None
        assert found.stored.name.at_ms == 3

    async def test_no_snapshot_is_read_twice(self) -> None:
        """An unusable one of this owner, too, is checked once."""
        (self.directory / SnapshotName("a", 1).text).write_bytes(b"")
        (self.directory / SnapshotName("b", 2).text).write_bytes(b"")
        assert await self.repository.newest_usable("a") is None
        assert len(self.logged) == 2

    async def test_damaged_snapshot_is_skipped(self) -> None:
        """Older ones in turn; each is reported by name, and stays."""
        names = [await self.save("a", at, PAIRS[:at]) for at in range(1, 5)]
        path = self.directory / names[3].text
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)
        (self.directory / names[2].text).write_bytes(b"")
        (self.directory / names[1].text).write_bytes(raw[:-3])
        for at, name in enumerate(names):
            os.utime(self.directory / name.text, (at, at))
        assert await self.restored() == PAIRS[:1]
        wrong = [f"Snapshot not usable: name={name.text}" for name in names[:0:-1]]
        assert [each.partition(" error=it")[0] for each in self.logged] == wrong
        assert len(list(self.directory.iterdir())) == 4

    async def test_no_record_of_a_damaged_snapshot_is_yielded(self) -> None:
        """It is read to its end before its first record is."""
        name = await self.save("a", 1)
        path = self.directory / name.text
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        assert await self.repository.newest_usable() is None

    async def test_snapshot_that_changes_between_the_two_readings(self) -> None:
        """The second reading finds out."""
        name = await self.save("a", 1)
        whole = await self.repository.newest_usable()
        assert whole is not None
        path = self.directory / name.text
        path.write_bytes(path.read_bytes()[:-1] + b"x")

        async def again() -> None:
            async with aclosing(self.repository.pairs(whole)) as lists:
                async for _ in lists:
                    pass

        with pytest.raises(DamagedError):
            await again()
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(TruncatedError):
            await again()
        path.unlink()
        with pytest.raises(NoSuchSnapshotError):
            await again()

    async def test_snapshot_that_is_deleted_during_the_check(self) -> None:
        """A superseded snapshot may be deleted by another replica; the next one is read."""
        await self.save("a", 1, PAIRS[:1])
        listing = self.target.listing

        class Late:
            """Lists what is there no more, as a slow listing does."""

            read = staticmethod(self.target.read)

            @staticmethod
            async def listing() -> tuple[StoredSnapshot, ...]:
                return (StoredSnapshot(SnapshotName("a", 2), 9), *await listing())

        self.repository.target = Late()
        assert await self.restored() == PAIRS[:1]
        assert not self.logged

    async def test_too_large_records_are_logged(self) -> None:
        """The copy is made without it."""
        pairs = [(b"a", bytes(100_000)), (b"b", bytes(99_999))]
        await self.save("a", 1, pairs)
        assert await self.restored() == pairs[1:]
        assert "count=1 larger_than=100000 name=" in self.logged[0]

    async def test_only_snapshots_of_the_owner_are_pruned(self) -> None:
        """The newest ones remain; other owners' all do."""
        for at in range(5):
            for owner in ("a", "a-b"):
                await self.save(owner, at, PAIRS[:1])
        assert await self.repository.prune("a", 2) == 3
        left = [each.name for each in await self.target.listing()]
        assert [name.at_ms for name in left if name.owner == "a"] == [4, 3]
        assert len(left) == 7

    async def test_a_loss_of_most_records_is_reported(self) -> None:
        """The full one stays, beside the newest."""
        for at, pairs in ((1, PAIRS), (2, PAIRS), (3, PAIRS[:9]), (4, PAIRS[:9])):
            name = await self.save("a", at, pairs)
            await self.repository.prune("a", 1)
            if at == 3:
                (logged,) = self.logged
                assert "less than half as large as the one before, which is kept" in logged
                assert f"name={name.text} bytes=" in logged
        assert len(self.logged) == 1
        assert [each.name.at_ms for each in await self.target.listing()] == [4, 2]

    async def test_failure_of_clean_up_is_only_logged(self) -> None:
        """It does not prevent a snapshot; and the deleted ones are reported."""
        cleaned: list[Any] = [2, 0, TargetError("the disk is read-only")]

        class Cleaning:
            @staticmethod
            async def clean() -> int:
                output = cleaned.pop(0)
                if isinstance(output, Exception):
                    raise output
                return int(output)

        self.repository.target = Cleaning()
        for _ in range(3):
            await self.repository.clean()
        assert self.logged == [
            "Unfinished snapshots removed: count=2",
            "Unfinished snapshots not removed: error=the disk is read-only",
        ]

    async def test_source_is_closed_when_saving_fails(self) -> None:
        """The source of the records is closed, so that it releases its resources."""
        closed: list[bool] = []

        async def giving() -> AsyncGenerator[Sequence[Pair]]:
            try:
                while True:
                    yield [(b"x", os.urandom(BLOCK_BYTES // 4))] * 8
            finally:
                closed.append(True)

        self.target.directory = Path("/dev/null")
        with pytest.raises(TargetError):
            await self.repository.save(Header("a", "memory", 1), giving())
        self.target.directory = self.directory

        def full(*_: Any) -> None:
            raise OSError

        self.patch(TemporaryFile, "write", full)

        async def ending() -> AsyncGenerator[Sequence[Pair]]:
            try:
                yield [(b"x", os.urandom(90_000))] * 4
                yield [(b"x", b"y")]
            finally:
                await deferLater(reactor, 0)
                closed.append(True)

        with pytest.raises(TargetError):
            await self.repository.save(Header("a", "memory", 1), ending())
        assert closed == [True, True]
        assert list(self.directory.iterdir()) == []

    async def test_control_returns_to_the_reactor_after_each_block(self) -> None:
        """However little there is to transfer."""
        await self.save("a", 1, [(b"zeros", bytes(90_000))] * 100)
        whole = await self.repository.newest_usable()
        assert whole is not None
        turns: list[int] = []
        turning = LoopingCall(turns.append, 1)
        turning.start(0)
        try:
            async with aclosing(self.repository.pairs(whole)) as lists:
                seen = [len(turns) async for _ in lists]
        finally:
            turning.stop()
        assert len(seen) >= 100 * 90_000 // BLOCK_BYTES
        assert len(set(seen)) == len(seen)
