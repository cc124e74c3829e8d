"""What `twistd ghmirror` runs: the options, and the only place where everything is wired."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final, Literal, cast
from uuid import uuid4

from attrs import define, evolve, field
from twisted.application.service import MultiService
from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.logfile import LogFile

from ghmirror_tw.caching.key import CredentialNames, origin_of
from ghmirror_tw.config.settings import ConfigError, Settings, load
from ghmirror_tw.github.base_urls import Addressing
from ghmirror_tw.github.sharing import Sharing
from ghmirror_tw.github.url_rewriting import Rewriter
from ghmirror_tw.proxy.exchange import MirrorOptions
from ghmirror_tw.proxy.mirror import Mirror
from ghmirror_tw.redis_store.failover import FailoverStore, Sizes
from ghmirror_tw.redis_store.redis_archive import RedisArchive
from ghmirror_tw.redis_store.redis_budgets import RedisBudgets
from ghmirror_tw.runtime.certificate_authorities import Replaceable
from ghmirror_tw.runtime.file_descriptors import for_clients, raise_limit
from ghmirror_tw.runtime.steady_clock import SteadyClock
from ghmirror_tw.runtime.thread_pool import ContentThreads
from ghmirror_tw.service import Listener, MirrorService, SharingPorts, with_backlog
from ghmirror_tw.store.codec import Codec
from ghmirror_tw.store.measured_store import MeasuredStore
from ghmirror_tw.store.memory_archive import MemoryArchive
from ghmirror_tw.store.memory_budgets import MemoryBudgets
from ghmirror_tw.store.memory_store import MemoryStore
from ghmirror_tw.store.restore_barrier import RestoreBarrier
from ghmirror_tw.store.store_interface import IBudgets
from ghmirror_tw.telemetry import logs
from ghmirror_tw.telemetry.metrics import Metrics, StoreFigures
from ghmirror_tw.telemetry.status_document import Figures
from ghmirror_tw.upstream.availability import Availability
from ghmirror_tw.upstream.byte_budget import Budgets
from ghmirror_tw.upstream.client import Origin, UpstreamClient
from ghmirror_tw.upstream.credential_registry import CredentialRegistry
from ghmirror_tw.upstream.rate_limiter import RateLimiter
from ghmirror_tw.upstream.status_page import StatusPage
from ghmirror_tw.upstream.users import Users
from ghmirror_tw.web.access_log import AccessLog
from ghmirror_tw.web.admin_site import Admin, admin_site
from ghmirror_tw.web.client_channel import MirrorSite
from ghmirror_tw.web.client_response import ClientResponseBuilder
from ghmirror_tw.web.health import Readiness
from ghmirror_tw.web.mirror_request import MirrorRequest
from ghmirror_tw.web.mirror_resource import MirrorResource
from ghmirror_tw.web.variant_cache import VariantCache
from ghmirror_tw.wiring.outbound_proxy import proxy_of
from ghmirror_tw.wiring.redis_parts import redis_records, redis_trust
from ghmirror_tw.wiring.snapshot_parts import Snapshots, server_of
from ghmirror_tw.wiring.status_sources import Told
from ghmirror_tw.wiring.tls_trust import trusted

#: Such a part of the memory for content is for the forms in which it is sent.
_FORMS_PART: Final = 8
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


def _terms(settings: Settings) -> MirrorOptions:
    cache = settings.cache
    return MirrorOptions(
        allowed_users=settings.server.allowed_users,
        share=cache.share,
        fresh_for=cache.fresh_for,
        verify_last=cache.verify_last,
        api_url=settings.github.api_url.encode(),
        stale_limit=cache.stale_limit,
        max_stored_size=cache.max_stored_size,
        collapse_wait=cache.collapse_wait,
        timeout=settings.github.timeout,
        stale_after=settings.github.stale_after,
    )


def _trust(settings: Settings) -> Any:
    return trusted("github", "ca_path", settings.github.ca_path)


@define(eq=False)
class House:
    """All parts of one mirror, put together."""

    reactor: Any
    settings: Settings
    config: str | None
    metrics: Metrics = field(init=False)
    readiness: Readiness = field(factory=Readiness)
    budgets: Budgets = field(init=False)
    threads: ContentThreads = field(init=False)
    memory: MemoryStore = field(init=False)
    redis: FailoverStore | None = field(init=False, default=None)
    redis_trust: Replaceable | None = field(init=False, default=None)
    barrier: RestoreBarrier = field(init=False)
    availability: Availability = field(init=False)
    status_page: StatusPage | None = field(init=False, default=None)
    snapshots: Snapshots | None = field(init=False, default=None)
    client: UpstreamClient = field(init=False)
    limiter: RateLimiter = field(init=False)
    mirror: Mirror = field(init=False)
    resource: MirrorResource = field(init=False)
    figures: Figures = field(init=False)
    admin: Admin = field(init=False)

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        github, cache, server = settings.github, settings.cache, settings.server
        name = pseudonym(github.api_url)
        via = b"1.1 " + name
        self.metrics = Metrics(self.reactor.seconds)
        self.budgets = Budgets.of(self.reactor, settings.memory.max_content_size)
        self.metrics.watch_budgets(self.budgets)
        self.threads = ContentThreads(self.reactor, self.budgets.conversion)
        secret = cache.current_credential_secret().encode()
        self.memory = MemoryStore(self.reactor, settings.memory.max_size - self._forms_size)
        self.availability = Availability(self._github_changed)
        if github.status_url:
            self.status_page = StatusPage(
                self.reactor,
                github.status_url,
                github.status_interval,
                self.availability,
                _trust(settings),
                random.random,
                proxy=proxy_of(github),
            )
        self.barrier = RestoreBarrier(self.reactor, settings.snapshot.restore_wait)
        if cache.backend == "redis":
            self.redis = self._with_redis(Codec(secret))
        if settings.snapshot.target:
            self.snapshots = self._with_snapshots(Codec(secret))
        self.metrics.watch_store(self.memory.name, self._figures)
        if self.redis is not None:
            self.metrics.watch_store(self.redis.name, self._figures_of_redis)
        origin = Origin.of(github.api_url)
        self.client = UpstreamClient(
            self.reactor,
            origin,
            via,
            connect_timeout_s=github.connect_timeout,
            idle_timeout_s=github.idle_timeout,
            max_connections=github.max_connections,
            trust=_trust(settings),
            proxy=proxy_of(github),
        )
        budgets: IBudgets = MemoryBudgets()
        if self.redis is not None:
            redis = self.redis
            budgets = RedisBudgets(redis.redis, settings.redis.timeout, redis.history)
        self.limiter = RateLimiter(
            self.reactor,
            budgets,
            github.max_connections,
            github.max_in_flight_per_credential,
            github.points_per_minute,
            github.reserve,
        )
        self.mirror = Mirror(
            self.reactor,
            self.redis or MeasuredStore(self.memory, self.metrics.store, time.perf_counter),
            self.client,
            self.threads,
            CredentialRegistry(CredentialNames(secret, origin_of(github.api_url))),
            Users(),
            self.metrics,
            _terms(settings),
            Sharing(wanted=cache.share),
            self.barrier,
            self.availability,
            self.limiter,
            self.budgets,
        )
        self.metrics.watch_sharing(lambda: self.mirror.sharing.enabled(self.mirror.now()))
        self.resource = MirrorResource(
            self.reactor,
            self.mirror,
            ClientResponseBuilder(
                Rewriter(github.api_url.encode(), origin.uploads_url),
                self.threads,
                via,
                VariantCache(self._forms_size),
                self.budgets,
            ),
            self.metrics,
            AccessLog(cast(Literal["all", "errors", "none"], settings.log.access)),
            self.readiness,
            pseudonym=name,
            max_request_size=server.max_request_size,
            addressing=Addressing(
                github.api_url.encode(), origin.uploads_url, server.public_url.encode()
            ),
            trusted_proxies=server.trusted_proxies,
            enterprise_version=server.enterprise_version.encode(),
        )
        self.figures = self._told().figures(self.metrics, self.resource.busiest)
        self.admin = Admin(self.readiness, self.metrics, self.figures.document)

    def _told(self) -> Told:
        """Return who tells what of all that is shown."""
        return Told(
            reactor=self.reactor,
            settings=self.settings,
            readiness=self.readiness,
            sharing=self.mirror.sharing,
            stops=self.mirror.sender.limits,
            users=self.mirror.users,
            availability=self.availability,
            memory=self.memory,
            redis=self.redis,
            snapshots=self.snapshots,
        )

    @property
    def _forms_size(self) -> int:
        """How much of the memory that there is for content is for the forms in which it is sent."""
        settings = self.settings
        size = settings.memory.max_size
        if settings.cache.backend == "redis":
            size = min(size, settings.redis.local_size)
        return size // _FORMS_PART

    def _with_redis(self, codec: Codec) -> FailoverStore:
        """Return the store in Redis, with the memory store beside it."""
        settings = self.settings.redis
        trust = self.redis_trust = Replaceable(redis_trust(settings))
        records = redis_records(
            self.reactor,
            self.settings,
            codec,
            self.threads,
            trust,
            self._redis_changed,
            self._redis_connected,
        )
        self.metrics.store_available(False)
        return FailoverStore(
            self.reactor,
            records,
            self.memory,
            Sizes(
                beside=settings.local_size - self._forms_size,
                instead=self.settings.memory.max_size - self._forms_size,
            ),
            settings.timeout,
            settings.fallback,
            self.metrics.store,
            time.perf_counter,
            self._redis_changed,
            grace_s=self.settings.server.shutdown_grace,
        )

    def _redis_connected(self) -> None:
        """Take note of a new connection to Redis."""
        if self.redis is not None:
            self.redis.connected()

    def _github_changed(self, available: bool) -> None:
        """Take note that GitHub came or went."""
        self.metrics.github_available(available)
        if available:
            _log.info("GitHub is back")
        else:
            _log.warn("GitHub is away; what was granted before is answered stale")

    def _redis_changed(self) -> None:
        """Take note that Redis came or went."""
        if self.redis is None:
            return
        self.redis.changed()
        self.metrics.store_available(self.redis.available)
        if self.snapshots is not None and self.redis.is_settled:
            (self.snapshots.redis_came if self.redis.available else self.snapshots.redis_went)()

    def _with_snapshots(self, codec: Codec) -> Snapshots:
        """Return what keeps copies of the store, and fills it from them."""
        here = MemoryArchive(self.reactor, self.memory, codec, self.threads)
        archive: Any = here
        if self.redis is not None:
            archive = RedisArchive(self.redis.redis, server_of(self.settings))
        stands_in = self.redis is not None and self.settings.redis.fallback
        return Snapshots(
            self.reactor,
            self.settings,
            archive,
            here if stands_in else None,
            self.barrier,
            self.metrics,
            self.reactor.seconds,
            uuid4().hex,
        )

    @property
    def parts(self) -> tuple[Any, ...]:
        """What is opened and closed with the mirror, in the order of closing."""
        parts = (
            self.figures.history,
            self.status_page,
            self.mirror,
            self.limiter,
            self.snapshots,
            self.client,
            self.store,
            self.threads,
        )
        return tuple(part for part in parts if part is not None)

    @property
    def store(self) -> Any:
        """What is remembered with."""
        return self.redis or self.memory

    def _figures(self) -> tuple[int, int, int, int]:
        store = self.memory
        return store.size, store.representations, store.grants, store.evictions

    def _figures_of_redis(self) -> StoreFigures:
        assert self.redis is not None
        figures = self.redis.figures
        return figures.used_bytes, None, None, figures.evictions

    def reread(self) -> None:
        """Take the list of users and all `*_path` files anew; with a fault, keep what was."""
        try:
            settings = read(self.config)
            secret = settings.cache.current_credential_secret().encode()
            trust, redis = _trust(settings), redis_trust(settings.redis)
        except ConfigError as error:
            for fault in error.faults:
                _log.error("Not reread: {fault}", fault=fault)
            return
        self.mirror.options = evolve(
            self.mirror.options, allowed_users=settings.server.allowed_users
        )
        credentials = self.mirror.credentials
        if secret != credentials.names.secret:
            credentials.names = CredentialNames(secret, credentials.names.origin)
        if self.redis is not None:
            self.redis.redis.codec = Codec(secret)
        if self.redis_trust is not None:
            self.redis_trust.current = redis
        if self.snapshots is not None:
            self.snapshots.use(Codec(secret))
        self.client.use(trust)
        if self.status_page is not None:
            self.status_page.use(trust)
        _log.info("The configuration's users and files have been reread")


def _log_stream(reactor: Any, twistd: Any) -> Any:
    """Return where twistd's own log would go: a file for a daemon or ``--logfile``, else stdout.

    *twistd* has its options. SIGUSR1 rotates the file, as twistd has it.
    """
    name = twistd.get("logfile")
    nodaemon = twistd.get("nodaemon", True)
    if name == "-" and not nodaemon:
        sys.stderr.write("A daemon cannot log to stdout: use --nodaemon or another --logfile\n")
        raise SystemExit(1)
    if name == "-" or (nodaemon and not name):
        return sys.stdout
    file = LogFile.fromFullPath(name or "twistd.log")
    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(file.rotate))
    return file


def _about(config: str | None, settings: Settings) -> str:
    """Return the main settings in one line, for the log."""
    parts = {
        "config": "none, defaults" if config is None else Path(config).absolute(),
        "api_url": settings.github.api_url,
        "store": settings.cache.backend,
        "snapshots": settings.snapshot.target or "none",
    }
    return " ".join(f"{name}={value}" for name, value in parts.items())


def makeService(options: Options) -> MultiService:
    """Return the service that twistd runs."""
    from twisted.internet import reactor  # noqa: PLC0415 - chosen by twistd, and not before

    SteadyClock().rule(reactor)
    settings = options.settings
    twistd = getattr(options, "parent", None) or {}
    try:
        house = House(reactor, settings, options["config"])
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None
    most = for_clients(raise_limit(), settings.github.max_connections)
    site = MirrorSite(house.resource, MirrorRequest, reactor, most)
    server = settings.server
    admin = admin_site(house.admin, server.admin_hosts, reactor)
    service = MirrorService(
        reactor,
        house.resource,
        site,
        house.readiness,
        house.parts,
        house.reread,
        shutdown_delay_s=server.shutdown_delay,
        shutdown_grace_s=server.shutdown_grace,
        observer=logs.observer(
            _log_stream(reactor, twistd),
            settings.log.format,
            settings.log.level,
        ),
        warnings=settings.warnings,
        about=_about(options["config"], settings),
    )
    # The admin port is never shared: whoever asked for metrics would get some process's.
    shared = SharingPorts(reactor) if server.reuse_port else reactor
    for what, option, descriptions, factory, ports in (
        ("listening", "listen", server.listen, site, shared),
        ("admin listening", "admin_listen", server.admin_listen, admin, reactor),
    ):
        for description in descriptions:
            endpoint = serverFromString(ports, with_backlog(description))
            daemon = not twistd.get("nodaemon", True)
            service.listeners.append(Listener(what, option, description, endpoint, factory, daemon))
    return service
