"""Builds and runs the parts that save a store as snapshots at a target, and restore it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ghmirror_tw.caching.key import server_id
from ghmirror_tw.config.settings import Settings, Snapshot
from ghmirror_tw.runtime.restore_barrier import RestoreBarrier
from ghmirror_tw.snapshots.aws_service import AwsAccess, AwsService, load_boto3
from ghmirror_tw.snapshots.blocking_threads import BlockingThreads
from ghmirror_tw.snapshots.directory_target import DirectoryTarget
from ghmirror_tw.snapshots.elasticache import CHECK_S, ElastiCacheSnapshots
from ghmirror_tw.snapshots.restorer import Restorer
from ghmirror_tw.snapshots.s3_target import S3Target
from ghmirror_tw.snapshots.saver import Saver
from ghmirror_tw.snapshots.schedule import Schedule, SnapshotMetrics
from ghmirror_tw.snapshots.snapshot_names import owner_of
from ghmirror_tw.snapshots.snapshot_repository import SnapshotRepository
from ghmirror_tw.store.record_sealing import Codec

#: The interval of checks for a Redis that was emptied without becoming unavailable, in seconds.
_CHECK_MARK_S: Final = 5.0

_log: Final = Logger(namespace="ghmirror.snapshots")


def build_codec(settings: Settings) -> Codec:
    """Return the codec with the secrets and the limit of content of *settings*."""
    cache = settings.cache
    return Codec.by(cache.credential_secrets(), cache.max_stored_size)


def snapshot_owner(settings: Settings, codec: Codec) -> str:
    """Return the owner of this store's snapshots.

    It is made of the key prefix for a Redis store, of host and port for a memory store. The
    fingerprint of the secret and the origin follow, since other mirrors cannot use the records.
    """
    kind = settings.cache.backend
    if kind == "redis":
        names = [settings.redis.key_prefix]
    else:
        names = [socket.gethostname(), _port(settings.server.listen)]
    parts = [kind, *names, codec.fingerprint, server_id(settings.github.api_url).decode()]
    return owner_of("-".join(part for part in parts if part))


def server_of(settings: Settings) -> str:
    """Return the API's URL as it is written in snapshots and in marks of a filled store."""
    return settings.github.api_url.lower().rstrip("/")


def _port(listen: tuple[str, ...]) -> str:
    """Return the port of the first endpoint, or its description if it has no port."""
    if not listen:
        return ""
    kind, _, rest = listen[0].partition(":")
    return rest.split(":")[0].removeprefix("port=") if kind.startswith("tcp") else listen[0]


@define(eq=False)
class TargetAccess:
    """The target of snapshots, with the threads and the AWS clients that it needs."""

    reactor: Any
    settings: Snapshot
    codec: Codec
    api_url: str
    threads: BlockingThreads = field(init=False)
    services: list[AwsService] = field(init=False, factory=list)
    repository: SnapshotRepository = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.threads = BlockingThreads(self.reactor)
        self.repository = SnapshotRepository(
            self.reactor, self._target(), self.codec, api_url=self.api_url
        )

    def _target(self) -> DirectoryTarget | S3Target:
        settings = self.settings
        directory, bucket = settings.directory, settings.bucket
        if directory is not None:
            return DirectoryTarget(self.threads, Path(directory))
        assert bucket is not None
        return S3Target(
            self.threads,
            self.service("s3", settings.s3_endpoint_url),
            *bucket,
            sse=settings.s3_sse,
            kms_key_id=settings.s3_kms_key_id,
        )

    def service(self, name: str, endpoint_url: str = "") -> AwsService:
        """Return a service of AWS."""
        service = AwsService(AwsAccess(self.settings.s3_region, endpoint_url), name)
        self.services.append(service)
        return service

    def open(self) -> None:
        """Start the threads."""
        if self.services:
            load_boto3()
        self.threads.open()

    async def close(self) -> None:
        """Wait for the calls in progress, then stop the threads and close the clients."""
        await self.threads.close()
        for service in self.services:
            service.close()


def build_saver(  # noqa: PLR0913, PLR0917 - the parts that it connects
    reactor: Any,
    settings: Settings,
    archive: Any,
    repository: SnapshotRepository,
    replica: str,
    fill: Callable[[], None],
    now: Callable[[], float],
) -> Saver:
    """Return the saver of the store of *archive*."""
    return Saver(
        reactor,
        archive,
        repository,
        settings.cache.backend,
        snapshot_owner(settings, repository.codec),
        replica,
        settings.snapshot.keep,
        settings.snapshot.interval,
        fill,
        now,
    )


@define(eq=False)
class Snapshots:
    """Saves one store on a schedule, and restores it when it is empty.

    *archive* reads and writes the records of the store. *substitute_archive* does so for the memory
    store that replaces Redis while that is unavailable, or is None. *barrier* is closed during a
    restore.
    """

    reactor: Any
    settings: Settings
    archive: Any
    substitute_archive: Any
    barrier: RestoreBarrier
    metrics: SnapshotMetrics
    now: Callable[[], float]
    replica: str
    access: TargetAccess = field(init=False)
    restorer: Restorer = field(init=False)
    saver: Saver = field(init=False)
    substitute: Restorer | None = field(init=False, default=None)
    schedules: list[Schedule] = field(init=False, factory=list)
    mark_checks: LoopingCall = field(init=False)

    def __attrs_post_init__(self) -> None:
        snapshot = self.settings.snapshot
        self.mark_checks = LoopingCall(self.check_mark)
        self.mark_checks.clock = self.reactor
        codec = build_codec(self.settings)
        self.access = TargetAccess(self.reactor, snapshot, codec, server_of(self.settings))
        self.restorer = self._restorer(self.archive)
        if self.substitute_archive is not None:
            self.substitute = self._restorer(self.substitute_archive, marks=False)
        self.saver = build_saver(
            self.reactor,
            self.settings,
            self.archive,
            self.access.repository,
            self.replica,
            self.restorer.fill,
            self.now,
        )
        self.schedules.append(
            Schedule(
                self.reactor,
                self.saver.save,
                snapshot.interval,
                self.metrics,
                self.now,
                at_end=self.settings.cache.backend == "memory",
                grace_s=self.settings.server.shutdown_grace,
            )
        )
        if snapshot.elasticache_replication_group:
            self.schedules.append(self._elasticache())

    def _restorer(self, archive: Any, *, marks: bool = True) -> Restorer:
        return Restorer(
            self.reactor,
            archive,
            self.access.repository,
            self.barrier,
            snapshot_owner(self.settings, self.access.codec),
            self.replica,
            self.metrics,
            self.now,
            restores=self.settings.snapshot.restore,
            marks=marks,
        )

    def _elasticache(self) -> Schedule:
        snapshot = self.settings.snapshot
        assert snapshot.bucket is not None
        managed = ElastiCacheSnapshots(
            self.reactor,
            self.access.threads,
            self.access.service("elasticache"),
            self.access.service("s3", snapshot.s3_endpoint_url),
            snapshot.elasticache_replication_group,
            snapshot.bucket[0],
            snapshot.keep,
            snapshot.elasticache_interval,
            self.now,
        )
        return Schedule(
            self.reactor, managed.run, CHECK_S, self.metrics, self.now, kind="ElastiCache snapshot"
        )

    @property
    def next_at(self) -> float | None:
        """When the store is saved next; None while it is being saved."""
        return self.schedules[0].due_at

    def open(self) -> None:
        """Start the schedules, and restore the store if it is empty."""
        self.access.open()
        self.restorer.fill()
        for schedule in self.schedules:
            schedule.open()
        if self.settings.cache.backend == "redis":
            self.mark_checks.start(_CHECK_MARK_S, now=False)

    def check_mark(self) -> Deferred[None]:
        """Restore a snapshot if the store is no longer marked as filled."""
        checked = Deferred.fromCoroutine(self.restorer.check_mark())
        return checked.addErrback(
            lambda failure: _log.failure("Check for an emptied store failed", failure=failure)
        )

    def use(self, codec: Codec) -> None:
        """Open and seal records with another secret from now on."""
        self.access.repository.codec = codec
        self.saver.owner = self.restorer.owner = snapshot_owner(self.settings, codec)
        if self.substitute is not None:
            self.substitute.owner = self.restorer.owner
        if self.substitute_archive is not None:
            self.substitute_archive.codec = codec
        if hasattr(self.archive, "codec"):
            self.archive.codec = codec

    def settled(self) -> Any:
        """Fire when the store is restored, or when that has lasted for `restore_wait`."""
        return self.barrier.opened(self.settings.snapshot.restore_wait)

    def redis_available(self) -> None:
        """Restore Redis if it has lost its records."""
        # In this order, so that the barrier stays closed in between.
        self.restorer.fill()
        if self.substitute is not None:
            self.substitute.stop()

    def redis_unavailable(self) -> None:
        """Restore the substitute; no request waits for a restore of Redis."""
        self.restorer.stop()
        if self.substitute is not None:
            self.substitute.fill()

    async def close(self) -> None:
        """Cancel restores, make the last snapshot where that is due, and close the target.

        A target that does not respond is abandoned after `shutdown_grace`: the store is closed
        next, which writes refusals to Redis, before a SIGKILL.
        """
        if self.mark_checks.running:
            self.mark_checks.stop()
        grace_s = self.settings.server.shutdown_grace
        abandoning = self.reactor.callLater(grace_s, self.access.threads.abandon)
        for restorer in filter(None, (self.restorer, self.substitute)):
            await restorer.close()
        for schedule in self.schedules:
            await schedule.close()
        await self.access.close()
        if abandoning.active():
            abandoning.cancel()
