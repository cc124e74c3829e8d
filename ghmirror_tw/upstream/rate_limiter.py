"""Rate limiter: per credential a concurrency limit and a budget of points a minute, round-robin.

GitHub's secondary limits, for each credential: 100 concurrent requests, and points a minute, of
which a read costs one and a write five (GitHub: rate limits for the REST API). A permit is acquired
before a request is sent, and released when its response has come in full. Credentials with waiting
requests are served in turn; the requests of one credential in order of arrival.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from math import ceil
from typing import Any, Final, Literal

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed

from ghmirror_tw.github.rate_limit_resources import GRAPHQL as GRAPHQL_BUCKET
from ghmirror_tw.http import error_responses
from ghmirror_tw.runtime.semaphore import Semaphore
from ghmirror_tw.store.fleet_semaphore import FleetSemaphore
from ghmirror_tw.store.permit_lease_interface import IFleetSemaphores
from ghmirror_tw.upstream.points_limit import COUNTED_S, PointsLimit
from ghmirror_tw.upstream.quota_reserve import QuotaReserve
from ghmirror_tw.upstream.request_cost import READ_POINTS
from ghmirror_tw.upstream.request_queue import (
    GRAPHQL,
    REST,
    Permit,
    RequestQueue,
    WaitingRequest,
)
from ghmirror_tw.upstream.request_queues import UNACCEPTED, RequestQueues

#: The longest wait for a permit, in seconds.
LONGEST_WAIT_S: Final = 10.0
#: The largest number of waiting requests: of one credential, of all accepted ones, and of each
#: queue of unaccepted ones. After a cold start, thousands of valid tokens are unaccepted.
MOST_OF_ONE: Final = 1000
MOST_OF_ALL: Final = 10_000
MOST_UNACCEPTED: Final = 5000

_NOTHING: Final = nullcontext()


@define(eq=False)
class _Prefetching(AbstractContextManager[None]):
    """Requests permits of *semaphores* ahead of a request."""

    semaphores: tuple[FleetSemaphore, ...]

    def __enter__(self) -> None:
        for semaphore in self.semaphores:
            semaphore.begin_expecting()

    def __exit__(self, *_: object) -> None:
        for semaphore in self.semaphores:
            semaphore.end_expecting()


@define(eq=False)
class RateLimiter:
    """Gives out permits to send requests to GitHub.

    *semaphores*: those of the fleet; None: this process shares its limits with no other.
    *max_connections*: of this process; *max_in_flight*: of a credential, in the fleet.
    *points_per_minute*: see `PointsLimit`; *reserve*: see `QuotaReserve`.
    """

    reactor: Any
    semaphores: IFleetSemaphores | None
    max_connections: int
    max_in_flight: int
    points_per_minute: int | Literal["auto"]
    reserve: int
    chance: Callable[[], float] = field(factory=lambda: random.SystemRandom().random)
    points: PointsLimit = field(init=False)
    queues: RequestQueues = field(init=False)
    quota_reserve: QuotaReserve = field(init=False)
    #: The number of permits in use.
    in_flight: int = field(init=False, default=0)
    #: The number of waiting requests.
    waiting: int = field(init=False, default=0)
    #: The queues that may have a request to serve, in the order of their turns.
    _ready: deque[RequestQueue] = field(init=False, factory=deque)
    _number: int = field(init=False, default=0)
    _serving: bool = field(init=False, default=False)
    _closed: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.quota_reserve = QuotaReserve(self.reactor, self.reserve)
        self.points = PointsLimit(self.reactor, self.points_per_minute)
        self.queues = RequestQueues(
            clock=self.reactor,
            semaphores=self.semaphores,
            max_connections=self.max_connections,
            max_in_flight=self.max_in_flight,
            points=self.points,
            connections=lambda: self.in_flight,
            on_change=self._serve,
            chance=self.chance,
        )

    @property
    def unaccepted_in_flight(self) -> int:
        """How many requests of unaccepted credentials are at GitHub."""
        return sum(queue.in_flight.used for queue in self.queues.unaccepted.values())

    # From GitHub's responses.

    def is_shared(self, credential: str) -> bool:
        """Return whether other replicas send requests of *credential*, as far as is known."""
        if self.semaphores is None:
            return False
        queue = self.queues.accepted.get(credential)
        return queue is None or queue.in_flight.is_shared

    def note_secondary_limit(self, credential: str) -> None:
        """Note a secondary limit: from now on points are counted, in the whole fleet."""
        if self.points.is_auto:
            self.points.note_secondary_limit(credential, COUNTED_S)
            if self.semaphores is not None:
                self.semaphores.note_secondary_limit(credential, COUNTED_S)

    def note_accepted(self, credential: str, permit: Permit) -> None:
        """Move the requests of *credential*, which GitHub has accepted, to a queue of its own.

        *permit* is that of the request whose response has shown it. The permit of a check is not
        moved, as it is released soon.
        """
        queue = self.queues.of(credential)
        if permit.queue is self.queues.unaccepted[UNACCEPTED] and permit.in_use:
            permit.queue.in_flight.release(1)
            permit.queue = queue
            queue.in_flight.acquire(1)
        for unaccepted in self.queues.unaccepted.values():
            unaccepted.move(credential, queue)
        self._serve(queue)
        self._serve_unaccepted()

    # Acquisition.

    def prefetch(self, credential: str) -> AbstractContextManager[None]:
        """Lease a permit from the fleet during a look-up, so that the request need not wait."""
        if self.semaphores is None or self._closed:
            return _NOTHING
        semaphores = self.queues.of(credential).semaphores
        return _Prefetching(tuple(each for each in semaphores if isinstance(each, FleetSemaphore)))

    def acquire(
        self,
        credential: str,
        bucket: str,
        points: int = READ_POINTS,
        *,
        timeout_s: float = LONGEST_WAIT_S,
        unaccepted: str = "",
    ) -> Deferred[Permit]:
        """Return a permit, at once or when it is the turn of the request.

        *bucket* is that of GitHub's quota. *unaccepted* names the queue of a credential that GitHub
        has not accepted yet. Fails with a `MirrorError` (503) after *timeout_s*, or where too many
        requests wait. Cancelling removes the request from its queue.
        """
        if self._closed:
            return fail(error_responses.shutting_down(1))
        queue = self.queues.unaccepted[unaccepted] if unaccepted else self.queues.of(credential)
        kind = GRAPHQL if bucket == GRAPHQL_BUCKET else REST
        if self.waiting and self._is_full(queue):
            return fail(self._overloaded(queue, kind))
        if self._is_clear(queue, kind):
            return succeed(self._permit(queue, None, 0))
        return self._enqueue(credential, queue, kind, points, timeout_s)

    def _is_full(self, queue: RequestQueue) -> bool:
        """Return whether too many requests wait."""
        if queue.unaccepted:
            return queue.length >= MOST_UNACCEPTED
        others = sum(each.length for each in self.queues.unaccepted.values())
        return queue.length >= MOST_OF_ONE or self.waiting - others >= MOST_OF_ALL

    def _is_clear(self, queue: RequestQueue, kind: str) -> bool:
        """Return whether a request need not wait, and no points are counted for it."""
        return (
            not self._ready
            and not (self.waiting and queue.length)
            and self.in_flight < self.max_connections
            and (queue.unaccepted or not (self.points.in_use and self.points.of(queue.name, kind)))
            and queue.in_flight.available > 0
        )

    def _enqueue(
        self, credential: str, queue: RequestQueue, kind: str, points: int, timeout_s: float
    ) -> Deferred[Permit]:
        def remove(error: error_responses.MirrorError | None = None) -> None:
            self._remove(request)
            if error is not None:
                request.permit.errback(error)
            self._serve(request.queue)

        self._number += 1
        permit: Deferred[Permit] = Deferred(lambda _: remove())
        points = self.points.bounded(points, kind)
        request = WaitingRequest(self._number, points, permit, credential, queue, kind)
        queue.waiting[kind].append(request)
        self.waiting += 1
        self._serve(queue)
        if not permit.called:
            wait_s = max(min(timeout_s, LONGEST_WAIT_S), 0.0)
            request.timer = self.reactor.callLater(
                wait_s, lambda: remove(self._overloaded(request.queue, kind))
            )
        return permit

    def _remove(self, request: WaitingRequest) -> None:
        queue = request.queue.waiting[request.kind]
        if request in queue:
            queue.remove(request)
            self.waiting -= 1
        if request.timer is not None and request.timer.active():
            request.timer.cancel()

    def _overloaded(self, queue: RequestQueue, kind: str) -> error_responses.MirrorError:
        cause = self.queues.cause(queue, kind)
        return error_responses.no_permit(cause, max(1, ceil(queue.free_in_s())))

    # Service in turn.

    def _serve(self, queue: RequestQueue) -> None:
        """Serve the requests of a queue for which permits may be free, in its turn."""
        if self.waiting and not queue.ready and queue.length:
            queue.ready = True
            self._ready.append(queue)
        if self._ready and not self._serving:
            self._serving = True
            try:
                self._serve_ready()
            finally:
                self._serving = False
        self.queues.drop_idle(queue)

    def _serve_unaccepted(self) -> None:
        for queue in self.queues.unaccepted.values():
            if queue.length:
                self._serve(queue)

    def _serve_ready(self) -> None:
        while self._ready and self.in_flight < self.max_connections:
            queue = self._ready.popleft()
            queue.ready = False
            self.queues.count_points(queue)
            request = queue.next_request()
            if request is None:
                self.queues.drop_idle(queue)
                continue  # until more permits are free
            if queue.length > 1 and not queue.ready:
                queue.ready = True
                self._ready.append(queue)
            self._remove(request)
            points = queue.points.get(request.kind)
            request.permit.callback(self._permit(queue, points, request.points))

    def _permit(self, queue: RequestQueue, points: Semaphore | None, amount: int) -> Permit:
        """Return a permit; it uses *amount* of *points*, where they are counted."""
        self.in_flight += 1
        queue.in_flight.acquire(1)
        if points is not None:
            points.acquire(amount)

        def release() -> None:
            self.in_flight -= 1
            if points is not None:
                points.release(amount)
            permit.queue.in_flight.release(1)
            if self._ready or (self.waiting and permit.queue.length):
                self._serve(permit.queue)
            else:
                self.queues.drop_idle(permit.queue)
            if self.waiting:
                self._serve_unaccepted()

        permit = Permit(queue, release)
        return permit

    # The end.

    def close(self) -> Deferred[None]:
        """Reject all waiting requests, and end all leases."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._closed = True
        for queue in self.queues.close():
            for waiting in queue.waiting.values():
                while waiting:
                    request = waiting[0]
                    self._remove(request)
                    request.permit.errback(error_responses.shutting_down(1))
            for semaphore in queue.semaphores:
                if isinstance(semaphore, FleetSemaphore):
                    await semaphore.end_lease()
                else:
                    semaphore.close()
