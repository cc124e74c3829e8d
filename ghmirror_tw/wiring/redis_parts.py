"""The Redis servers of a store, in the way in which they are set up, and the records on them."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ghmirror_tw.caching.update import LEAST_S
from ghmirror_tw.config.settings import Redis, Settings
from ghmirror_tw.config.values import RedisAddress
from ghmirror_tw.redis.address import Address, Credentials
from ghmirror_tw.redis.cluster import Cluster
from ghmirror_tw.redis.node import Node
from ghmirror_tw.redis.sentinel import Sentinels
from ghmirror_tw.redis.sentinel_queries import Finder
from ghmirror_tw.redis.servers_interface import IServers
from ghmirror_tw.redis.shards import Shards
from ghmirror_tw.redis.single_server import PrimaryAndReader, Single
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.runtime.thread_pool import ContentThreads
from ghmirror_tw.store.codec import Codec
from ghmirror_tw.wiring.tls_trust import trusted

#: What is polled all the time is written to Redis so often at most, in seconds.
_AGAIN_S: Final = 10.0


def _address(where: RedisAddress) -> Address:
    return Address(where.host, where.port, where.socket_path)


def redis_trust(settings: Redis) -> Any:
    """Return whom servers with TLS have to be vouched for by. Raises `ConfigError`."""
    return trusted("redis", "tls_ca_path", settings.tls_ca_path)


def redis_servers(
    reactor: Any,
    settings: Redis,
    trust: Any,
    changed: Callable[[], object],
    connected: Callable[[], object] = lambda: None,
) -> IServers:
    """Return the servers; *changed* is called when one of them comes or goes.

    *connected* is called after each new connection.

    Those with TLS have to be vouched for by somebody of whom *trust* is told.
    """
    url = settings.address

    def credentials() -> Credentials:
        return Credentials(settings.effective_username, settings.current_password() or None)

    def told(tell: Callable[[Node], object] | None, node: Node) -> None:
        if tell is not None:
            tell(node)
        changed()

    def make(
        where: RedisAddress = url, tell: Callable[[Node], object] | None = None, **more: Any
    ) -> Node:
        values = {
            "reactor": reactor,
            "pool_size": settings.pool_size,
            "timeout_s": settings.timeout,
            "credentials": credentials,
            "trust": trust if where.tls else None,
            "database": where.database,
            "probe_key": f"{settings.key_prefix}:probe".encode("ascii"),
            "random": random.random,
            "connected": connected,
            **more,
        }
        return Node(changed=partial(told, tell), **values)

    def found(*, changed: Callable[[Node], object], **more: Any) -> Node:
        return make(tell=changed, **more)

    if settings.cluster:
        shards = Shards(
            reactor=reactor,
            seed=_address(url),
            make=found,
            random=random.random,
        )
        return Cluster(shards, reactor)
    if settings.sentinels:
        finder = Finder(
            reactor=reactor,
            sentinels=[Address(*each) for each in settings.sentinels],
            service=url.host,
            credentials=credentials,
        )
        return Sentinels(
            reactor=reactor, finder=finder, make=found, random=random.random, changed=changed
        )
    primary = make(address=_address(url))
    reader = settings.reader_address
    if reader is None:
        return Single(primary)
    return PrimaryAndReader(primary, make(reader, address=_address(reader), primary=False), reactor)


def redis_records(  # noqa: PLR0913, PLR0917 - what records are made of
    reactor: Any,
    settings: Settings,
    codec: Codec,
    threads: ContentThreads,
    trust: Any,
    changed: Callable[[], object],
    connected: Callable[[], object] = lambda: None,
) -> RedisRecords:
    """Return the records on the servers; see `redis_servers` for the other parameters."""
    redis, cache = settings.redis, settings.cache
    # Other replicas need to know exactly when something was confirmed where it is fresh for some
    # time, and to a hundredth of the time for which it may be given stale.
    again_s = 0.0 if cache.fresh_for else min(_AGAIN_S, cache.stale_limit / 100)
    return RedisRecords(
        redis_servers(reactor, redis, trust, changed, connected),
        codec,
        threads,
        reactor.seconds,
        redis.key_prefix,
        redis.ttl,
        max(cache.stale_limit, LEAST_S),
        again_s,
    )
