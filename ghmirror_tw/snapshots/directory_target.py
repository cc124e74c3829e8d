"""Snapshots in a directory: temporary files that are renamed when they are whole."""

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
from ghmirror_tw.snapshots.snapshot_names import (
    CHUNK_BYTES,
    LEFTOVER_S,
    SnapshotName,
    Stored,
    newest_first,
)
from ghmirror_tw.snapshots.target_interface import ITarget

P = ParamSpec("P")
R = TypeVar("R")

_log: Final = Logger(namespace="ghmirror.snapshots")

#: The disk is full, or the user's part of it.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_TEMPORARY: Final = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{32}\.tmp", re.ASCII)


@implementer(ITarget)
@define(eq=False)
class DirectoryTarget:
    """Keeps snapshots as files that only their owner can read; all file IO is done by *workers*."""

    workers: BlockingThreads
    directory: Path
    now: Callable[[], float] = field(default=time.time)

    @property
    def where(self) -> str:
        """What logs call it."""
        return self.directory.as_uri()

    async def listing(self) -> tuple[Stored, ...]:
        """Return what is there; a directory that isn't there yet holds nothing."""
        return await self._run("listed", self._list)

    async def write(self, name: SnapshotName, chunks: AsyncIterator[bytes]) -> int:
        """Write a temporary file, have the disk keep it, and rename it."""
        writing = _Writing(self.directory, name.text)
        try:
            await self._run("written to", writing.begin)
            async for chunk in chunks:
                await self._run("written to", writing.write, chunk)
            return await self._run("written to", writing.finish)
        except Exception:
            await self._discard(writing)
            raise

    async def read(self, name: SnapshotName) -> AsyncGenerator[bytes]:
        """Give a file in chunks."""
        # What a thread has opened is closed, even if nobody waits for it any more by then.
        opened: list[IO[bytes]] = []
        try:
            await self._run("read", lambda: opened.append(self._open(name)))
            while chunk := await self._run("read", opened[0].read, CHUNK_BYTES):
                yield chunk
        finally:
            for file in opened:
                await self.workers.run(file.close)

    async def delete(self, name: SnapshotName) -> None:
        """Unlink a file."""
        await self._run("cleaned up", self._path(name).unlink, missing_ok=True)

    async def clean(self) -> int:
        """Unlink the old temporary files of ours."""
        return await self._run("cleaned up", self._clean)

    async def _discard(self, writing: _Writing) -> None:
        try:
            await self._run("cleaned up", writing.discard)
        except TargetError as error:
            _log.warn("{error}; it is tried again after a day", error=str(error))

    async def _run(self, tried: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await self.workers.run(work, *args, **kwargs)
        except OSError as error:
            text = f"{self.where} can't be {tried}: {error.strerror or type(error).__name__}"
            if error.errno in _FULL:
                raise FullTargetError(text) from None
            permanent = isinstance(error, PermissionError | NotADirectoryError)
            raise (PermanentTargetError if permanent else TargetError)(text) from None

    def _path(self, name: SnapshotName) -> Path:
        return self.directory / name.text

    # In a thread.

    def _entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the regular files that are there, ours or root's, and did not vanish meanwhile.

        What somebody else has put there, as anybody can in some directories, is not believed.
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

    def _list(self) -> tuple[Stored, ...]:
        found = [(SnapshotName.parse(name), status) for name, status in self._entries()]
        return newest_first(
            [
                Stored(name, status.st_size, status.st_mtime)
                for name, status in found
                if name is not None
            ]
        )

    def _open(self, name: SnapshotName) -> IO[bytes]:
        try:
            return self._path(name).open("rb")
        except FileNotFoundError:
            raise NoSuchSnapshotError(f"{self.where}: there is no {name.text}") from None

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
class _Writing:
    """One file on its way; all of it runs in threads, one call at a time."""

    directory: Path
    name: str
    size: int = 0
    _file: IO[bytes] | None = None
    _temporary: Path | None = None
    _renamed: bool = False

    def begin(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._temporary = self.directory / f".{self.name}.{uuid.uuid4().hex}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._file = os.fdopen(os.open(self._temporary, flags, 0o600), "wb")

    def write(self, chunk: bytes) -> None:
        self._opened.write(chunk)
        self.size += len(chunk)

    def finish(self) -> int:
        self._opened.flush()
        os.fsync(self._opened.fileno())
        self._opened.close()
        assert self._temporary is not None
        self._temporary.replace(self.directory / self.name)
        self._renamed = True
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return self.size

    def discard(self) -> None:
        """Leave nothing, however far it has come."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what could not be flushed is not wanted any more
                self._file.close()
        for path, made in (
            (self._temporary, self._temporary is not None),
            (self.directory / self.name, self._renamed),
        ):
            if made and path is not None:
                path.unlink(missing_ok=True)

    @property
    def _opened(self) -> Any:
        assert self._file is not None
        return self._file
