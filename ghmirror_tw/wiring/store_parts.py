"""Builds the stores of one mirror, with their restore barrier and their snapshots."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

from attrs import define, frozen

from ghmirror_tw.config.settings import Settings
from ghmirror_tw.redis_store.loss_detection import history_of
from ghmirror_tw.redis_store.redis_archive import RedisArchive
from ghmirror_tw.redis_store.redis_semaphores import RedisSemaphores
from ghmirror_tw.runtime.certificate_authorities import ReplaceableTrust
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.runtime.restore_barrier import RestoreBarrier
from ghmirror_tw.store.failover import FailoverStore, Sizes
from ghmirror_tw.store.measured_store import measured
from ghmirror_tw.store.memory_archive import MemoryArchive
from ghmirror_tw.store.memory_records_by_name import NamedRecords
from ghmirror_tw.store.memory_store import MemoryStore
from ghmirror_tw.store.permit_lease_interface import IFleetSemaphores
from ghmirror_tw.telemetry.metric_catalogue import StoreFigures
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.wiring.redis_parts import build_redis_records, build_redis_trust
from ghmirror_tw.wiring.snapshot_parts import Snapshots, build_codec, server_of

#: The variant cache gets the memory for content divided by this number.
_VARIANT_CACHE_DIVISOR: Final = 8


@frozen(eq=False, kw_only=True)
class StoreParts:
    """The stores of one mirror; *redis* is None where the backend is the memory."""

    memory: MemoryStore
    redis: FailoverStore | None
    redis_trust: ReplaceableTrust | None
    barrier: RestoreBarrier
    snapshots: Snapshots | None


@define(eq=False)
class RedisEvents:
    """Notifies the store, the metrics and the snapshots of changes at the Redis servers."""

    metrics: Metrics
    store: FailoverStore | None = None
    snapshots: Snapshots | None = None

    def connected(self) -> None:
        """Notify the store of a new connection to Redis."""
        if self.store is not None:
            self.store.note_connection()

    def availability_changed(self) -> None:
        """Notify all parts that Redis has become available or unavailable."""
        if self.store is None:
            return
        self.store.note_change()
        self.metrics.store_available(self.store.available)
        if self.snapshots is not None and self.store.is_settled:
            if self.store.available:
                self.snapshots.redis_available()
            else:
                self.snapshots.redis_unavailable()


BuildRedis = Callable[
    [Any, Settings, ContentThreads, RedisEvents, ReplaceableTrust, MemoryStore], FailoverStore
]


def build_store_parts(
    reactor: Any,
    settings: Settings,
    threads: ContentThreads,
    metrics: Metrics,
    build_redis: BuildRedis,
) -> StoreParts:
    """Return the stores that *settings* name. Raises `ConfigError`."""
    memory = MemoryStore(reactor, settings.memory.max_size - variant_cache_size(settings))
    barrier = RestoreBarrier(reactor, settings.snapshot.restore_wait)
    events = RedisEvents(metrics)
    trust: ReplaceableTrust | None = None
    if settings.cache.backend == "redis":
        trust = ReplaceableTrust(build_redis_trust(settings.redis))
        events.store = build_redis(reactor, settings, threads, events, trust, memory)
    if settings.snapshot.target:
        events.snapshots = _build_snapshots(
            reactor, settings, threads, metrics, memory, events.store, barrier
        )
    _watch(metrics, memory, events.store)
    return StoreParts(
        memory=memory,
        redis=events.store,
        redis_trust=trust,
        barrier=barrier,
        snapshots=events.snapshots,
    )


def variant_cache_size(settings: Settings) -> int:
    """Return the bytes of the memory for content that the variant cache may use."""
    size = settings.memory.max_size
    if settings.cache.backend == "redis":
        size = min(size, settings.redis.local_size)
    return size // _VARIANT_CACHE_DIVISOR


def build_measured_store(stores: StoreParts, metrics: Metrics) -> Any:
    """Return the store that the mirror uses, with its latencies measured."""
    memory = stores.memory
    return stores.redis or measured(memory, memory.name, metrics.store, time.perf_counter)


def build_semaphores(settings: Settings, redis: FailoverStore | None) -> IFleetSemaphores | None:
    """Return the semaphores that the fleet shares; None: this process shares them with no other."""
    if redis is None:
        return None
    return RedisSemaphores(redis.redis, settings.redis.timeout, redis.history)


def build_failover_store(  # noqa: PLR0913, PLR0917 - the parts that it connects
    reactor: Any,
    settings: Settings,
    threads: ContentThreads,
    events: RedisEvents,
    trust: ReplaceableTrust,
    memory: MemoryStore,
) -> FailoverStore:
    """Return the store in Redis, with the memory store as cache and as substitute."""
    redis = settings.redis
    records = build_redis_records(
        reactor,
        settings,
        build_codec(settings),
        threads,
        trust,
        events.availability_changed,
        events.connected,
        events.metrics.iam_failure,
    )
    events.metrics.store_available(False)
    variants = variant_cache_size(settings)
    return FailoverStore(
        reactor,
        records,
        history_of(reactor, records),
        memory,
        Sizes(
            beside=redis.local_size - variants,
            instead=settings.memory.max_size - variants,
        ),
        redis.timeout,
        redis.fallback,
        events.metrics.store,
        time.perf_counter,
        events.availability_changed,
        grace_s=settings.server.shutdown_grace,
    )


def _build_snapshots(  # noqa: PLR0913, PLR0917 - the parts that it connects
    reactor: Any,
    settings: Settings,
    threads: ContentThreads,
    metrics: Metrics,
    memory: MemoryStore,
    redis: FailoverStore | None,
    barrier: RestoreBarrier,
) -> Snapshots:
    """Return the snapshots of the store in use, and of its substitute."""
    in_memory = MemoryArchive(reactor, NamedRecords(memory.records), build_codec(settings), threads)
    archive: Any = in_memory
    if redis is not None:
        archive = RedisArchive(redis.redis, server_of(settings))
    has_substitute = redis is not None and settings.redis.fallback
    return Snapshots(
        reactor,
        settings,
        archive,
        in_memory if has_substitute else None,
        barrier,
        metrics,
        reactor.seconds,
        uuid4().hex,
    )


def _watch(metrics: Metrics, memory: MemoryStore, redis: FailoverStore | None) -> None:
    """Show the sizes of the stores in *metrics*."""

    def memory_figures() -> StoreFigures:
        records = memory.records
        return records.size, records.representations, records.grants, records.evictions

    metrics.watch_store(memory.name, memory_figures)
    if redis is None:
        return
    store = redis

    def redis_figures() -> StoreFigures:
        return store.figures.used_bytes, None, None, store.figures.evictions

    metrics.watch_store(store.name, redis_figures)
