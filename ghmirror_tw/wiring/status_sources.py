"""What the status page shows, as it is set up: which part tells what."""

from __future__ import annotations

import os
import socket
from typing import Any

from attrs import frozen

from ghmirror_tw import __version__
from ghmirror_tw.config.settings import Settings
from ghmirror_tw.github.rate_limits import Limit
from ghmirror_tw.github.sharing import Sharing
from ghmirror_tw.redis_store.failover import FailoverStore
from ghmirror_tw.store.memory_store import MemoryStore
from ghmirror_tw.telemetry.busiest import Busiest
from ghmirror_tw.telemetry.last_hour import History
from ghmirror_tw.telemetry.metric_readings import Totals
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.telemetry.status_document import Figures
from ghmirror_tw.upstream.availability import Availability
from ghmirror_tw.upstream.limits import ActiveLimits
from ghmirror_tw.upstream.users import Users
from ghmirror_tw.web.health import Readiness
from ghmirror_tw.wiring.snapshot_parts import Snapshots


@frozen(eq=False, kw_only=True)
class Told:
    """The parts of a mirror that tell something of themselves."""

    reactor: Any
    settings: Settings
    readiness: Readiness
    sharing: Sharing
    stops: ActiveLimits
    users: Users
    availability: Availability
    memory: MemoryStore
    redis: FailoverStore | None
    snapshots: Snapshots | None

    def figures(self, metrics: Metrics, busiest: Busiest) -> Figures:
        """Return all that is shown."""
        metrics.watch_limits(
            lambda: [(user, scope or "all", kind) for user, kind, scope in self._limits()]
        )
        now = self.reactor.seconds
        history = History(
            self.reactor,
            lambda: Totals.of(metrics),
            busiest.decay,
        )
        about = {
            "version": __version__,
            "replica": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": round(now(), 3),
        }
        tellers = {
            "state": lambda: self.readiness.reason,
            "sharing": self._sharing,
            "github": self._github,
            "stops": self._stops,
            "store": self._store,
            "snapshots": self._snapshots,
        }
        return Figures(now, metrics, history, busiest, about, tellers)

    def _sharing(self) -> dict[str, Any]:
        now = self.reactor.seconds()
        return {
            "wanted": self.sharing.wanted,
            "enabled": self.sharing.enabled(now),
            "lists": self.sharing.lists_enabled(now),
        }

    def _github(self) -> dict[str, Any]:
        page = self.availability.page
        asked = bool(self.settings.github.status_url)
        said, at = page or (None, None)
        return {
            "api_url": self.settings.github.api_url,
            "available": not self.availability.offline,
            "failures": self.availability.failures,
            "page": {"status": said, "at": at} if asked else None,
        }

    def _limits(self) -> dict[tuple[str, str, str], list[Limit]]:
        """Return the limits in force by user, kind and scope; a credential is never named."""
        now = self.reactor.seconds()
        found: dict[tuple[str, str, str], list[Limit]] = {}
        for credential, limit in self.stops.in_force(now):
            user = self.users.known(credential, now) or "unknown"
            found.setdefault((user, limit.kind.value, limit.scope), []).append(limit)
        return found

    def _stops(self) -> list[dict[str, Any]]:
        """Return the limits in force, those of one user as one."""
        told = [
            {
                "user": user,
                "kind": kind,
                "resource": resource or None,
                "until": max(limit.until for limit in limits),
                "credentials": len(limits),
            }
            for (user, kind, resource), limits in self._limits().items()
        ]
        return sorted(told, key=lambda each: (-each["until"], each["user"]))

    def _store(self) -> dict[str, Any]:
        if self.redis is None:
            return {
                "backend": "memory",
                "available": True,
                "limit": self.memory.max_size,
                "breaker": None,
            }
        servers = self.redis.redis.servers
        return {
            "backend": "redis",
            "available": self.redis.available,
            "limit": self.memory.max_size,
            "breaker": {
                "reading": bool(servers.reading),
                "writing": bool(servers.writing),
                "fallback": self.settings.redis.fallback,
            },
        }

    def _snapshots(self) -> dict[str, Any] | None:
        if self.snapshots is None:
            return None
        return {
            "target": self.settings.snapshot.target,
            "interval": self.settings.snapshot.interval,
            "next_at": self.snapshots.next_at,
            "filling": self.snapshots.barrier.is_shut,
        }
