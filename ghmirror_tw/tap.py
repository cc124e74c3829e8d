"""What `twistd ghmirror` runs: the options, and the only place where everything is wired."""

from __future__ import annotations

import hashlib
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, cast

from attrs import define, evolve, field
from twisted.application.service import MultiService
from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger
from twisted.python import usage
from twisted.web.server import Site

from ghmirror_tw import logs
from ghmirror_tw.authorities import trust_root
from ghmirror_tw.config import ConfigError, Redis, Settings, load
from ghmirror_tw.config_values import RedisAddress
from ghmirror_tw.conversation import Terms
from ghmirror_tw.github.client import Client, Origin
from ghmirror_tw.github.users import Users
from ghmirror_tw.metrics import Metrics
from ghmirror_tw.mirror import Mirror
from ghmirror_tw.policy.granting import LEAST_S
from ghmirror_tw.policy.key import CredentialNames
from ghmirror_tw.policy.rewriting import Rewriter
from ghmirror_tw.policy.sharing import Sharing
from ghmirror_tw.service import Listener, MirrorService, with_backlog
from ghmirror_tw.store.codec import Codec
from ghmirror_tw.store.failover import FailoverStore, Sizes
from ghmirror_tw.store.measured import MeasuredStore
from ghmirror_tw.store.memory import MemoryStore
from ghmirror_tw.store.redis.address import Address, Credentials
from ghmirror_tw.store.redis.interfaces import IServers
from ghmirror_tw.store.redis.node import Node
from ghmirror_tw.store.redis.records import RedisRecords
from ghmirror_tw.store.redis.servers import PrimaryAndReader, Single
from ghmirror_tw.threads import Workshop
from ghmirror_tw.web.access_log import AccessLog
from ghmirror_tw.web.channel import MirrorSite
from ghmirror_tw.web.fitting import Fitter
from ghmirror_tw.web.health import Admin, Readiness
from ghmirror_tw.web.request import MirrorRequest
from ghmirror_tw.web.resource import MirrorResource

_log: Final = Logger(namespace="ghmirror")


class Options(usage.Options):
    """What may stand behind `twistd ghmirror`."""

    optParameters = [  # noqa: RUF012 - Twisted's own way to say it
        ["config", "c", None, "The INI file; without it, every option has its default."]
    ]

    settings: Settings

    def postOptions(self) -> None:
        """Read the configuration; with any fault in it, say all of them and exit with 1."""
        path = self["config"]
        try:
            self.settings = read(path)
        except ConfigError as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(1) from None


def read(path: str | None) -> Settings:
    """Return the settings of an INI file and the environment. Raises `ConfigError`."""
    return load(None if path is None else Path(path).absolute(), os.environ)


def pseudonym(api_url: str) -> bytes:
    """Return what `Via` calls all mirrors of one API, so that a loop through them is seen."""
    return b"ghmirror-" + hashlib.sha256(api_url.encode()).hexdigest()[:12].encode()


def _terms(settings: Settings) -> Terms:
    cache = settings.cache
    return Terms(
        allowed_users=settings.server.allowed_users,
        share=cache.share,
        fresh_for=cache.fresh_for,
        verify_last=cache.verify_last,
        stale_limit=cache.stale_limit,
        max_stored_size=cache.max_stored_size,
        collapse_wait=cache.collapse_wait,
        timeout=settings.github.timeout,
    )


def _trusted(section: str, name: str, path: str) -> Any:
    """Return whom TLS trusts, besides the platform those in a file. Raises `ConfigError`."""
    try:
        return trust_root(Path(path).read_text("ascii") if path else "")
    except (OSError, ValueError) as error:
        raise ConfigError([f"[{section}] {name}: {error}; expected PEM certificates"]) from error


def _trust(settings: Settings) -> Any:
    return _trusted("github", "ca_path", settings.github.ca_path)


def _redis_node(
    reactor: Any,
    settings: Redis,
    where: RedisAddress,
    changed: Callable[[Node], object],
    *,
    primary: bool = True,
) -> Node:
    """Return a Redis server as the settings say that they are to be treated."""
    return Node(
        reactor=reactor,
        address=Address(where.host, where.port, where.socket_path),
        pool_size=settings.pool_size,
        timeout_s=settings.timeout,
        credentials=lambda: Credentials(
            settings.effective_username, settings.current_password() or None
        ),
        trust=_trusted("redis", "tls_ca_path", settings.tls_ca_path) if where.tls else None,
        database=where.database,
        probe_key=f"{settings.key_prefix}:probe".encode(),
        changed=changed,
        random=random.random,
        primary=primary,
    )


def _redis_servers(reactor: Any, settings: Redis, changed: Callable[[Node], object]) -> IServers:
    """Return the servers of the store, in the way in which they are set up."""
    node = _redis_node(reactor, settings, settings.address, changed)
    reader = settings.reader_address
    if reader is None:
        return Single(node)
    return PrimaryAndReader(
        node, _redis_node(reactor, settings, reader, changed, primary=False), reactor
    )


@define(eq=False)
class House:
    """All parts of one mirror, put together."""

    reactor: Any
    settings: Settings
    config: str | None
    metrics: Metrics = field(init=False)
    readiness: Readiness = field(factory=Readiness)
    workshop: Workshop = field(init=False)
    memory: MemoryStore = field(init=False)
    redis: FailoverStore | None = field(init=False, default=None)
    client: Client = field(init=False)
    mirror: Mirror = field(init=False)
    resource: MirrorResource = field(init=False)

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        github, cache, server = settings.github, settings.cache, settings.server
        name = pseudonym(github.api_url)
        via = b"1.1 " + name
        self.metrics = Metrics(self.reactor.seconds)
        self.workshop = Workshop(self.reactor)
        secret = cache.current_credential_secret().encode()
        self.memory = MemoryStore(self.reactor, settings.memory.max_size)
        if cache.backend == "redis":
            self.redis = self._with_redis(Codec(secret))
        self.metrics.sharing_enabled(cache.share)
        self.metrics.watch_store(self.memory.name, self._figures)
        self.client = Client(
            self.reactor,
            Origin.of(github.api_url),
            via,
            connect_timeout_s=github.connect_timeout,
            idle_timeout_s=github.idle_timeout,
            max_connections=github.max_connections,
            trust=_trust(settings),
        )
        self.mirror = Mirror(
            self.reactor,
            self.redis or MeasuredStore(self.memory, self.metrics.store, time.perf_counter),
            self.client,
            self.workshop,
            CredentialNames(secret),
            Users(),
            self.metrics,
            _terms(settings),
            Sharing(wanted=cache.share),
        )
        self.resource = MirrorResource(
            self.reactor,
            self.mirror,
            Fitter(Rewriter(github.api_url.encode()), self.workshop, via),
            self.metrics,
            AccessLog(cast(Literal["all", "errors", "none"], settings.log.access)),
            self.readiness,
            pseudonym=name,
            max_request_size=server.max_request_size,
            public_url=server.public_url.encode(),
            trusted_proxies=server.trusted_proxies,
        )

    def _with_redis(self, codec: Codec) -> FailoverStore:
        """Return the store in Redis, with the memory store beside it."""
        settings = self.settings.redis
        servers = _redis_servers(self.reactor, settings, lambda _: self._redis_changed())
        records = RedisRecords(
            servers,
            codec,
            self.workshop,
            self.reactor.seconds,
            settings.key_prefix,
            settings.ttl,
            max(self.settings.cache.stale_limit, LEAST_S),
        )
        self.metrics.store_available(False)
        return FailoverStore(
            self.reactor,
            records,
            self.memory,
            Sizes(beside=settings.local_size, instead=self.settings.memory.max_size),
            settings.timeout,
            settings.fallback,
            self.metrics.store,
            time.perf_counter,
        )

    def _redis_changed(self) -> None:
        if self.redis is not None:
            self.redis.resize()
            self.metrics.store_available(self.redis.available)

    @property
    def store(self) -> Any:
        """What is remembered with."""
        return self.redis or self.memory

    def _figures(self) -> tuple[int, int, int, int]:
        store = self.memory
        return store.size, store.representations, store.grants, store.evictions

    def reread(self) -> None:
        """Take the list of users and all `*_path` files anew; with a fault, keep what was."""
        try:
            settings = read(self.config)
            secret = settings.cache.current_credential_secret().encode()
            trust = _trust(settings)
        except ConfigError as error:
            for fault in error.faults:
                _log.error("Not reread: {fault}", fault=fault)
            return
        self.mirror.terms = evolve(self.mirror.terms, allowed_users=settings.server.allowed_users)
        self.mirror.names = CredentialNames(secret)
        if self.redis is not None:
            self.redis.redis.codec = Codec(secret)
        self.client.use(trust)
        _log.info("The configuration's users and files have been reread")


def makeService(options: Options) -> MultiService:
    """Return the service that twistd runs."""
    from twisted.internet import reactor  # noqa: PLC0415 - chosen by twistd, and not before

    settings = options.settings
    try:
        house = House(reactor, settings, options["config"])
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None
    site = MirrorSite(house.resource, MirrorRequest, reactor)
    admin = Site(Admin(house.readiness, house.metrics), reactor=reactor)
    admin.log = lambda _: None  # type: ignore[assignment, method-assign]
    server = settings.server
    service = MirrorService(
        reactor,
        house.resource,
        site,
        house.readiness,
        (house.client, house.store, house.workshop),
        house.reread,
        shutdown_delay_s=server.shutdown_delay,
        shutdown_grace_s=server.shutdown_grace,
        observer=logs.observer(sys.stdout, settings.log.format, settings.log.level),
        warnings=settings.warnings,
    )
    for what, descriptions, factory in (
        ("listening", server.listen, site),
        ("admin listening", server.admin_listen, admin),
    ):
        for description in descriptions:
            endpoint = serverFromString(reactor, with_backlog(description))
            service.listeners.append(Listener(what, description, endpoint, factory))
    return service
