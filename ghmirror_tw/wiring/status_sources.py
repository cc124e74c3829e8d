"""Sources of the status document: the present state of a mirror's parts."""

from __future__ import annotations

import os
import socket
from typing import Any

from attrs import frozen

from ghmirror_tw import __version__
from ghmirror_tw.config.settings import Settings
from ghmirror_tw.github.reported_limit import Limit
from ghmirror_tw.proxy.mirror import Mirror
from ghmirror_tw.telemetry.busiest import Busiest
from ghmirror_tw.telemetry.last_hour import LastHour
from ghmirror_tw.telemetry.metric_totals import RequestTotals
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.telemetry.status_document import StatusDocument
from ghmirror_tw.web.health import Readiness
from ghmirror_tw.wiring.store_parts import StoreParts


def build_status_document(
    sources: StatusSources, metrics: Metrics, busiest: Busiest
) -> StatusDocument:
    """Return the status document, and show the limits in force in *metrics*."""
    metrics.watch_limits(
        lambda: [(user, scope or "all", kind) for user, kind, scope in sources.active_limits()]
    )
    now = sources.reactor.seconds

    def elapsed(seconds: float) -> None:
        for counted in (busiest, metrics.paid_operations):
            counted.decay(seconds)

    last_hour = LastHour(sources.reactor, lambda: RequestTotals.of(metrics), elapsed)
    constants = {
        "version": __version__,
        "replica": socket.gethostname(),
        "pid": os.getpid(),
        "started_at": round(now(), 3),
    }
    sections = {
        "state": sources.state,
        "sharing": sources.sharing,
        "github": sources.github,
        "stops": sources.limits,
        "store": sources.store,
        "snapshots": sources.snapshots,
    }
    return StatusDocument(now, metrics, last_hour, busiest, constants, sections)


@frozen(eq=False)
class StatusSources:
    """The parts of a mirror whose state the status document shows; a method for each section."""

    reactor: Any
    settings: Settings
    readiness: Readiness
    mirror: Mirror
    stores: StoreParts

    def state(self) -> str:
        """Return ``ready``, ``degraded`` without GitHub or Redis, or why it is not ready."""
        github_away, redis = self.mirror.github_breaker.is_open, self.stores.redis
        if self.readiness.ready and (github_away or (redis is not None and not redis.available)):
            return "degraded"
        return self.readiness.reason

    def sharing(self) -> dict[str, Any]:
        """Return whether validators are computed for representations of other credentials."""
        now = self.reactor.seconds()
        sharing = self.mirror.sharing
        return {
            "wanted": sharing.configured,
            "enabled": sharing.enabled(now),
            "lists": sharing.lists_enabled(now),
        }

    def github(self) -> dict[str, Any]:
        """Return the state of GitHub's circuit breaker and of its status page."""
        github_breaker = self.mirror.github_breaker
        status, at = github_breaker.page_status or (None, None)
        has_page = bool(self.settings.github.status_url)
        return {
            "api_url": self.settings.github.api_url,
            "available": not github_breaker.is_open,
            "reason": github_breaker.reason,
            "failures": github_breaker.failures,
            "page": {"status": status, "at": at} if has_page else None,
        }

    def active_limits(self) -> dict[tuple[str, str, str], list[Limit]]:
        """Return the rate limits in force by user, kind and scope; credentials are not shown."""
        now = self.reactor.seconds()
        by_user: dict[tuple[str, str, str], list[Limit]] = {}
        mirror = self.mirror
        for token, limit in mirror.sender.limits.in_force(now):
            user = mirror.users.peek_login(token, now) or mirror.credentials.app(token)
            by_user.setdefault((user or "unknown", limit.kind.value, limit.scope), []).append(limit)
        return by_user

    def limits(self) -> list[dict[str, Any]]:
        """Return the rate limits in force, one entry for those of one user; the longest first."""
        shown = [
            {
                "user": user,
                "kind": kind,
                "resource": resource or None,
                "until": max(limit.until for limit in limits),
                "credentials": len(limits),
            }
            for (user, kind, resource), limits in self.active_limits().items()
        ]
        return sorted(shown, key=lambda each: (-each["until"], each["user"]))

    def store(self) -> dict[str, Any]:
        """Return the state of the store, and of the circuit breakers of Redis."""
        memory, redis = self.stores.memory, self.stores.redis
        if redis is None:
            return {
                "backend": "memory",
                "available": True,
                "limit": memory.max_size,
                "breaker": None,
            }
        servers = redis.redis.servers
        fault = servers.fault
        return {
            "backend": "redis",
            "available": redis.available,
            "limit": memory.max_size,
            "breaker": {
                "reading": bool(servers.reading),
                "writing": bool(servers.writing),
                "fallback": self.settings.redis.fallback,
                "address": (fault and fault.address) or None,
                "reason": fault and fault.reason,
                "since": fault and redis.availability.unavailable_since,
            },
        }

    def snapshots(self) -> dict[str, Any] | None:
        """Return when the next snapshot is due, and whether one is being restored."""
        snapshots = self.stores.snapshots
        if snapshots is None:
            return None
        return {
            "target": self.settings.snapshot.target,
            "interval": self.settings.snapshot.interval,
            "next_at": snapshots.next_at,
            "filling": snapshots.barrier.is_shut,
            "restoring": snapshots.restorer.is_running,
            "foreign": snapshots.access.repository.foreign_count,
            "foreign_option": snapshots.access.repository.foreign_option,
        }
