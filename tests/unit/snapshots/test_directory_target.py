"""Snapshots in a directory: whole or not at all, and nothing else is touched."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from ghmirror_tw.snapshots.blocking_threads import BlockingThreads
from ghmirror_tw.snapshots.directory_target import DirectoryTarget, TemporaryFile
from ghmirror_tw.snapshots.snapshot_errors import NoSuchSnapshotError, TargetError
from ghmirror_tw.snapshots.snapshot_names import SnapshotName
from ghmirror_tw.snapshots.target_interface import CHUNK_BYTES, LEFTOVER_S, ITarget
from tests.harness.running import ROOT

reactor: Any = global_reactor

NAME = SnapshotName("replica-1", 1_795_598_400_123)
CONTENT = os.urandom(3 * CHUNK_BYTES + 17)


async def chunks(content: bytes, size: int = 100_000) -> AsyncGenerator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def content_of(target: DirectoryTarget, name: SnapshotName = NAME) -> bytes:
    async with aclosing(target.read(name)) as read:
        return b"".join([chunk async for chunk in read])


def kill_while_it_writes(directory: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from ghmirror_tw.snapshots.directory_target import TemporaryFile\n"
        "writing = TemporaryFile(pathlib.Path(sys.argv[1]), sys.argv[2])\n"
        "writing.begin(); writing.write(bytes(10**6)); print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(directory), NAME.text],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        process.kill()


class Directory(TestCase):
    """A directory, and threads."""

    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp(dir=self.mktemp_parent()))
        self.threads = BlockingThreads(reactor)
        self.threads.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.threads.close()))
        self.target = DirectoryTarget(self.threads, self.base / "a" / "b")

    def mktemp_parent(self) -> str:
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        return made.name

    def files(self) -> list[str]:
        return sorted(path.name for path in self.target.directory.iterdir())

    @staticmethod
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def test_order_is_by_the_time_of_the_file(self) -> None:
        """The time in the name is by the clock of the replica that made it."""
        ahead = SnapshotName("a", 9_000_000)
        for name, at in ((ahead, 1), (SnapshotName("a", 5), 2)):
            await self.target.write(name, chunks(b"x"))
            os.utime(self.target.directory / name.text, (at, at))
        assert [each.written_at for each in await self.target.listing()] == [2.0, 1.0]
        assert (await self.target.listing())[1].name == ahead

    async def test_target_provides_the_interface(self) -> None:
        """It does all that a target does."""
        assert verifyObject(ITarget, self.target)
        assert self.target.where == self.target.directory.as_uri()

    async def test_written_snapshot_is_stored(self) -> None:
        """In a directory that is made, in a file that only we can read, in chunks."""
        assert await self.target.listing() == ()
        assert await self.target.clean() == 0
        for at, content in enumerate((CONTENT, b"")):
            name = SnapshotName("o", at)
            assert await self.target.write(name, chunks(content)) == len(content)
            assert await content_of(self.target, name) == content
            assert stat.S_IMODE((self.target.directory / name.text).stat().st_mode) == 0o600
        assert [each.size_bytes for each in await self.target.listing()] == [0, len(CONTENT)]
        assert stat.S_IMODE(self.target.directory.stat().st_mode) == 0o700
        async with aclosing(self.target.read(SnapshotName("o", 0))) as read:
            assert all([0 < len(chunk) <= CHUNK_BYTES async for chunk in read])

    async def test_files_of_other_users_are_ignored(self) -> None:
        """In a directory that anybody can write to, only our files are snapshots, and root's."""
        await self.target.write(NAME, chunks(CONTENT))
        path = self.target.directory / NAME.text
        owner = path.stat()

        def by(user: int) -> None:
            self.patch(os, "geteuid", lambda: user)

        by(owner.st_uid)
        assert [each.name for each in await self.target.listing()] == [NAME]
        by(owner.st_uid + 1)
        expected = [NAME] if owner.st_uid == 0 else []
        assert [each.name for each in await self.target.listing()] == expected
        if owner.st_uid == 0:
            os.chown(path, 12345, 12345)
            assert await self.target.listing() == ()

    async def test_snapshot_is_listed_only_when_complete(self) -> None:
        """While it is written it is not there, under no name that is ours."""
        waits: Deferred[bytes] = Deferred()
        reached: Deferred[None] = Deferred()

        async def slow() -> AsyncGenerator[bytes]:
            yield CONTENT
            reached.callback(None)
            yield await waits

        writing = Deferred.fromCoroutine(self.target.write(NAME, slow()))
        await reached
        (temporary,) = self.files()
        assert temporary.startswith(f".{NAME.text}.")
        assert temporary.endswith(".tmp")
        assert await self.target.listing() == ()
        waits.callback(b"end")
        await writing
        assert self.files() == [NAME.text]

    async def test_file_is_flushed_before_it_is_renamed(self) -> None:
        """The file is synchronised before it is renamed, the directory afterwards."""
        done: list[str] = []
        sync, replace = os.fsync, Path.replace

        def fsync(descriptor: int) -> None:
            is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            done.append("sync directory" if is_directory else "sync file")
            sync(descriptor)

        def renamed(path: Path, to: Path) -> Path:
            done.append("rename")
            return replace(path, to)

        self.patch(os, "fsync", fsync)
        self.patch(Path, "replace", renamed)
        await self.target.write(NAME, chunks(CONTENT))
        assert done == ["sync file", "rename", "sync directory"]

    async def test_files_are_accessed_only_in_threads(self) -> None:
        """A disk may be slow: the reactor never waits for one."""
        reactors = threading.get_ident()
        seen: list[str] = []

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            base = str(self.base)
            if watching and any(str(each).startswith(base) for each in arguments):
                seen.append(event)
                assert threading.get_ident() != reactors, event

        watching = True
        sys.addaudithook(audit)
        try:
            await self.target.write(NAME, chunks(CONTENT))
            await content_of(self.target)
            await self.target.listing()
            await self.target.clean()
            await self.target.delete(NAME)
        finally:
            watching = False
        assert {"open", "os.rename", "os.scandir", "os.remove", "os.mkdir"} <= set(seen)

    async def test_failed_write_leaves_no_file(self) -> None:
        """Of the disk at any step, of the source of the content, or by cancellation."""

        async def failing() -> AsyncGenerator[bytes]:
            yield CONTENT
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await self.target.write(NAME, failing())
        assert self.files() == []

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        for owner, name in ((os, "fsync"), (Path, "replace")):
            patch = self.patch(owner, name, full)
            with pytest.raises(TargetError, match="cannot be written to: No space left on device"):
                await self.target.write(NAME, chunks(CONTENT))
            patch.restore()
            assert self.files() == []

    async def test_clean_up_may_fail(self) -> None:
        """The first error is raised; later ones are logged."""

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def stuck(writing: TemporaryFile) -> None:
            writing.opened.close()
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        self.patch(os, "fsync", full)
        patch = self.patch(TemporaryFile, "discard", stuck)
        with pytest.raises(TargetError, match="No space left on device"):
            await self.target.write(NAME, chunks(CONTENT))
        patch.restore()
        assert await self.target.listing() == ()
        assert len(self.files()) == 1
        self.target.now = lambda: time.time() + LEFTOVER_S + 1
        assert await self.target.clean() == 1
        assert self.files() == []

    async def test_cancelled_write_leaves_nothing(self) -> None:
        """While content is awaited, and while the disk is written to, even once it is renamed."""
        reached: Deferred[None] = Deferred()

        async def slow() -> AsyncGenerator[bytes]:
            yield CONTENT
            reactor.callLater(0, reached.callback, None)  # not from within what is cancelled
            await Deferred()

        writing = Deferred.fromCoroutine(self.target.write(NAME, slow()))
        await reached
        writing.cancel()
        with pytest.raises(CancelledError):
            await writing
        assert self.files() == []

        sync = os.fsync
        go = threading.Event()
        syncing: Deferred[None] = Deferred()

        def fsync(descriptor: int) -> None:
            sync(descriptor)
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                reactor.callFromThread(syncing.callback, None)
                go.wait()

        self.patch(os, "fsync", fsync)
        writing = Deferred.fromCoroutine(self.target.write(NAME, chunks(CONTENT)))
        await syncing
        assert self.files() == [NAME.text]
        writing.cancel()
        go.set()
        with pytest.raises(CancelledError):
            await writing
        assert self.files() == []

    async def test_files_of_a_crash_are_removed_later(self) -> None:
        """A process that is killed while it writes leaves no snapshot; its rest is deleted."""
        kill_while_it_writes(self.target.directory)
        (left,) = self.files()
        assert await self.target.listing() == ()
        assert await self.target.clean() == 0
        assert self.files() == [left]
        self.target.now = lambda: time.time() + LEFTOVER_S + 1
        assert await self.target.clean() == 1
        assert self.files() == []

    async def test_other_files_are_not_changed(self) -> None:
        """Other files, directories and links, however they are called and however old."""
        directory = self.target.directory
        directory.mkdir(parents=True)
        others = ["readme", f"{NAME.text}.bak", f".{NAME.text}.tmp", f".other.{'0' * 32}.tmp"]
        for name in others:
            (directory / name).touch()
        (directory / SnapshotName("dir", 1).text).mkdir()
        (directory / SnapshotName("link", 1).text).symlink_to("readme")
        (directory / f".{NAME.text}.{'a' * 32}.tmp").mkdir()
        before = self.files()
        self.target.now = lambda: time.time() + 2 * LEFTOVER_S
        assert await self.target.listing() == ()
        assert await self.target.clean() == 0
        assert self.files() == before

    async def test_missing_snapshot(self) -> None:
        """Reading it is an error of its own, deleting it is none."""
        with pytest.raises(NoSuchSnapshotError, match=NAME.text):
            await content_of(self.target)
        await self.target.delete(NAME)

    async def test_path_that_is_not_a_directory(self) -> None:
        """The message has the path and the error of the system."""
        self.target.directory = Path("/dev/null/x")
        with pytest.raises(TargetError, match="file:///dev/null/x cannot be written to: Not a dir"):
            await self.target.write(NAME, chunks(CONTENT))
        self.target.directory = Path("/dev/null")
        with pytest.raises(TargetError, match="file:///dev/null cannot be listed: Not a directory"):
            await self.target.listing()

    async def test_a_reader_may_stop(self) -> None:
        """Its open files are closed."""
        await self.target.write(NAME, chunks(CONTENT))
        before = self.open_files()
        async with aclosing(self.target.read(NAME)) as read:
            await anext(read)
            assert self.open_files() == before + 1
        assert self.open_files() == before
