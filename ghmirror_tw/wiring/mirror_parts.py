"""Builds all parts of one mirror and connects them."""

from __future__ import annotations

import hashlib
from typing import Any, Final, Literal, cast

from attrs import frozen

from ghmirror_tw.caching.credential_names import CredentialNames
from ghmirror_tw.caching.key import server_id
from ghmirror_tw.config.settings import Settings
from ghmirror_tw.github.client_base_urls import BaseUrlSelector
from ghmirror_tw.github.sharing_circuit_breakers import Sharing
from ghmirror_tw.github.url_rewriting import Rewriter
from ghmirror_tw.http.path_globs import PathGlobs
from ghmirror_tw.proxy.mirror import Mirror
from ghmirror_tw.proxy.mirror_options import MirrorOptions
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.runtime.reactor_lag import ReactorLag
from ghmirror_tw.runtime.restore_barrier import RestoreBarrier
from ghmirror_tw.store.failover import FailoverStore
from ghmirror_tw.store.memory_store import MemoryStore
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.telemetry.status_document import StatusDocument
from ghmirror_tw.upstream.byte_budget import ByteBudgets
from ghmirror_tw.upstream.credential_registry import CredentialRegistry
from ghmirror_tw.upstream.github_breaker import GitHubBreaker
from ghmirror_tw.upstream.http_client import Origin, UpstreamClient
from ghmirror_tw.upstream.logins import LoginCache
from ghmirror_tw.upstream.rate_limiter import RateLimiter
from ghmirror_tw.upstream.status_page import StatusPage
from ghmirror_tw.web.access_log import AccessLog
from ghmirror_tw.web.admin_site import Admin
from ghmirror_tw.web.client_response_builder import ClientResponseBuilder
from ghmirror_tw.web.health import Readiness
from ghmirror_tw.web.mirror_resource import MirrorResource
from ghmirror_tw.web.variant_cache import VariantCache
from ghmirror_tw.web.variant_maker import VariantMaker
from ghmirror_tw.wiring.github_parts import (
    build_availability,
    build_client,
    build_limiter,
    build_status_page,
)
from ghmirror_tw.wiring.snapshot_parts import Snapshots
from ghmirror_tw.wiring.status_sources import StatusSources, build_status_document
from ghmirror_tw.wiring.store_parts import (
    BuildRedis,
    StoreParts,
    build_failover_store,
    build_measured_store,
    build_semaphores,
    build_store_parts,
    variant_cache_size,
)

#: The time between two measurements of the reactor's lag for the metrics.
_LAG_INTERVAL_S: Final = 0.1


@frozen(eq=False, kw_only=True)
class MirrorParts:
    """The parts of one mirror that are started, stopped, reloaded or tested."""

    reactor: Any
    settings: Settings
    metrics: Metrics
    readiness: Readiness
    budgets: ByteBudgets
    threads: ContentThreads
    stores: StoreParts
    github_breaker: GitHubBreaker
    status_page: StatusPage | None
    lag: ReactorLag
    client: UpstreamClient
    limiter: RateLimiter
    mirror: Mirror
    resource: MirrorResource
    status_document: StatusDocument
    admin: Admin

    @property
    def memory(self) -> MemoryStore:
        """The store in memory."""
        return self.stores.memory

    @property
    def redis(self) -> FailoverStore | None:
        """The store in Redis, if there is one."""
        return self.stores.redis

    @property
    def barrier(self) -> RestoreBarrier:
        """The barrier that is closed during a restore."""
        return self.stores.barrier

    @property
    def snapshots(self) -> Snapshots | None:
        """The snapshots of the store, if they are configured."""
        return self.stores.snapshots

    @property
    def store(self) -> Any:
        """The store in use."""
        return self.redis or self.memory

    @property
    def in_closing_order(self) -> tuple[Any, ...]:
        """The parts that are opened and closed with the mirror, in the order of closing."""
        parts = (
            self.status_document.last_hour,
            self.lag,
            self.status_page,
            self.mirror,
            self.limiter,
            self.snapshots,
            self.client,
            self.store,
            self.threads,
        )
        return tuple(part for part in parts if part is not None)


def build_mirror_parts(
    reactor: Any, settings: Settings, build_redis: BuildRedis = build_failover_store
) -> MirrorParts:
    """Return the parts of a mirror with these settings. Raises `ConfigError`."""
    github = settings.github
    metrics = Metrics(reactor.seconds)
    readiness = Readiness()
    budgets = ByteBudgets.of(reactor, settings.memory.max_content_size)
    metrics.watch_budgets(budgets)
    threads = ContentThreads(reactor, budgets.conversion)
    availability = build_availability(metrics)
    status_page = build_status_page(reactor, github, availability)
    stores = build_store_parts(reactor, settings, threads, metrics, build_redis)
    pseudonym = _via_pseudonym(github.api_url)
    client = build_client(reactor, github, _via(pseudonym))
    limiter = build_limiter(reactor, github, build_semaphores(settings, stores.redis))
    mirror = _build_mirror(
        reactor, settings, metrics, budgets, threads, availability, stores, client, limiter
    )
    resource = _build_resource(reactor, settings, metrics, budgets, readiness, mirror, pseudonym)
    sources = StatusSources(reactor, settings, readiness, mirror, stores)
    document = build_status_document(sources, metrics, resource.busiest)
    return MirrorParts(
        reactor=reactor,
        settings=settings,
        metrics=metrics,
        readiness=readiness,
        budgets=budgets,
        threads=threads,
        stores=stores,
        github_breaker=availability,
        status_page=status_page,
        lag=ReactorLag(reactor, _LAG_INTERVAL_S, metrics.reactor_lag),
        client=client,
        limiter=limiter,
        mirror=mirror,
        resource=resource,
        status_document=document,
        admin=Admin(readiness, metrics, document.document),
    )


def _build_mirror(  # noqa: PLR0913, PLR0917 - the parts that it connects
    reactor: Any,
    settings: Settings,
    metrics: Metrics,
    budgets: ByteBudgets,
    threads: ContentThreads,
    github_breaker: GitHubBreaker,
    stores: StoreParts,
    client: UpstreamClient,
    limiter: RateLimiter,
) -> Mirror:
    secrets = settings.cache.credential_secrets()
    mirror = Mirror(
        reactor,
        build_measured_store(stores, metrics),
        client,
        threads,
        CredentialRegistry(CredentialNames.by(secrets, server_id(settings.github.api_url))),
        LoginCache(),
        metrics,
        _mirror_options(settings),
        Sharing(configured=settings.cache.share),
        stores.barrier,
        github_breaker,
        limiter,
        budgets,
    )
    metrics.watch_sharing(lambda: mirror.sharing.enabled(mirror.now()))
    return mirror


def _mirror_options(settings: Settings) -> MirrorOptions:
    cache, github = settings.cache, settings.github
    return MirrorOptions(
        allowed_users=settings.server.allowed_users,
        fresh_for=cache.fresh_for,
        negative_for=cache.negative_for,
        validate_by_date=PathGlobs(cache.validate_by_date),
        verify_last=cache.verify_last,
        api_url=github.api_url.encode(),
        stale_limit=cache.stale_limit,
        max_stored_size=cache.max_stored_size,
        collapse_wait=cache.collapse_wait,
        timeout=github.timeout,
        stale_after=github.stale_after,
    )


def _build_resource(  # noqa: PLR0913, PLR0917 - the parts that it connects
    reactor: Any,
    settings: Settings,
    metrics: Metrics,
    budgets: ByteBudgets,
    readiness: Readiness,
    mirror: Mirror,
    pseudonym: bytes,
) -> MirrorResource:
    server = settings.server
    api_url = settings.github.api_url.encode()
    uploads_url = Origin.of(settings.github.api_url).uploads_url
    return MirrorResource(
        reactor,
        mirror,
        ClientResponseBuilder(
            VariantMaker(
                Rewriter(api_url, uploads_url),
                mirror.threads,
                VariantCache(variant_cache_size(settings)),
                budgets,
            ),
            _via(pseudonym),
        ),
        metrics,
        AccessLog(cast(Literal["all", "errors", "none"], settings.log.access)),
        readiness,
        pseudonym=pseudonym,
        max_request_size=server.max_request_size,
        addressing=BaseUrlSelector(api_url, uploads_url, server.public_url.encode()),
        trusted_proxies=server.trusted_proxies,
        enterprise_version=server.enterprise_version.encode(),
    )


def _via_pseudonym(api_url: str) -> bytes:
    """Return the name that all mirrors of one API have in `Via`, so that each detects a loop."""
    return b"ghmirror-" + hashlib.sha256(api_url.encode()).hexdigest()[:12].encode()


def _via(pseudonym: bytes) -> bytes:
    return b"1.1 " + pseudonym
