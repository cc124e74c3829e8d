"""The target, the store and the output that the snapshot commands work with."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from ghmirror_tw.cli.command_errors import CommandError, Status
from ghmirror_tw.cli.command_runner import command_errors, run_in_reactor
from ghmirror_tw.cli.output import Output
from ghmirror_tw.cli.progress import Progress
from ghmirror_tw.config.settings import Settings
from ghmirror_tw.config.settings_loader import read_settings
from ghmirror_tw.redis_store.redis_archive import RedisArchive
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.snapshots.snapshot_names import SnapshotName
from ghmirror_tw.snapshots.snapshot_repository import SnapshotRepository
from ghmirror_tw.snapshots.target_interface import ITarget, StoredSnapshot
from ghmirror_tw.store.store_interface import Pair
from ghmirror_tw.wiring.redis_parts import build_redis_records, build_redis_trust
from ghmirror_tw.wiring.snapshot_parts import TargetAccess, build_codec, server_of

#: The least timeout of Redis: a command can wait longer than a request, in seconds.
_MIN_TIMEOUT_S: Final = 2.5


@implementer(ITarget)
@define(eq=False)
class MeteredTarget:
    """A target that shows the progress of reads and writes; *task* describes them."""

    target: Any
    progress: Progress
    task: str = ""
    _sizes: dict[SnapshotName, int] = field(init=False, factory=dict)

    @property
    def where(self) -> str:
        """The name of the target."""
        where: str = self.target.where
        return where

    async def listing(self) -> tuple[StoredSnapshot, ...]:
        """Return the snapshots, newest first."""
        listed: tuple[StoredSnapshot, ...] = await self.target.listing()
        self._sizes = {each.name: each.size_bytes for each in listed}
        return listed

    async def write(self, name: SnapshotName, chunks: AsyncIterator[bytes]) -> int:
        """Write a snapshot, and show the bytes written."""
        self.progress.begin(self.task or f"Writing {name.text}", None)
        try:
            written: int = await self.target.write(name, self._metered(chunks))
        finally:
            self.progress.end()
        return written

    async def _metered(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        async for chunk in chunks:
            self.progress.advance(len(chunk))
            yield chunk

    async def read(self, name: SnapshotName) -> AsyncGenerator[bytes]:
        """Read a snapshot, and show the bytes read."""
        self.progress.begin(self.task or f"Reading {name.text}", self._sizes.get(name))
        try:
            async with aclosing(self.target.read(name)) as chunks:
                async for chunk in chunks:
                    self.progress.advance(len(chunk))
                    yield chunk
        finally:
            self.progress.end()

    async def delete(self, name: SnapshotName) -> None:
        """Delete a snapshot."""
        await self.target.delete(name)

    async def clean(self) -> int:
        """Remove the files of interrupted writes."""
        removed: int = await self.target.clean()
        return removed


@define(eq=False)
class MeteredArchive(RedisArchive):
    """The records in Redis; it shows how many were read."""

    progress: Progress = field(kw_only=True)

    async def dump(self) -> AsyncGenerator[list[Pair]]:
        """Yield all records, and count them."""
        async with aclosing(RedisArchive.dump(self)) as batches:
            async for pairs in batches:
                self.progress.count(len(pairs))
                yield pairs


@define(eq=False)
class SnapshotContext:
    """The target, the store and the output of a command; *replica* is its name in leases."""

    reactor: Any
    settings: Settings
    out: Output
    access: TargetAccess
    target: MeteredTarget = field(init=False)
    repository: SnapshotRepository = field(init=False)
    replica: str = field(init=False, factory=lambda: f"command-{uuid4().hex}")
    now: Callable[[], float] = time.time

    def __attrs_post_init__(self) -> None:
        self.target = MeteredTarget(self.access.repository.target, self.out.progress)
        self.repository = SnapshotRepository(
            self.reactor, self.target, self.access.codec, api_url=self.access.api_url
        )

    async def listing(self) -> tuple[StoredSnapshot, ...]:
        """Return the snapshots at the target, newest first; a missing directory is an error."""
        directory = self.settings.snapshot.directory
        if directory is not None and await self.access.threads.run(_is_missing, directory):
            text = f"{self.target.where}: there is no such directory; the first snapshot creates it"
            raise CommandError("target", text, Status.UNREACHABLE)
        return await self.target.listing()

    async def find(self, text: str) -> StoredSnapshot:
        """Return the snapshot with the name *text*."""
        name = _name(text)
        for stored in await self.listing():
            if stored.name == name:
                return stored
        raise CommandError("no-such-snapshot", f"{self.target.where}: there is no {text}")

    @asynccontextmanager
    async def archive(self) -> AsyncGenerator[MeteredArchive]:
        """Yield the records in Redis, after its state is known."""
        settings = self.settings
        redis = settings.redis
        relaxed = evolve(
            settings,
            redis=evolve(redis, timeout=max(redis.timeout, _MIN_TIMEOUT_S), pool_size=1),
        )
        threads = ContentThreads(self.reactor)
        trust = build_redis_trust(redis)
        records = build_redis_records(
            self.reactor, relaxed, self.access.codec, threads, trust, lambda: None
        )
        threads.open()
        records.servers.open()
        try:
            await records.servers.settled()
            yield MeteredArchive(records, server_of(settings), progress=self.out.progress)
        finally:
            await records.servers.close()
            threads.close()


def _is_missing(directory: Path) -> bool:
    try:
        directory.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False  # the listing reports the error
    return False


def _name(text: str) -> SnapshotName:
    name = SnapshotName.parse(text)
    if name is None:
        known = "ghmirror-OWNER-YYYYMMDDTHHMMSS.mmmZ.snap"
        raise CommandError("usage", f"{text!r} is not a name; expected {known}", Status.USAGE)
    return name


@asynccontextmanager
async def open_context(
    reactor: Any, settings: Settings, out: Output
) -> AsyncGenerator[SnapshotContext]:
    """Yield the context of a command, and close its parts at the end."""
    access = TargetAccess(reactor, settings.snapshot, build_codec(settings), server_of(settings))
    access.open()
    try:
        yield SnapshotContext(reactor, settings, out, access)
    finally:
        await access.close()


def run_with_context(
    path: str | None,
    out: Output,
    command: Callable[[SnapshotContext], Coroutine[Deferred[Any], Any, Status]],
) -> Status:
    """Run a snapshot command with the configuration at *path*. Raises `CommandError`."""
    with command_errors(out):
        settings = read_settings(path)
        if not settings.snapshot.target:
            text = "[snapshot] target: it is empty; expected a directory or bucket for snapshots"
            raise CommandError("no-target", text, Status.USAGE)

        async def work(reactor: Any) -> Status:
            async with open_context(reactor, settings, out) as context:
                return await command(context)

        return run_in_reactor(work, out)
