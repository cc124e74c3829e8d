"""Builds the parts that send requests to GitHub, and those that follow its availability."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

from ghmirror_tw.config.address_kinds import proxy_at
from ghmirror_tw.config.option import ConfigError
from ghmirror_tw.config.settings import GitHub
from ghmirror_tw.http.outbound_proxy import OutboundProxy
from ghmirror_tw.store.permit_lease_interface import IFleetSemaphores
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.upstream.connection_error_texts import ProxyError
from ghmirror_tw.upstream.github_breaker import GitHubBreaker
from ghmirror_tw.upstream.http_client import Origin, UpstreamClient
from ghmirror_tw.upstream.rate_limiter import RateLimiter
from ghmirror_tw.upstream.status_page import StatusPage
from ghmirror_tw.wiring.tls_trust import build_trust

_log: Final = Logger(namespace="ghmirror")


def build_github_trust(github: GitHub) -> Any:
    """Return the certificate authorities that GitHub's certificate is verified with.

    Raises `ConfigError`.
    """
    return build_trust("github", "ca_path", github.ca_path)


def build_outbound_proxy(github: GitHub) -> Callable[[], OutboundProxy] | None:
    """Return a function that reads the proxy's address and credentials; None without a proxy.

    It is called for each new connection. It raises `ProxyError`, which names the option, if the
    file with the proxy's URL can no longer be read.
    """
    if not github.proxy and not github.proxy_path:
        return None

    def current_proxy() -> OutboundProxy:
        try:
            url = github.current_proxy()
        except ConfigError as error:
            raise ProxyError(str(error)) from error
        return proxy_at(url)

    return current_proxy


def build_availability(metrics: Metrics) -> GitHubBreaker:
    """Return the circuit breaker of GitHub, which logs its changes and shows them in *metrics*."""

    def availability_changed(available: bool) -> None:
        metrics.github_available(available)
        if available:
            _log.info("GitHub available again, circuit closed")
        else:
            _log.warn(
                "GitHub unavailable, circuit open: serving stale responses; reason={reason}",
                reason=github_breaker.reason,
            )

    github_breaker = GitHubBreaker(availability_changed)
    return github_breaker


def build_status_page(
    reactor: Any, github: GitHub, github_breaker: GitHubBreaker
) -> StatusPage | None:
    """Return the poller of GitHub's status page, or None if that is not configured."""
    if not github.status_url:
        return None
    return StatusPage(
        reactor,
        github.status_url,
        github.status_interval,
        github_breaker,
        build_github_trust(github),
        random.random,
        proxy=build_outbound_proxy(github),
    )


def build_client(reactor: Any, github: GitHub, via: bytes) -> UpstreamClient:
    """Return the HTTP client for GitHub; *via* is its `Via` field (RFC 9110, section 7.6.3)."""
    return UpstreamClient(
        reactor,
        Origin.of(github.api_url),
        via,
        connect_timeout_s=github.connect_timeout,
        idle_timeout_s=github.idle_timeout,
        max_connections=github.max_connections,
        trust=build_github_trust(github),
        proxy=build_outbound_proxy(github),
    )


def build_limiter(reactor: Any, github: GitHub, semaphores: IFleetSemaphores | None) -> RateLimiter:
    """Return the limiter of requests that are sent to GitHub."""
    return RateLimiter(
        reactor,
        semaphores,
        github.max_connections,
        github.max_in_flight_per_credential,
        github.points_per_minute,
        github.reserve,
    )
