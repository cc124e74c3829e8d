"""Snapshots in a directory: temporary files that are renamed when they are complete."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, ParamSpec, TypeVar

from attrs import define, field
from twisted.logger import Logger
from zope.interface import implementer

from ghmirror_tw.snapshots.blocking_threads import BlockingThreads
from ghmirror_tw.snapshots.snapshot_errors import (
    FullTargetError,
    NoSuchSnapshotError,
    PermanentTargetError,
    TargetError,
)
from ghmirror_tw.snapshots.snapshot_names import SnapshotName
from ghmirror_tw.snapshots.target_interface import (
    CHUNK_BYTES,
    LEFTOVER_S,
    ITarget,
    StoredSnapshot,
    newest_first,
)

P = ParamSpec("P")
R = TypeVar("R")

_log: Final = Logger(namespace="ghmirror.snapshots")

#: The disk or the user's quota is full.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_TEMPORARY: Final = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{32}\.tmp", re.ASCII)


@implementer(ITarget)
@define(eq=False)
class DirectoryTarget:
    """Snapshots as files that only their owner can read; all file IO is done in *threads*."""

    threads: BlockingThreads
    directory: Path
    now: Callable[[], float] = field(default=time.time)

    @property
    def where(self) -> str:
        """The URL of the directory."""
        return self.directory.as_uri()

    async def listing(self) -> tuple[StoredSnapshot, ...]:
        """Return the snapshots, newest first; a missing directory has none."""
        return await self._run("listed", self._list)

    async def write(self, name: SnapshotName, chunks: AsyncIterator[bytes]) -> int:
        """Write a temporary file, flush it to disk, and rename it."""
        writing = TemporaryFile(self.directory, name.text)
        try:
            await self._run("written to", writing.begin)
            async for chunk in chunks:
                await self._run("written to", writing.write, chunk)
            return await self._run("written to", writing.finish)
        except Exception:
            await self._discard(writing)
            raise

    async def read(self, name: SnapshotName) -> AsyncGenerator[bytes]:
        """Yield the content of a file in chunks."""
        # A file that a thread has opened is closed even if this was cancelled meanwhile.
        opened: list[IO[bytes]] = []
        try:
            await self._run("read", lambda: opened.append(self._open(name)))
            while chunk := await self._run("read", opened[0].read, CHUNK_BYTES):
                yield chunk
        finally:
            for file in opened:
                await self.threads.run(file.close)

    async def delete(self, name: SnapshotName) -> None:
        """Unlink a file."""
        await self._run("cleaned up", self._path(name).unlink, missing_ok=True)

    async def clean(self) -> int:
        """Unlink old temporary files of the mirror."""
        return await self._run("cleaned up", self._clean)

    async def _discard(self, writing: TemporaryFile) -> None:
        try:
            await self._run("cleaned up", writing.discard)
        except TargetError as error:
            _log.warn(
                "Unfinished snapshot not removed, will be retried after a day: error={error}",
                error=str(error),
            )

    async def _run(self, tried: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await self.threads.run(work, *args, **kwargs)
        except OSError as error:
            text = f"{self.where} cannot be {tried}: {error.strerror or type(error).__name__}"
            if error.errno in _FULL:
                raise FullTargetError(text) from None
            permanent = isinstance(error, PermissionError | NotADirectoryError)
            raise (PermanentTargetError if permanent else TargetError)(text) from None

    def _path(self, name: SnapshotName) -> Path:
        return self.directory / name.text

    # In a thread.

    def _entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the regular files that belong to this user or root.

        Files of other users are not trusted: some directories are writable for all users.
        """
        owners = {0, os.geteuid()}
        try:
            entries = os.scandir(self.directory)
        except FileNotFoundError:
            return
        with entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_uid in owners:
                        yield entry.name, status

    def _list(self) -> tuple[StoredSnapshot, ...]:
        found = [(SnapshotName.parse(name), status) for name, status in self._entries()]
        return newest_first(
            [
                StoredSnapshot(name, status.st_size, status.st_mtime)
                for name, status in found
                if name is not None
            ]
        )

    def _open(self, name: SnapshotName) -> IO[bytes]:
        try:
            return self._path(name).open("rb")
        except FileNotFoundError:
            raise NoSuchSnapshotError(f"{self.where}: {name.text} does not exist") from None

    def _clean(self) -> int:
        removed = 0
        for name, status in self._entries():
            match = _TEMPORARY.fullmatch(name)
            ours = match is not None and SnapshotName.parse(match["name"]) is not None
            if ours and self.now() - status.st_mtime > LEFTOVER_S:
                (self.directory / name).unlink(missing_ok=True)
                removed += 1
        return removed


@define(eq=False)
class TemporaryFile:
    """A snapshot that is being written; its methods run in threads, one call at a time."""

    directory: Path
    name: str
    size: int = 0
    _file: IO[bytes] | None = None
    _path: Path | None = None
    _renamed: bool = False

    def begin(self) -> None:
        """Create the file."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = self.directory / f".{self.name}.{uuid.uuid4().hex}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._file = os.fdopen(os.open(self._path, flags, 0o600), "wb")

    def write(self, chunk: bytes) -> None:
        """Append *chunk*."""
        self.opened.write(chunk)
        self.size += len(chunk)

    def finish(self) -> int:
        """Flush the file to disk and rename it; return its size in bytes."""
        self.opened.flush()
        os.fsync(self.opened.fileno())
        self.opened.close()
        assert self._path is not None
        self._path.replace(self.directory / self.name)
        self._renamed = True
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return self.size

    def discard(self) -> None:
        """Remove the file, whether it was renamed or not."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a failing flush does not matter here
                self._file.close()
        for path, made in (
            (self._path, self._path is not None),
            (self.directory / self.name, self._renamed),
        ):
            if made and path is not None:
                path.unlink(missing_ok=True)

    @property
    def opened(self) -> Any:
        """The open file."""
        assert self._file is not None
        return self._file
