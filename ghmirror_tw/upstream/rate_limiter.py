"""Who may ask GitHub when: so much at a time, so much a minute, and everybody in turn.

GitHub's secondary limits, for each credential: 100 questions at a time, and points a minute, of
which a question takes one and a write five (GitHub: rate limits for the REST API).
"""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from math import ceil
from typing import Any, Final, Literal
from uuid import uuid4

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.github.graphql import is_graphql
from ghmirror_tw.github.rate_limit_resources import GRAPHQL, is_quota_request
from ghmirror_tw.http import error_responses
from ghmirror_tw.http.request import Request
from ghmirror_tw.runtime.bounded_tables import store_recent
from ghmirror_tw.store.fleet_shares import Share
from ghmirror_tw.store.store_interface import Budget, IBudgets, Part

#: What a question takes of the points of a minute, and a write.
READ_POINTS: Final = 1
WRITE_POINTS: Final = 5
#: GraphQL has a budget of its own.
GRAPHQL_POINTS: Final = 2000
#: What `auto` means, and for how long after GitHub has complained, in seconds.
AUTO_POINTS: Final = 900
COMPLAINT_S: Final = 3600.0
_MINUTE_S: Final = 60.0

#: So long, in seconds, and so many of a credential's and of all, wait at most.
LONGEST_WAIT_S: Final = 10.0
MOST_OF_ONE: Final = 1000
MOST_OF_ALL: Final = 10_000
_MOST_HEARD: Final = 10_000
#: So many credentials are kept ready to go where nothing that they hold is anybody else's.
_KEPT: Final = 1000

#: The lanes that all credentials share that GitHub has not accepted yet: one for checks of them
#: (`credential_check`), and one for all other requests.
CHECKS: Final = "checks"
UNKNOWN: Final = "unknown"
#: A lane of unknown credentials has a tenth of all connections in any case, and at least so many.
_UNKNOWN_PART: Final = 10
_UNKNOWN_LEAST: Final = 4
#: The largest number of requests that wait in such a lane. After a cold start, thousands of valid
#: tokens are unknown.
MOST_UNKNOWN: Final = 5000

_IN_FLIGHT: Final = "f"
_REST: Final = "r"
_GRAPHQL: Final = "g"
_NOTHING: Final = nullcontext()
_UNSAFE: Final = frozenset({b"POST", b"PUT", b"PATCH", b"DELETE"})


def points_of(request: Request, *, mutates: bool) -> int:
    """Return what a question takes of the points of a minute.

    *mutates*: whether its content may change something, where it goes to GraphQL.
    """
    writes = mutates if is_graphql(request) else request.method in _UNSAFE
    return WRITE_POINTS if writes else READ_POINTS


def spends(request: Request) -> bool:
    """Tell whether a read will be charged, as nothing in it could be confirmed free of charge.

    Without a credential a 304 costs, too; asking for the rate limit costs nothing.
    """
    if request.method not in {b"GET", b"HEAD"} or is_quota_request(request):
        return False
    fields = request.fields
    return request.authorization is None or (
        fields.get(b"if-none-match") is None and fields.get(b"if-modified-since") is None
    )


@define(eq=False)
class LocalSlots:
    """The slots of a lane of unknown credentials: *limit* of them, in this replica alone."""

    limit: Callable[[], int]
    used: int = 0
    is_shared: bool = False

    @property
    def available(self) -> int:
        """How many may be used now."""
        return self.limit() - self.used

    @property
    def idle(self) -> bool:
        """Whether none is used."""
        return not self.used

    def rested_s(self) -> float:
        """Return 0: a slot that is no longer used is free."""
        return 0.0

    def ask(self) -> None:
        """Do nothing: there are no more slots to get."""

    def take(self, amount: int) -> None:
        """Use some."""
        self.used += amount

    def leave(self, amount: int) -> None:
        """Use them no more."""
        self.used -= amount


@define(eq=False)
class Permit:
    """Leave to put one question to GitHub; *leave* when its answer has come in full, or won't."""

    lane: _Lane
    _left: Callable[[], object] | None

    @property
    def in_use(self) -> bool:
        """Whether it was not left yet."""
        return self._left is not None

    @property
    def is_wanted(self) -> bool:
        """Whether another request waits for it, since its credential has no other one left."""
        return self.lane.length > 0 and self.lane.slots.available < 1

    def leave(self) -> None:
        """Let the next one go; may be called again."""
        left, self._left = self._left, None
        if left is not None:
            left()


@define(eq=False)
class Slot:
    """Holds a permit that a request has acquired in advance, until it is taken or released."""

    permit: Permit | None = None

    def take(self) -> Permit | None:
        """Return the permit, which is the caller's from now on, or None."""
        permit, self.permit = self.permit, None
        return permit

    def release(self) -> None:
        """Release the permit, unless it was taken."""
        permit = self.take()
        if permit is not None:
            permit.leave()


@define(eq=False)
class _Waiter:
    """Somebody who waits for a permit; *number* tells who came first."""

    number: int
    points: int
    permit: Deferred[Permit]
    credential: str
    lane: _Lane
    kind: str
    timer: IDelayedCall | None = None


@define(eq=False)
class _Lane:
    """The slots and points of one credential, and the requests that wait for them.

    A lane with `LocalSlots` is one of all unknown credentials together.
    """

    credential: str
    slots: Share | LocalSlots
    points: dict[str, Share] = field(factory=dict)
    waiting: dict[str, deque[_Waiter]] = field(factory=lambda: {_REST: deque(), _GRAPHQL: deque()})
    ready: bool = False

    @property
    def length(self) -> int:
        """How many wait."""
        return len(self.waiting[_REST]) + len(self.waiting[_GRAPHQL])

    @property
    def of_unknown(self) -> bool:
        """Whether it is a lane of unknown credentials."""
        return isinstance(self.slots, LocalSlots)

    @property
    def shares(self) -> Iterable[Share]:
        """All shares."""
        own = () if isinstance(self.slots, LocalSlots) else (self.slots,)
        return (*own, *self.points.values())

    def points_waiting(self, kind: str) -> int:
        """How many points are waited for."""
        return sum(waiter.points for waiter in self.waiting[kind])

    def points_of_next(self, kind: str) -> int:
        """How many points the next one needs."""
        return next((waiter.points for waiter in self.waiting[kind]), READ_POINTS)

    def next(self) -> tuple[str, _Waiter] | None:
        """Return who may go now: who came first of those for whom there is enough."""
        if not self.length:
            return None
        if not self._enough(self.slots, 1):
            return None
        heads = sorted((queue[0].number, kind) for kind, queue in self.waiting.items() if queue)
        for _, kind in heads:
            share, waiter = self.points.get(kind), self.waiting[kind][0]
            if share is None or self._enough(share, waiter.points):
                return kind, waiter
        return None

    @staticmethod
    def _enough(share: Share | LocalSlots, amount: int) -> bool:
        """Tell whether there is so much; if not, try to get more, which may be done at once."""
        if share.available < amount:
            share.ask()
        return share.available >= amount


@define(eq=False)
class _Expecting(AbstractContextManager[None]):
    """Somebody comes soon, and will want something of *shares*."""

    shares: tuple[Share, ...]

    def __enter__(self) -> None:
        for share in self.shares:
            share.expect()

    def __exit__(self, *_: object) -> None:
        for share in self.shares:
            share.expected()


@define(eq=False)
class RateLimiter:
    """Lets questions go to GitHub, within what it allows, fairly: each credential in its turn.

    *max_connections*: of this process; *max_in_flight*: of a credential, in the fleet that shares
    *budgets*. *points_per_minute*: 0 for no budget, ``auto`` for GitHub's own for an hour after
    it complained. *reserve*: so much of a quota is kept back from questions that cost something
    and change nothing.
    """

    reactor: Any
    budgets: IBudgets
    max_connections: int
    max_in_flight: int
    points_per_minute: int | Literal["auto"]
    reserve: int
    chance: Callable[[], float] = field(factory=lambda: random.SystemRandom().random)
    _owner: str = field(factory=lambda: uuid4().hex[:16])
    _numbers: Iterator[int] = field(factory=lambda: itertools.count(1))
    _lanes: dict[str, _Lane] = field(init=False, factory=dict)
    #: The lanes of unknown credentials and their slots, by name.
    _unknown: dict[str, _Lane] = field(init=False)
    _slots_of_unknown: dict[str, LocalSlots] = field(init=False)
    #: Lanes whose next one may be able to go, in the order of their turns.
    _ready: deque[_Lane] = field(init=False, factory=deque)
    _connections: int = field(init=False, default=0)
    _waiting: int = field(init=False, default=0)
    _number: int = field(init=False, default=0)
    _turning: bool = field(init=False, default=False)
    _complaints: OrderedDict[str, float] = field(init=False, factory=OrderedDict)
    _heard: OrderedDict[tuple[str, str], tuple[int, float]] = field(init=False, factory=OrderedDict)
    _closed: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        def checks() -> int:
            # Half of the connections that others do not use, for many new credentials at once.
            left = self.max_connections - self._connections + slots[CHECKS].used
            return max(self._unknown_least, left // 2)

        limits = {CHECKS: checks, UNKNOWN: lambda: self._unknown_least}
        slots = self._slots_of_unknown = {name: LocalSlots(limits[name]) for name in limits}
        self._unknown = {name: _Lane(name, slots[name]) for name in limits}

    @property
    def _unknown_least(self) -> int:
        return max(self.max_connections // _UNKNOWN_PART, _UNKNOWN_LEAST)

    @property
    def unknown_in_flight(self) -> int:
        """How many requests of unknown credentials are at GitHub."""
        return sum(slots.used for slots in self._slots_of_unknown.values())

    # What is heard from GitHub.

    def heard(self, credential: str, bucket: str, remaining: int, reset: float) -> None:
        """Take note of what is left of a quota, until when (seconds since the epoch)."""
        if not self.reserve:
            return
        store_recent(self._heard, (credential, bucket), (remaining, reset), _MOST_HEARD)

    def is_shared(self, credential: str) -> bool:
        """Tell whether other replicas send requests of *credential*, as far as is known."""
        if self.budgets.alone:
            return False
        lane = self._lanes.get(credential)
        return lane is None or lane.slots.is_shared

    def complained(self, credential: str) -> None:
        """Take note of a secondary limit: from now on points are counted, in the whole fleet."""
        if self.points_per_minute == "auto":
            self._note_complaint(credential, COMPLAINT_S)
            self.budgets.complain(credential, COMPLAINT_S)

    def _note_complaint(self, credential: str, for_s: float) -> None:
        until = self.reactor.seconds() + for_s
        store_recent(self._complaints, credential, until, _MOST_HEARD)

    def accepted(self, credential: str, permit: Permit) -> None:
        """Move the requests of *credential* from the lanes of unknown ones to a lane of its own.

        *permit* is that of the request whose response has shown that GitHub accepts it. The permit
        of a check stays in its lane, as it is released soon.
        """
        lane = self._lane(credential)
        if permit.lane is self._unknown[UNKNOWN] and permit.in_use:
            before, permit.lane = permit.lane, lane
            lane.slots.take(1)
            before.slots.leave(1)
        for before in self._unknown.values():
            for queue in before.waiting.values():
                for waiter in [each for each in queue if each.credential == credential]:
                    queue.remove(waiter)
                    waiter.lane = lane
                    lane.waiting[waiter.kind].append(waiter)
        self._ready_again(lane)
        self._serve_unknown()

    def _serve_unknown(self) -> None:
        for lane in self._unknown.values():
            if lane.length:
                self._ready_again(lane)

    # Asking for leave.

    def expecting(self, credential: str) -> AbstractContextManager[None]:
        """Prepare for a question of *credential*'s, so that it needn't wait when it comes."""
        if self.budgets.alone or self._closed:
            return _NOTHING
        return _Expecting(tuple(self._lane(credential).shares))

    def enter(
        self,
        credential: str,
        bucket: str,
        points: int = READ_POINTS,
        *,
        timeout_s: float = LONGEST_WAIT_S,
        unknown: str = "",
    ) -> Deferred[Permit]:
        """Return leave to put a question, at once or when it is its turn.

        *bucket* is that of GitHub's quota. *unknown* names the lane of a credential that GitHub has
        not accepted yet. Fails with a `MirrorError` (503) for one that has waited for *timeout_s*,
        or where too many wait. It may be cancelled.
        """
        try:
            if self._closed:
                raise error_responses.shutting_down(1)
            lane = self._unknown[unknown] if unknown else self._lane(credential)
            kind = _GRAPHQL if bucket == GRAPHQL else _REST
            if self._waiting and self._is_full(lane):
                raise self._overloaded(lane, kind)
        except error_responses.MirrorError:
            refused: Deferred[Permit] = Deferred()
            refused.errback()
            return refused
        if self._is_clear_for(lane, kind):
            return succeed(self._permit(lane, None, 0))
        return self._queue(credential, lane, kind, points, timeout_s)

    def _is_full(self, lane: _Lane) -> bool:
        """Tell whether too many requests wait; known and unknown credentials count separately."""
        if lane.of_unknown:
            return lane.length >= MOST_UNKNOWN
        others = sum(each.length for each in self._unknown.values())
        return lane.length >= MOST_OF_ONE or self._waiting - others >= MOST_OF_ALL

    def _is_clear_for(self, lane: _Lane, kind: str) -> bool:
        """Tell whether nobody has to wait, and so no turn has to be taken."""
        return (
            not self._ready
            and not (self._waiting and lane.length)
            and self._connections < self.max_connections
            and not self._limit(lane, kind)
            and lane.slots.available > 0
        )

    def keep_reserve(self, credential: str, bucket: str) -> None:
        """Raise a `MirrorError` (503) for a read that would cut into the reserve."""
        remaining, reset = self._heard.get((credential, bucket), (0, 0.0))
        left_s = reset - self.reactor.seconds()
        if left_s > 0 and remaining <= self.reserve:
            raise error_responses.reserved(self.reserve, remaining, ceil(left_s))

    def _overloaded(self, lane: _Lane, kind: str) -> error_responses.MirrorError:
        rested_s = max([share.rested_s() for share in lane.shares], default=0.0)
        return error_responses.overloaded(self._used_up(lane, kind), max(1, ceil(rested_s)))

    def _used_up(self, lane: _Lane, kind: str) -> str:
        """Return the option, and its value, that keeps the requests of a lane waiting."""
        points = lane.points.get(kind)
        if lane.of_unknown:
            return "for credentials that GitHub has not accepted yet"
        if lane.slots.available < 1:
            return f"[github] max_in_flight_per_credential = {self.max_in_flight}"
        if points is not None and points.available < lane.points_of_next(kind):
            limit = self._limit(lane, kind)
            return f"[github] points_per_minute = {self.points_per_minute} ({limit} now)"
        return f"[github] max_connections = {self.max_connections}"

    def _queue(
        self, credential: str, lane: _Lane, kind: str, points: int, timeout_s: float
    ) -> Deferred[Permit]:
        self._number += 1

        def leave(_: Deferred[Permit]) -> None:
            self._remove(waiter)
            self._ready_again(waiter.lane)

        bounded = self._bounded(points, kind)
        waiter = _Waiter(self._number, bounded, Deferred(leave), credential, lane, kind)
        lane.waiting[kind].append(waiter)
        self._waiting += 1
        self._ready_again(lane)
        if waiter.permit.called:
            return waiter.permit

        def give_up() -> None:
            error = self._overloaded(waiter.lane, kind)
            self._remove(waiter)
            waiter.permit.errback(error)
            self._ready_again(waiter.lane)

        wait_s = max(min(timeout_s, LONGEST_WAIT_S), 0.0)
        waiter.timer = self.reactor.callLater(wait_s, give_up)
        return waiter.permit

    def _remove(self, waiter: _Waiter) -> None:
        queue = waiter.lane.waiting[waiter.kind]
        if waiter in queue:
            queue.remove(waiter)
            self._waiting -= 1
        if waiter.timer is not None and waiter.timer.active():
            waiter.timer.cancel()

    # Whose turn it is.

    def _ready_again(self, lane: _Lane) -> None:
        """Let those go who may, of a lane for which something has changed."""
        if self._waiting and not lane.ready and lane.length:
            lane.ready = True
            self._ready.append(lane)
        if self._ready and not self._turning:
            self._turning = True
            try:
                self._take_turns()
            finally:
                self._turning = False
        self._forget(lane)

    def _take_turns(self) -> None:
        while self._ready and self._connections < self.max_connections:
            lane = self._ready.popleft()
            lane.ready = False
            self._count_points(lane)
            goes = lane.next()
            if goes is None:
                self._forget(lane)
                continue  # until its shares have grown
            kind, waiter = goes
            if lane.length > 1 and not lane.ready:
                lane.ready = True
                self._ready.append(lane)
            self._go(lane, kind, waiter)

    def _go(self, lane: _Lane, kind: str, waiter: _Waiter) -> None:
        self._remove(waiter)
        waiter.permit.callback(self._permit(lane, lane.points.get(kind), waiter.points))

    def _permit(self, lane: _Lane, points: Share | None, amount: int) -> Permit:
        """Return leave to ask, for which *amount* of *points* is taken, where they are counted."""
        self._connections += 1
        lane.slots.take(1)
        if points is not None:
            points.take(amount)

        def left() -> None:
            self._connections -= 1
            if points is not None:
                points.leave(amount)
            permit.lane.slots.leave(1)
            if self._ready or (self._waiting and permit.lane.length):
                self._ready_again(permit.lane)
            if self._waiting:
                self._serve_unknown()

        permit = Permit(lane, left)
        return permit

    # Lanes, and what they may use.

    def _lane(self, credential: str) -> _Lane:
        lane = self._lanes.get(credential)
        if lane is None:
            budget = Budget(credential, _IN_FLIGHT, self.max_in_flight)
            slots = self._share(budget, lambda: made.length, lambda: 1)
            made = lane = _Lane(credential, slots)
            self._lanes[credential] = lane
        self._count_points(lane)
        return lane

    def _share(self, budget: Budget, waiting: Callable[[], int], least: Callable[[], int]) -> Share:
        credential = budget.credential

        def grown() -> None:
            lane = self._lanes.get(credential)
            if lane is not None:
                self._ready_again(lane)

        def heard(part: Part) -> None:
            if part.complained_s and self.points_per_minute == "auto":
                self._note_complaint(credential, part.complained_s)

        return Share(
            self.reactor,
            self.budgets,
            budget,
            self._owner,
            self._numbers,
            waiting,
            least,
            grown,
            heard,
            self.chance,
        )

    def _limit(self, lane: _Lane, kind: str) -> int:
        """Return how many points a minute has; 0: they aren't counted."""
        points, credential = self.points_per_minute, lane.credential
        if lane.of_unknown:
            return 0
        if points == "auto":
            if not self._complaints:
                return 0
            complained = self._complaints.get(credential, 0.0) > self.reactor.seconds()
            points = AUTO_POINTS if complained else 0
        return GRAPHQL_POINTS if points and kind == _GRAPHQL else points

    def _bounded(self, points: int, kind: str) -> int:
        """Return what a question takes; never more than there may ever be."""
        most = GRAPHQL_POINTS if kind == _GRAPHQL else self.points_per_minute
        return min(points, most) if isinstance(most, int) and most else points

    def _count_points(self, lane: _Lane) -> None:
        """Begin to count points, or stop, as GitHub's complaints come and go."""
        counts = self._complaints if self.points_per_minute == "auto" else self.points_per_minute
        if lane.of_unknown or (not counts and not lane.points):
            return
        credential = lane.credential
        for kind, queue in lane.waiting.items():
            limit = self._limit(lane, kind)
            if not limit:
                share = lane.points.pop(kind, None)
                if share is not None:
                    share.close()
            elif kind not in lane.points and queue:
                budget = Budget(credential, kind, limit, _MINUTE_S)
                lane.points[kind] = self._share(
                    budget,
                    lambda kind=kind: lane.points_waiting(kind),  # type: ignore[misc]
                    lambda kind=kind: lane.points_of_next(kind),  # type: ignore[misc]
                )

    def _forget(self, lane: _Lane) -> None:
        if self.budgets.alone and len(self._lanes) <= _KEPT:
            return
        if lane.slots.idle and not lane.ready and not lane.length:
            if not all(share.idle for share in lane.points.values()):
                return
            if self._lanes.get(lane.credential) is lane:
                del self._lanes[lane.credential]
                for share in lane.shares:
                    share.close()

    # The end.

    def close(self) -> Deferred[None]:
        """Let nobody ask any more, and give back what is held."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._closed = True
        lanes, self._lanes = self._lanes, {}
        for lane in (*lanes.values(), *self._unknown.values()):
            for queue in lane.waiting.values():
                while queue:
                    waiter = queue[0]
                    self._remove(waiter)
                    waiter.permit.errback(error_responses.shutting_down(1))
            for share in lane.shares:
                await share.give_back()
