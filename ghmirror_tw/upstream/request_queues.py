"""The queues of all credentials: created on demand, dropped when idle.

A credential that GitHub has accepted has a queue of its own, with semaphores that the fleet shares.
All others share two queues, one for checks of credentials and one for other requests, whose
permits are a part of the connections of this process.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any, Final
from uuid import uuid4

from attrs import define, field

from ghmirror_tw.runtime.semaphore import Semaphore
from ghmirror_tw.store.fleet_semaphore import FleetSemaphore
from ghmirror_tw.store.permit_lease_interface import Capacity, IFleetSemaphores, PermitLease
from ghmirror_tw.upstream.points_limit import PointsLimit
from ghmirror_tw.upstream.request_queue import IN_FLIGHT, RequestQueue

#: The queues of unaccepted credentials: for checks of them (`credential_check`), and for the rest.
CHECKS: Final = "checks"
UNACCEPTED: Final = "unverified"
#: Each of the two has this fraction of all connections in any case, and at least so many.
_UNACCEPTED_FRACTION: Final = 10
_UNACCEPTED_LEAST: Final = 4
#: How many queues are kept while they are idle, where no other replica needs their permits.
_KEPT: Final = 1000
_MINUTE_S: Final = 60.0


def permits_for_unaccepted(max_connections: int) -> int:
    """Return how many requests of unaccepted credentials may be in flight at once."""
    return max(max_connections // _UNACCEPTED_FRACTION, _UNACCEPTED_LEAST)


@define(eq=False, kw_only=True)
class RequestQueues:
    """Creates the queues. *connections* returns how many requests are in flight.

    *semaphores*: those of the fleet; None: this process shares them with no other. *on_change* is
    called with a queue for which permits may be free.
    """

    clock: Any
    semaphores: IFleetSemaphores | None
    max_connections: int
    max_in_flight: int
    points: PointsLimit
    connections: Callable[[], int]
    on_change: Callable[[RequestQueue], object]
    chance: Callable[[], float] = field(factory=lambda: random.SystemRandom().random)
    #: The queues of accepted credentials, by credential.
    accepted: dict[str, RequestQueue] = field(init=False, factory=dict)
    #: The two queues of unaccepted credentials, by name.
    unaccepted: dict[str, RequestQueue] = field(init=False)
    _owner: str = field(init=False, factory=lambda: uuid4().hex[:16])
    _numbers: Iterator[int] = field(init=False, factory=lambda: itertools.count(1))

    def __attrs_post_init__(self) -> None:
        limits = {CHECKS: self._limit_of_checks, UNACCEPTED: self._limit_of_unaccepted}
        self.unaccepted = {
            name: RequestQueue(name, Semaphore(clock=self.clock, limit=limit), unaccepted=True)
            for name, limit in limits.items()
        }

    def _limit_of_unaccepted(self) -> int:
        return permits_for_unaccepted(self.max_connections)

    def _limit_of_checks(self) -> int:
        # Half of the connections that others do not use, for many new credentials at once.
        used = self.connections() - self.unaccepted[CHECKS].in_flight.used
        return max(self._limit_of_unaccepted(), (self.max_connections - used) // 2)

    def of(self, credential: str) -> RequestQueue:
        """Return the queue of an accepted credential."""
        queue = self.accepted.get(credential)
        if queue is None:
            queue = self.accepted[credential] = self._create(credential)
        if self.points.in_use or queue.points:
            self.count_points(queue)
        return queue

    def _create(self, credential: str) -> RequestQueue:
        capacity = Capacity(credential, IN_FLIGHT, self.max_in_flight)
        in_flight = self._semaphore(capacity, lambda: queue.length, lambda: 1)
        queue = RequestQueue(credential, in_flight)
        return queue

    def _semaphore(
        self, capacity: Capacity, waiting: Callable[[], int], least: Callable[[], int]
    ) -> Semaphore:
        credential = capacity.credential

        def on_free() -> None:
            queue = self.accepted.get(credential)
            if queue is not None:
                self.on_change(queue)

        def on_lease(lease: PermitLease) -> None:
            if lease.limited_s:
                self.points.note_secondary_limit(credential, lease.limited_s)

        common: dict[str, Any] = {
            "clock": self.clock,
            "limit": lambda: capacity.limit,
            "cooldown_s": capacity.cooldown_s,
            "on_free": on_free,
        }
        if self.semaphores is None:
            return Semaphore(**common)
        return FleetSemaphore(
            **common,
            semaphores=self.semaphores,
            capacity=capacity,
            owner=self._owner,
            numbers=self._numbers,
            waiting=waiting,
            least=least,
            on_lease=on_lease,
            chance=self.chance,
        )

    def count_points(self, queue: RequestQueue) -> None:
        """Count the points of a queue's requests if `PointsLimit` is in use for it, else stop."""
        if queue.unaccepted or not (self.points.in_use or queue.points):
            return
        for kind, waiting in queue.waiting.items():
            limit = self.points.of(queue.name, kind)
            if not limit:
                points = queue.points.pop(kind, None)
                if points is not None:
                    points.close()
            elif kind not in queue.points and waiting:
                queue.points[kind] = self._points(queue, kind, limit)

    def _points(self, queue: RequestQueue, kind: str, limit: int) -> Semaphore:
        return self._semaphore(
            Capacity(queue.name, kind, limit, _MINUTE_S),
            lambda: queue.points_waiting(kind),
            lambda: queue.points_of_next(kind),
        )

    def cause(self, queue: RequestQueue, kind: str) -> str:
        """Return the limit because of which the requests of a queue wait."""
        points = queue.points.get(kind)
        if queue.unaccepted:
            return (
                "Too many requests are under way with credentials that GitHub has not accepted yet"
            )
        if queue.in_flight.available < 1:
            most = self.max_in_flight
            under_way = (
                f"This credential has {most} requests under way, as many as this mirror allows"
            )
            return f"{under_way} ([github] max_in_flight_per_credential = {most})"
        if points is not None and points.available < queue.points_of_next(kind):
            used = f"This credential has used {self.points.of(queue.name, kind)} points in a minute"
            return f"{used} ([github] points_per_minute = {self.points.points_per_minute})"
        most = self.max_connections
        return f"The mirror has {most} requests under way ([github] max_connections = {most})"

    def drop_idle(self, queue: RequestQueue) -> None:
        """Drop a queue if it is idle, and the fleet or the bound on idle queues requires it."""
        if self.semaphores is None and len(self.accepted) <= _KEPT:
            return
        if queue.idle and self.accepted.get(queue.name) is queue:
            del self.accepted[queue.name]
            for semaphore in queue.semaphores:
                semaphore.close()

    def close(self) -> list[RequestQueue]:
        """Return all queues, of which none is used any more."""
        queues = [*self.accepted.values(), *self.unaccepted.values()]
        self.accepted = {}
        return queues
