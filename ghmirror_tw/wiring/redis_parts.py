"""Builds the Redis servers of a store (single, replicated, Sentinel or cluster) and its records."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from attrs import define

from ghmirror_tw.caching.records_from_responses import SHORTEST_LIFETIME_S
from ghmirror_tw.caching.validators import CANDIDATE_BYTES
from ghmirror_tw.config.address_kinds import RedisAddress
from ghmirror_tw.config.settings import Redis, Settings
from ghmirror_tw.redis import (
    Address,
    Cluster,
    Credentials,
    IamSigner,
    IamTokens,
    IServers,
    PrimaryAndReader,
    PrimaryFinder,
    RedisNode,
    Sentinels,
    Shards,
    SingleServer,
    load_botocore,
)
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.store.record_sealing import Codec
from ghmirror_tw.wiring.tls_trust import build_trust

#: The shortest time between two validations of one grant that are written to Redis, in seconds.
_REWRITE_S: Final = 10.0
#: What a reply may have besides content of representations, in bytes: fields and seals of nine.
_DESCRIBED_BYTES: Final = 4 << 20


def _address(location: RedisAddress) -> Address:
    return Address(location.host, location.port, location.socket_path)


def build_redis_trust(settings: Redis) -> Any:
    """Return the certificate authorities that servers with TLS are verified with.

    Raises `ConfigError`.
    """
    return build_trust("redis", "tls_ca_path", settings.tls_ca_path)


@define(eq=False, kw_only=True)
class NodeBuilder:
    """Builds the nodes of one deployment of Redis; they differ in address and role only.

    *changed* is called when a node becomes available or unavailable, *connected* after each new
    connection.
    """

    reactor: Any
    settings: Redis
    trust: Any
    changed: Callable[[], object]
    connected: Callable[[], object]
    #: The limit of a reply, in bytes.
    largest_bytes: int
    #: The source of passwords, if they are tokens of IAM.
    iam: IamTokens | None = None

    def credentials(self) -> Credentials | Awaitable[Credentials]:
        """Return the user and the password as they are now."""
        if self.iam is not None:
            return self.iam.credentials()
        return Credentials(
            self.settings.effective_username, self.settings.current_password() or None
        )

    def build(
        self,
        location: RedisAddress | None = None,
        on_change: Callable[[RedisNode], object] | None = None,
        **more: Any,
    ) -> RedisNode:
        """Return a node with TLS and database as *location* has them; default: the option *url*."""
        location = location or self.settings.address

        def changed(node: RedisNode) -> None:
            if on_change is not None:
                on_change(node)
            self.changed()

        values = {
            "reactor": self.reactor,
            "pool_size": self.settings.pool_size,
            "timeout_s": self.settings.timeout,
            "credentials": self.credentials,
            "trust": self.trust if location.tls else None,
            "database": location.database,
            "probe_key": f"{self.settings.key_prefix}:probe".encode("ascii"),
            "random": random.random,
            "connected": self.connected,
            "largest_bytes": self.largest_bytes,
            "effect": self._effect(primary=more.get("primary", True)),
            **more,
        }
        return RedisNode(changed=changed, **values)

    def _effect(self, *, primary: bool) -> str:
        """Return what it means that a server is unavailable."""
        if not primary:
            return "the primary replaces it"
        if self.settings.fallback:
            return "memory store in use"
        return "nothing is stored or shared"

    def build_discovered(self, *, changed: Callable[[RedisNode], object], **more: Any) -> RedisNode:
        """Return a node that Sentinels or a cluster have named."""
        return self.build(on_change=changed, **more)


def build_redis_servers(nodes: NodeBuilder) -> IServers:
    """Return the servers of the deployment that the settings describe."""
    settings, url = nodes.settings, nodes.settings.address
    if settings.cluster:
        shards = Shards(
            reactor=nodes.reactor,
            seed=_address(url),
            make=nodes.build_discovered,
            random=random.random,
        )
        return Cluster(shards, nodes.reactor)
    if settings.sentinels:
        finder = PrimaryFinder(
            reactor=nodes.reactor,
            sentinels=[Address(*each) for each in settings.sentinels],
            service=url.host,
            credentials=nodes.credentials,
        )
        return Sentinels(
            reactor=nodes.reactor,
            finder=finder,
            make=nodes.build_discovered,
            random=random.random,
            changed=nodes.changed,
        )
    primary = nodes.build(address=_address(url))
    reader = settings.reader_address
    if reader is None:
        return SingleServer(primary)
    replica = nodes.build(reader, address=_address(reader), primary=False)
    return PrimaryAndReader(primary, replica, nodes.reactor)


def _iam_tokens(
    reactor: Any, settings: Redis, threads: ContentThreads, failed: Callable[[], object]
) -> IamTokens | None:
    """Return the tokens of IAM that are the passwords; None: there is a password, or none."""
    if not settings.iam:
        return None
    load_botocore()
    signer = IamSigner.of(settings.effective_username, settings.iam, settings.address.host)
    return IamTokens(signer, threads.run_blocking, reactor.seconds, failed)


def build_redis_records(  # noqa: PLR0913, PLR0917 - the parts that they connect
    reactor: Any,
    settings: Settings,
    codec: Codec,
    threads: ContentThreads,
    trust: Any,
    changed: Callable[[], object],
    connected: Callable[[], object] = lambda: None,
    no_token: Callable[[], object] = lambda: None,
) -> RedisRecords:
    """Return the records on the servers; see `NodeBuilder` for the other parameters.

    *no_token* is called when no IAM token could be signed.
    """
    redis, cache = settings.redis, settings.cache
    # Other replicas need the exact time of a validation where responses are fresh for some time.
    # Else they need it to a hundredth of the time for which stale responses are served.
    rewrite_s = 0.0 if cache.fresh_for else min(_REWRITE_S, cache.stale_limit / 100)
    nodes = NodeBuilder(
        reactor=reactor,
        settings=redis,
        trust=trust,
        changed=changed,
        connected=connected,
        largest_bytes=cache.max_stored_size + CANDIDATE_BYTES + _DESCRIBED_BYTES,
        iam=_iam_tokens(reactor, redis, threads, no_token),
    )
    return RedisRecords(
        build_redis_servers(nodes),
        codec,
        threads,
        reactor.seconds,
        redis.key_prefix,
        redis.ttl,
        max(cache.stale_limit, SHORTEST_LIFETIME_S),
        rewrite_s,
        cache.negative_for,
    )
