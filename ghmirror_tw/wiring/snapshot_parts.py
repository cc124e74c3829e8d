"""Snapshots, as they are set up: where they are kept, who makes them, what they fill."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ghmirror_tw.caching.key import origin_of
from ghmirror_tw.config.settings import Settings, Snapshot
from ghmirror_tw.snapshots.aws_service import Access, Service, load
from ghmirror_tw.snapshots.blocking_threads import BlockingThreads
from ghmirror_tw.snapshots.copies import Copies
from ghmirror_tw.snapshots.directory_target import DirectoryTarget
from ghmirror_tw.snapshots.elasticache import CHECK_S, ElastiCacheSnapshots
from ghmirror_tw.snapshots.restorer import Restorer
from ghmirror_tw.snapshots.s3_target import S3Target
from ghmirror_tw.snapshots.saver import Saver
from ghmirror_tw.snapshots.schedule import Report, Schedule
from ghmirror_tw.snapshots.snapshot_names import owner_of
from ghmirror_tw.store.codec import Codec
from ghmirror_tw.store.restore_barrier import RestoreBarrier

#: How often is looked whether Redis has been emptied although it was never away, in seconds.
_LOOK_S: Final = 5.0

_log: Final = Logger(namespace="ghmirror.snapshots")


def codec_of(settings: Settings) -> Codec:
    """Return the codec with the secret of *settings*."""
    return Codec(settings.cache.current_credential_secret().encode())


def owner(settings: Settings, codec: Codec) -> str:
    """Return the owner of this store's snapshots.

    For a Redis store its key prefix, for a memory store this host and the port; and the secret's
    fingerprint, and the server where it is not GitHub.com, since snapshots of other secrets and
    servers are of no use.
    """
    kind = settings.cache.backend
    if kind == "redis":
        names = [settings.redis.key_prefix]
    else:
        names = [socket.gethostname(), _port(settings.server.listen)]
    parts = [kind, *names, codec.fingerprint, origin_of(settings.github.api_url).decode()]
    return owner_of("-".join(part for part in parts if part))


def server_of(settings: Settings) -> str:
    """Return the URL of the API whose responses are stored, in the form of snapshots and marks."""
    return settings.github.api_url.lower().rstrip("/")


def _port(listen: tuple[str, ...]) -> str:
    """Return the port of the first address to listen on, or what stands for a port there."""
    if not listen:
        return ""
    kind, _, rest = listen[0].partition(":")
    return rest.split(":")[0].removeprefix("port=") if kind.startswith("tcp") else listen[0]


@define(eq=False)
class SnapshotPlace:
    """Where snapshots are kept, and the threads that it takes to get there."""

    reactor: Any
    settings: Snapshot
    codec: Codec
    api_url: str
    workers: BlockingThreads = field(init=False)
    services: list[Service] = field(init=False, factory=list)
    copies: Copies = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.workers = BlockingThreads(self.reactor)
        self.copies = Copies(self.reactor, self._target(), self.codec, api_url=self.api_url)

    def _target(self) -> DirectoryTarget | S3Target:
        settings = self.settings
        directory, bucket = settings.directory, settings.bucket
        if directory is not None:
            return DirectoryTarget(self.workers, Path(directory))
        assert bucket is not None
        return S3Target(
            self.workers,
            self.service("s3", settings.s3_endpoint_url),
            *bucket,
            sse=settings.s3_sse,
            kms_key_id=settings.s3_kms_key_id,
        )

    def service(self, name: str, endpoint_url: str = "") -> Service:
        """Return a service of AWS."""
        service = Service(Access(self.settings.s3_region, endpoint_url), name)
        self.services.append(service)
        return service

    def open(self) -> None:
        """Start the threads."""
        if self.services:
            load()
        self.workers.open()

    async def close(self) -> None:
        """Stop the threads, when what runs in them has ended."""
        await self.workers.close()
        for service in self.services:
            service.close()


def saver(  # noqa: PLR0913, PLR0917 - what is copied, where to, as whom
    reactor: Any,
    settings: Settings,
    archive: Any,
    copies: Copies,
    replica: str,
    fill: Callable[[], None],
    now: Callable[[], float],
) -> Saver:
    """Return who makes the snapshots of the store of *archive*."""
    return Saver(
        reactor,
        archive,
        copies,
        settings.cache.backend,
        owner(settings, copies.codec),
        replica,
        settings.snapshot.keep,
        settings.snapshot.interval,
        fill,
        now,
    )


@define(eq=False)
class Snapshots:
    """All that keeps copies of one store, and fills it from them.

    *archive*: the store's own. *standing_in*: that of the memory which stands in for Redis, or
    None. *barrier* is shut while anything is being filled.
    """

    reactor: Any
    settings: Settings
    archive: Any
    standing_in: Any
    barrier: RestoreBarrier
    report: Report
    now: Callable[[], float]
    replica: str
    place: SnapshotPlace = field(init=False)
    restorer: Restorer = field(init=False)
    saver: Saver = field(init=False)
    substitute: Restorer | None = field(init=False, default=None)
    schedules: list[Schedule] = field(init=False, factory=list)
    looking: LoopingCall = field(init=False)

    def __attrs_post_init__(self) -> None:
        snapshot = self.settings.snapshot
        self.looking = LoopingCall(self._look)
        self.looking.clock = self.reactor
        codec = codec_of(self.settings)
        self.place = SnapshotPlace(self.reactor, snapshot, codec, server_of(self.settings))
        self.restorer = self._restorer(self.archive)
        if self.standing_in is not None:
            self.substitute = self._restorer(self.standing_in, marks=False)
        self.saver = saver(
            self.reactor,
            self.settings,
            self.archive,
            self.place.copies,
            self.replica,
            self.restorer.fill,
            self.now,
        )
        self.schedules.append(
            Schedule(
                self.reactor,
                self.saver.save,
                snapshot.interval,
                self.report,
                self.now,
                at_end=self.settings.cache.backend == "memory",
                patience_s=self.settings.server.shutdown_grace,
            )
        )
        if snapshot.elasticache_replication_group:
            self.schedules.append(self._elasticache())

    def _restorer(self, archive: Any, *, marks: bool = True) -> Restorer:
        return Restorer(
            self.reactor,
            archive,
            self.place.copies,
            self.barrier,
            owner(self.settings, self.place.codec),
            self.replica,
            self.report,
            self.now,
            restores=self.settings.snapshot.restore,
            marks=marks,
        )

    def _elasticache(self) -> Schedule:
        snapshot = self.settings.snapshot
        assert snapshot.bucket is not None
        managed = ElastiCacheSnapshots(
            self.reactor,
            self.place.workers,
            self.place.service("elasticache"),
            self.place.service("s3", snapshot.s3_endpoint_url),
            snapshot.elasticache_replication_group,
            snapshot.bucket[0],
            snapshot.keep,
            snapshot.elasticache_interval,
            self.now,
        )
        return Schedule(
            self.reactor, managed.run, CHECK_S, self.report, self.now, what="ElastiCache snapshot"
        )

    @property
    def next_at(self) -> float | None:
        """When the store is saved next; None while it is being saved."""
        return self.schedules[0].due_at

    def open(self) -> None:
        """Start; the store is filled if it has to be."""
        self.place.open()
        self.restorer.fill()
        for schedule in self.schedules:
            schedule.open()
        if self.settings.cache.backend == "redis":
            self.looking.start(_LOOK_S, now=False)

    def _look(self) -> Deferred[None]:
        looked = Deferred.fromCoroutine(self.restorer.look())
        return looked.addErrback(lambda failure: _log.failure("Looking failed", failure=failure))

    def use(self, codec: Codec) -> None:
        """Open and seal records with another secret from now on."""
        self.place.copies.codec = codec
        self.saver.owner = self.restorer.owner = owner(self.settings, codec)
        if self.substitute is not None:
            self.substitute.owner = self.restorer.owner
        if self.standing_in is not None:
            self.standing_in.codec = codec
        if hasattr(self.archive, "codec"):
            self.archive.codec = codec

    def settled(self) -> Any:
        """Fire when the store is filled, or when that has taken `restore_wait`."""
        return self.barrier.opened(self.settings.snapshot.restore_wait)

    def redis_came(self) -> None:
        """Look whether it has come back empty."""
        # in this order, so that nobody who waits goes on in between
        self.restorer.fill()
        if self.substitute is not None:
            self.substitute.stop()

    def redis_went(self) -> None:
        """Fill what stands in for it; nobody waits for what can't be filled."""
        self.restorer.stop()
        if self.substitute is not None:
            self.substitute.fill()

    async def close(self) -> None:
        """Make the last snapshot, where that is needed, and end everything."""
        if self.looking.running:
            self.looking.stop()
        for restorer in filter(None, (self.restorer, self.substitute)):
            await restorer.close()
        for schedule in self.schedules:
            await schedule.close()
        await self.place.close()
