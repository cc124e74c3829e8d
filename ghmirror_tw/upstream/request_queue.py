"""Requests that wait for a permit to be sent to GitHub: a queue for each credential.

Credentials that GitHub has not accepted yet (unaccepted ones) share two queues, since clients can
make up any number of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.runtime.semaphore import Semaphore
from ghmirror_tw.upstream.request_cost import READ_POINTS

#: Names of the secondary limits of a credential: requests in flight, and points a minute of the
#: REST and the GraphQL API.
IN_FLIGHT: Final = "f"
REST: Final = "r"
GRAPHQL: Final = "g"


@define(eq=False)
class Permit:
    """Permission to send one request; released when its response has ended, or has failed."""

    queue: RequestQueue
    _on_release: Callable[[], object] | None

    @property
    def in_use(self) -> bool:
        """Whether it was not released yet."""
        return self._on_release is not None

    @property
    def is_wanted(self) -> bool:
        """Whether another request waits for this permit, since its credential has no other left."""
        return self.queue.length > 0 and self.queue.in_flight.available < 1

    def release(self) -> None:
        """Release the permit; repeated calls do nothing."""
        on_release, self._on_release = self._on_release, None
        if on_release is not None:
            on_release()


@define(eq=False)
class PermitHolder:
    """Holds a permit that a request has acquired in advance, until it is taken or released."""

    permit: Permit | None = None

    def take(self) -> Permit | None:
        """Return the permit, which the caller owns from now on, or None."""
        permit, self.permit = self.permit, None
        return permit

    def release(self) -> None:
        """Release the permit, unless it was taken."""
        permit = self.take()
        if permit is not None:
            permit.release()


@define(eq=False)
class WaitingRequest:
    """A request that waits for its permit; *number* orders requests by arrival."""

    number: int
    points: int
    permit: Deferred[Permit]
    credential: str
    queue: RequestQueue
    kind: str
    timer: IDelayedCall | None = None


@define(eq=False)
class RequestQueue:
    """The waiting requests of one credential, and the semaphores that they need.

    *in_flight* limits concurrent requests; *points* limits points a minute, where they count.
    *unaccepted*: the queue of all unaccepted credentials, named *name*.
    """

    name: str
    in_flight: Semaphore
    unaccepted: bool = False
    points: dict[str, Semaphore] = field(factory=dict)
    waiting: dict[str, deque[WaitingRequest]] = field(
        factory=lambda: {REST: deque(), GRAPHQL: deque()}
    )
    #: Whether it is among those that are served next.
    ready: bool = False

    @property
    def length(self) -> int:
        """How many requests wait."""
        return len(self.waiting[REST]) + len(self.waiting[GRAPHQL])

    @property
    def semaphores(self) -> Iterable[Semaphore]:
        """All semaphores."""
        return (self.in_flight, *self.points.values())

    @property
    def idle(self) -> bool:
        """Whether it can be dropped."""
        if self.ready or self.length or not self.in_flight.idle:
            return False
        return not self.points or all(each.idle for each in self.points.values())

    def free_in_s(self) -> float:
        """Return in how many seconds points of the last minute become free; 0: none are used."""
        return max([each.free_in_s() for each in self.semaphores], default=0.0)

    def points_waiting(self, kind: str) -> int:
        """Return how many points the waiting requests need."""
        return sum(each.points for each in self.waiting[kind])

    def points_of_next(self, kind: str) -> int:
        """Return how many points the first waiting request needs."""
        return next((each.points for each in self.waiting[kind]), READ_POINTS)

    def next_request(self) -> WaitingRequest | None:
        """Return the earliest request below all limits of the credential, or None."""
        if not self.length or not _has(self.in_flight, 1):
            return None
        heads = [queue[0] for queue in self.waiting.values() if queue]
        for head in sorted(heads, key=lambda head: head.number):
            points = self.points.get(head.kind)
            if points is None or _has(points, head.points):
                return head
        return None

    def move(self, credential: str, other: RequestQueue) -> None:
        """Move the waiting requests of a credential to another queue."""
        for kind, queue in self.waiting.items():
            for request in [each for each in queue if each.credential == credential]:
                queue.remove(request)
                request.queue = other
                other.waiting[kind].append(request)


def _has(semaphore: Semaphore, amount: int) -> bool:
    """Return whether permits are available; if not, request more, which may succeed at once."""
    if semaphore.available < amount:
        semaphore.request_more()
    return semaphore.available >= amount
