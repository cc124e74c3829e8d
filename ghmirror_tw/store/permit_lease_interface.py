"""The interface by which Redis leases permits of the fleet's semaphores to replicas.

Each replica holds a lease on a number of permits, and uses them without a command for each. One
call renews the lease, requests more permits, and gives back those that the replica no longer needs.
"""

from __future__ import annotations

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface


@frozen
class Capacity:
    """The capacity of one semaphore: at most *limit* permits in the whole fleet.

    *kind* names the semaphore among those of a credential. A released permit is free *cooldown_s*
    seconds later.
    """

    credential: str
    kind: str
    limit: int
    cooldown_s: float = 0.0


@frozen
class LeaseRequest:
    """The number of permits that a replica holds, and the number that it requests.

    The replica *owner* holds *held* permits, and uses no more before the response. *demand*: the
    number for which it has requests; at 0 its lease ends. *want*: the number that it takes if many
    are free. *least*: fewer are of no use to it. *number* rises with each request of the replica: a
    delayed request changes nothing. The lease ends after *lease_s* seconds without another request.
    """

    owner: str
    number: int
    held: int
    demand: int
    want: int
    least: int
    lease_s: float


@frozen
class PermitLease:
    """The permits that a replica has now.

    *held*: the number that it holds. *target*: the number that it should hold; it gives back the
    rest once they are released. *replicas*: the number of replicas with a lease. *contended*: some
    replica has fewer than its fair share. *limited_s*: for so many seconds more, the last secondary
    limit of GitHub counts.
    """

    held: int
    target: int
    replicas: int = 1
    contended: bool = False
    limited_s: float = 0.0


class IFleetSemaphores(Interface):
    """Counts the permits that all replicas hold; of live leases, the sum never exceeds the limit.

    A replica that needs less than an equal part leaves the rest to the others (max-min fairness).
    """

    members: int = Attribute("The number of replicas, as last known; 0: not known.")
    responded_at: float = Attribute("When the server last responded, in seconds since the epoch.")

    def renew(capacity: Capacity, request: LeaseRequest) -> Deferred[PermitLease]:
        """Renew the lease of a replica, in one step, and return what it holds then.

        Fails with `RedisUnavailableError` where the server cannot be reached.
        """

    def note_secondary_limit(credential: str, for_s: float) -> None:
        """Store for *for_s* seconds that GitHub limited a credential. Never fails."""
