"""Stores in real Redis servers, as a mirror has them, for tests."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from ghmirror_tw.redis.redis_node import RedisNode
from ghmirror_tw.redis.server_endpoint import Address, Credentials
from ghmirror_tw.redis.servers_interface import IServers
from ghmirror_tw.redis.unsharded_servers import SingleServer
from ghmirror_tw.redis_store.loss_detection import history_of
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.store.failover import FailoverStore, Sizes
from ghmirror_tw.store.memory_store import MemoryStore
from ghmirror_tw.store.record_sealing import Codec
from tests.harness.home import reactor, until

PREFIX = "ghmirror"
DAY_S = 86_400.0
#: For operations without a timeout.
SOON: float = 60.0


def node_at(address: tuple[str, int], **more: Any) -> RedisNode:
    """Return a server as a mirror treats it."""
    values: dict[str, Any] = {
        "reactor": reactor,
        "address": Address(*address),
        "pool_size": 2,
        "timeout_s": SOON,
        "credentials": Credentials,
        "trust": None,
        "database": 0,
        "probe_key": b"ghmirror:probe",
        "changed": lambda _: None,
        "random": lambda: 0.0,
        **more,
    }
    return RedisNode(**values)


async def settled(*stores: FailoverStore) -> None:
    """Return when nothing that was stated is on its way any more."""
    while any(store.writes.in_flight for store in stores):
        for store in stores:
            await store.writes.done()


async def written(store: FailoverStore) -> None:
    """Return when all that was stated is in Redis, and nothing is owed to it any more."""
    writes, queue = store.writes, store.writes.queue
    await until(lambda: not (writes.in_flight or queue or queue.is_flushing))


async def at_rest(*nodes: RedisNode) -> None:
    """Return when each has all its connections, and waits for a reply on none of them."""

    def is_at_rest(node: RedisNode) -> bool:
        connections = node.pool.connections
        outstanding = any(connection.outstanding_bytes for connection in connections)
        return len(connections) == node.pool_size and not outstanding

    await until(lambda: all(map(is_at_rest, nodes)))


async def open_store(
    case: TestCase,
    servers: IServers | tuple[str, int],
    *,
    secret: bytes = b"secret",
    timeout_s: float = SOON,
    local_size: int = 1_000_000,
    fallback: bool = True,
    **more: Any,
) -> FailoverStore:
    """Return a store in Redis that has been connected to, or found not to be there."""
    if isinstance(servers, tuple):
        servers = SingleServer(node_at(servers))
    threads = ContentThreads(reactor)
    threads.open()
    records = RedisRecords(
        servers,
        Codec(secret),
        threads,
        reactor.seconds,
        PREFIX,
        30 * DAY_S,
        DAY_S,
        more.get("renewal_interval_s", 0.0),
        negative_for_s=60.0,
    )
    store = FailoverStore(
        reactor,
        records,
        history_of(reactor, records),
        MemoryStore(reactor, 1),
        Sizes(local_size, 10_000_000),
        timeout_s,
        fallback,
        more.get("report", lambda *_: None),
        time.perf_counter,
    )
    store.open()

    async def close() -> None:
        await store.close()
        threads.close()

    case.addCleanup(lambda: Deferred.fromCoroutine(close()))
    await store.settled()
    return store
