"""What a command works with: the target of snapshots and the store, as they are set up."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from attrs import define, evolve, field

from ghmirror_tw.cli.exit_status import CommandError, Status
from ghmirror_tw.cli.metered_target import MeteredArchive, MeteredTarget
from ghmirror_tw.cli.output import Output
from ghmirror_tw.config.option import ConfigError
from ghmirror_tw.config.settings import Settings
from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.snapshots.lease import LeaseLostError
from ghmirror_tw.snapshots.snapshot_errors import (
    DamagedError,
    EmptySnapshotError,
    NewerVersionError,
    NoRecordsError,
    NoSuchSnapshotError,
    NotASnapshotError,
    OtherSecretError,
    OtherServerError,
    RecordTooLargeError,
    SnapshotError,
    StoreEmptiedError,
    TargetError,
    TruncatedError,
)
from ghmirror_tw.snapshots.snapshot_names import SnapshotName, StoredSnapshot
from ghmirror_tw.snapshots.snapshot_repository import SnapshotRepository
from ghmirror_tw.telemetry.logs import scrub
from ghmirror_tw.wiring.redis_parts import build_redis_records, build_redis_trust
from ghmirror_tw.wiring.snapshot_parts import TargetAccess, build_codec, server_of

#: A client's request can't wait for long, an operator can, in seconds.
_LEAST_TIMEOUT_S: Final = 2.5

_WORDS: Final = {
    EmptySnapshotError: "empty",
    NotASnapshotError: "not-a-snapshot",
    NewerVersionError: "newer-version",
    TruncatedError: "truncated",
    DamagedError: "damaged",
    RecordTooLargeError: "record-too-large",
    NoRecordsError: "no-records",
    OtherSecretError: "other-secret",
    OtherServerError: "other-server",
}


def word_for(error: SnapshotError) -> str:
    """Return what is wrong with a snapshot in a word for scripts."""
    return _WORDS.get(type(error), "damaged")


#: What is told of the errors of the parts; of a class's, the first one counts.
_TOLD: Final[tuple[tuple[type[Exception], str, Status], ...]] = (
    (ConfigError, "configuration", Status.USAGE),
    (NoSuchSnapshotError, "no-such-snapshot", Status.FAULT),
    (TargetError, "target", Status.UNREACHABLE),
    (RedisUnavailableError, "store", Status.UNREACHABLE),
    (LeaseLostError, "lease", Status.FAULT),
    (StoreEmptiedError, "emptied", Status.FAULT),
)


def explained(error: Exception) -> CommandError:
    """Return what is told of an error; one that nobody has thought of is a fault of ours."""
    if isinstance(error, CommandError):
        return error
    if isinstance(error, SnapshotError):
        return CommandError(word_for(error), f"the snapshot can't be used: {error}")
    for kind, code, status in _TOLD:
        if isinstance(error, kind):
            text = error.why if isinstance(error, RedisUnavailableError) else str(error)
            return CommandError(code, text, status, getattr(error, "faults", ()))
    text = scrub(f"{type(error).__name__}: {error}")
    return CommandError("internal", f"a fault of this command's own: {text}; see --verbose")


@define(eq=False)
class Desk:
    """The parts, and where to say what they do. *replica*: who we are to the mirrors."""

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
        """Return what is at the target; a directory that is not there is an error here."""
        directory = self.settings.snapshot.directory
        if directory is not None and await self.access.threads.run(_is_missing, directory):
            text = f"{self.target.where}: there is no such directory; the first snapshot makes it"
            raise CommandError("target", text, Status.UNREACHABLE)
        return await self.target.listing()

    async def named(self, text: str) -> StoredSnapshot:
        """Return the snapshot that somebody calls *text*."""
        name = _name(text)
        for stored in await self.listing():
            if stored.name == name:
                return stored
        raise CommandError("no-such-snapshot", f"{self.target.where}: there is no {text}")

    @asynccontextmanager
    async def archive(self) -> AsyncGenerator[MeteredArchive]:
        """Give the records in Redis, when it is known whether it can be asked."""
        settings = self.settings
        redis = settings.redis
        patient = evolve(
            settings,
            redis=evolve(redis, timeout=max(redis.timeout, _LEAST_TIMEOUT_S), pool_size=1),
        )
        threads = ContentThreads(self.reactor)
        trust = build_redis_trust(redis)
        records = build_redis_records(
            self.reactor, patient, self.access.codec, threads, trust, lambda: None
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
        return False  # whoever lists it says what is wrong
    return False


def _name(text: str) -> SnapshotName:
    name = SnapshotName.parse(text)
    if name is None:
        known = "ghmirror-OWNER-YYYYMMDDTHHMMSS.mmmZ.snap"
        raise CommandError("usage", f"{text!r} is no name; names look like {known}", Status.USAGE)
    return name


@asynccontextmanager
async def open_desk(reactor: Any, settings: Settings, out: Output) -> AsyncGenerator[Desk]:
    """Give what is at work, and close it all in the end."""
    access = TargetAccess(reactor, settings.snapshot, build_codec(settings), server_of(settings))
    access.open()
    try:
        yield Desk(reactor, settings, out, access)
    finally:
        await access.close()
