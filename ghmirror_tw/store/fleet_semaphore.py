"""A semaphore that all replicas share: a lease on a number of permits, renewed in the background.

A replica leases a few permits more than it uses, so that most requests acquire one without a round
trip. It renews the lease every second, and gives back what it did not need in that second. Under
contention it does so every tenth of a second, and holds no more than its fair share. The permits of
a replica that ends without giving them back are free when its lease ends.

Without Redis each replica uses an equal part of the limit. For as long as leases from before may
last, it uses little more than it holds itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ghmirror_tw.redis import RedisUnavailableError
from ghmirror_tw.runtime.semaphore import Semaphore
from ghmirror_tw.store.permit_lease_interface import (
    Capacity,
    IFleetSemaphores,
    LeaseRequest,
    PermitLease,
)

#: How long a lease lasts without renewal, in seconds, besides the cooldown of its permits.
LEASE_S: Final = 10.0
#: The time between two renewals, in seconds: as a rule (also while Redis is unavailable), and while
#: a replica has too few permits.
_RENEW_S: Final = 1.0
_CONTENDED_S: Final = 0.1
#: A cooldown counts as this much longer in Redis, since clocks differ, in seconds.
_CLOCK_DRIFT_S: Final = 5.0
#: Permits beyond the demand, so that most requests need no round trip: so many, and a fraction.
_SPARE: Final = 2
_SPARE_FRACTION: Final = 4
#: The assumed number of replicas where Redis is too slow to return it.
_GUESSED_REPLICAS: Final = 10
#: The failures of one renewal that do not show that Redis is unavailable.
_ACCIDENTS: Final = frozenset({"timeout", "lost"})
#: After so many failures in a row Redis counts as unavailable.
_UNAVAILABLE: Final = 2
#: While leases of other replicas may last, all together use this fraction of the limit beside what
#: they hold: 80 in flight stay below GitHub's 100.
_HEADROOM_FRACTION: Final = 4


@define(eq=False, kw_only=True)
class FleetSemaphore(Semaphore):
    """The permits of *capacity* that this replica may use, leased from *semaphores* as *owner*.

    *numbers* are those of the requests of *owner*. *waiting* returns how many permits requests wait
    for, *least* how many the first of them needs. *on_lease* is called with each response.
    """

    semaphores: IFleetSemaphores
    capacity: Capacity
    owner: str
    numbers: Iterator[int]
    waiting: Callable[[], int]
    least: Callable[[], int]
    on_lease: Callable[[PermitLease], object]
    chance: Callable[[], float]
    #: The last response, and when the lease ends.
    _lease: PermitLease = field(init=False, default=PermitLease(0, 0, 0))
    _ends_at: float = field(init=False, default=0.0)
    #: How many requests will come soon.
    _expected: int = field(init=False, default=0)
    #: The largest number of permits in use since the last renewal.
    _peak: int = field(init=False, default=0)
    #: How many renewals have failed in a row, since when, and whether one took too long.
    failures: int = field(init=False, default=0)
    _failing_since: float = field(init=False, default=inf)
    _is_slow: bool = field(init=False, default=False)
    #: Until when other replicas may still use permits that Redis does not know of again yet.
    _rejoins_until: float = field(init=False, default=-inf)
    #: The last renewal brought fewer permits than were in demand.
    _short: bool = field(init=False, default=False)
    renewing: Deferred[None] | None = field(init=False, default=None)
    #: More was requested during a renewal.
    _again: bool = field(init=False, default=False)
    _renew_timer: IDelayedCall | None = field(init=False, default=None)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"))

    @property
    def idle(self) -> bool:
        """Whether it holds no state, here or in Redis, so that it can be dropped."""
        return not (
            self.renewing or self._expected or self._lease.held or self.occupied or self.waiting()
        )

    @property
    def is_shared(self) -> bool:
        """Whether other replicas hold permits, as far as is known."""
        return self._lease.replicas != 1

    @property
    def is_connected(self) -> bool:
        """Whether the last renewal succeeded and no other replica is still about to rejoin."""
        return not self.failures and self.clock.seconds() >= self._rejoins_until

    def allowed(self) -> int:
        """Return how many permits this replica may use now. It never waits for Redis to return."""
        held = self._held()
        if self.is_connected:
            return held
        if self.failures >= _UNAVAILABLE:
            held = max(held, self._part_without_redis(held))
        return max(held, min(self.least(), self.capacity.limit))

    def _held(self) -> int:
        lease = self._lease
        return min(lease.held, lease.target) if self.clock.seconds() < self._ends_at else 0

    def _replicas(self) -> int:
        """Return the largest number of replicas among which the limit may be divided."""
        known = max(self._lease.replicas, self.semaphores.members)
        return known or (_GUESSED_REPLICAS if self._is_slow else 1)

    def _part_without_redis(self, held: int) -> int:
        limit, replicas = self.capacity.limit, self._replicas()
        part = limit // replicas
        lost_at = min(self._failing_since, self.semaphores.responded_at)
        others_hold = self.clock.seconds() < max(self._ends_at, lost_at + LEASE_S)
        if others_hold and replicas > 1 and not self.cooldown_s:
            part = min(part, held + limit // _HEADROOM_FRACTION // replicas)
        return part

    # Use of permits.

    def acquire(self, amount: int) -> None:
        """Acquire available permits."""
        super().acquire(amount)
        self._peak = max(self._peak, self.occupied)

    def release(self, amount: int) -> None:
        """Release permits; under contention, the fleet has those above the fair share at once."""
        super().release(amount)
        if self._lease.contended and self._has_surplus and not self.renewing:
            self._renew()

    @property
    def _has_surplus(self) -> bool:
        return max(self.occupied, self._lease.target) < self._lease.held

    def begin_expecting(self) -> None:
        """Request a permit for a request that follows soon, and then calls `end_expecting`."""
        self._expected += 1
        if self.available < self._expected:
            self.request_more()

    def end_expecting(self) -> None:
        """Expect the request no longer: it has acquired its permit, or needs none."""
        self._expected -= 1

    # Renewal.

    def request_more(self) -> None:
        """Renew the lease now, unless that is under way or would be of no use."""
        if self.renewing:
            self._again = True
        elif self._renew_timer is not None and (self._short or self.failures):
            return  # the next renewal follows soon
        elif self._lease.held < self.capacity.limit or self.clock.seconds() >= self._ends_at:
            self._renew()

    def _renew(self) -> None:
        timer, self._renew_timer = self._renew_timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if self._closed or self.renewing:
            return
        self._again = False
        self.renewing = renewing = Deferred.fromCoroutine(self._exchange())
        renewing.addBoth(self._after_renewal)

    async def _exchange(self) -> None:
        sent_at, request = self.clock.seconds(), self._next_request()
        try:
            lease = await self.semaphores.renew(self.capacity, request)
        except RedisUnavailableError as error:
            self._failed(error.reason)
            return
        except Exception:  # noqa: BLE001 - the replica continues with its own part
            if not self._closed:
                self._log.failure(
                    "Renewal of a lease on permits failed: kind={kind}", kind=self.capacity.kind
                )
            self._failed("")
            return
        if self.failures >= _UNAVAILABLE:
            self._rejoins_until = self.clock.seconds() + 2 * _RENEW_S
        self.failures, self._failing_since, self._is_slow = 0, inf, False
        self._lease, self._ends_at = lease, sent_at + LEASE_S
        self._short = lease.held < request.demand
        self.on_lease(lease)

    def _next_request(self) -> LeaseRequest:
        """Return the next request; permits that were not needed since the last one are dropped."""
        limit, occupied = self.capacity.limit, self.occupied
        demand = min(max(self._peak, occupied + self.waiting() + self._expected), limit)
        want = min(demand + demand // _SPARE_FRACTION + _SPARE, limit) if demand else 0
        if not self.is_connected:
            # Other replicas return as well. Until Redis knows all leases, none exceeds its part.
            part = max(limit // self._replicas(), 1)
            demand, want = max(occupied, min(demand, part)), max(occupied, part)
        held = max(occupied, min(self._held(), want))
        lease, self._peak = self._lease, occupied
        self._lease = PermitLease(held, held, lease.replicas, lease.contended)
        least = max(min(self.least(), demand), 1)
        number = next(self.numbers)
        return LeaseRequest(self.owner, number, held, demand, want, least, self._lease_s)

    @property
    def _lease_s(self) -> float:
        return LEASE_S + (self.cooldown_s + _CLOCK_DRIFT_S if self.cooldown_s else 0.0)

    def _failed(self, reason: str) -> None:
        """Note that a renewal failed. A single one may be an accident, and is repeated at once."""
        self._short = False
        self._is_slow = self._is_slow or reason == "timeout"
        self._failing_since = min(self._failing_since, self.clock.seconds())
        self.failures += 1 if reason in _ACCIDENTS else _UNAVAILABLE

    def _after_renewal(self, _: object) -> None:
        self.renewing = None
        if not self._closed:
            self._schedule()
            self.on_free()

    def _schedule(self) -> None:
        """Renew again when it is time."""
        lacks = self.waiting() > 0 and self.available < self.least()
        if self.idle and not self.failures:
            return
        contended = self._lease.contended
        if 0 < self.failures < _UNAVAILABLE:
            pause_s = 0.0
        elif self.failures:
            pause_s = _RENEW_S
        elif (self._again and lacks and not self._short) or (contended and self._has_surplus):
            pause_s = 0.0
        else:
            pause_s = _CONTENDED_S if contended or self._short or lacks else _RENEW_S
        pause_s *= 0.75 + 0.5 * self.chance()
        self._renew_timer = self.clock.callLater(pause_s, self._renew)

    # The end.

    async def end_lease(self) -> None:
        """Close, and end the lease, unless permits are in use or cooling down."""
        held, occupied = self._lease.held, self.occupied
        self.close()
        if held and not occupied:
            request = LeaseRequest(self.owner, next(self.numbers), 0, 0, 0, 1, LEASE_S)
            with suppress(RedisUnavailableError):
                await self.semaphores.renew(self.capacity, request)

    def close(self) -> None:
        """Renew no more; the lease ends by itself."""
        super().close()
        timer, self._renew_timer = self._renew_timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if self.renewing is not None:
            self.renewing.cancel()
