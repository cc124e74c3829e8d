"""A process's share of a budget: used here, made larger and smaller in the background."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.store.store_interface import Bid, Budget, IBudgets, Part

#: How long what a process holds outlives it, in seconds, besides the time that use counts for.
LEASE_S: Final = 10.0
#: How often a process tells what it holds: while all is well, while others or it need more, and
#: while nobody can be told.
_RENEW_S: Final = 1.0
_CONTENDED_S: Final = 0.1
_ALONE_S: Final = 1.0
#: Asking beforehand, when nothing is left and nobody waits yet, happens no more often than this.
_EARLY_S: Final = 0.05
#: What a process holds beyond what it needs, at most, so that it need not ask each time.
_SPARE: Final = 2
_SPARE_PART: Final = 4
#: What counts for some time is believed to end a little later, as clocks run differently.
_SLACK_S: Final = 5.0
#: Where somebody is there but too slow to tell how many share, there may be so many.
_GUESSED: Final = 10
#: What may happen to a single bid though all is well.
_ACCIDENTS: Final = frozenset({"timeout", "lost"})
#: While others may still hold what they held, all together take so little more: 80 stay below 100.
_HEADROOM: Final = 4
#: So many bids are heard before a process believes that it is in touch with the others again.
_HEARD: Final = 2


@define(eq=False)
class Share:
    """What this process may use of *budget*, without asking each time.

    *numbers* are those of the *owner*'s bids, over all its shares. *waiting* tells how much is
    waited for, and *least* how much the next one needs. *grown* is called when there may be more;
    it must look for itself. *heard* is called with what each bid brought. While the fleet can't be
    asked, the process goes by what would be its part, and never waits for that to change.
    """

    reactor: Any
    budgets: IBudgets
    budget: Budget
    owner: str
    numbers: Iterator[int]
    waiting: Callable[[], int]
    least: Callable[[], int]
    grown: Callable[[], object]
    heard: Callable[[Part], object]
    chance: Callable[[], float]
    _held: int = field(init=False, default=0)
    _target: int = field(init=False, default=0)
    _until: float = field(init=False, default=0.0)
    _used: int = field(init=False, default=0)
    #: So much will be needed soon.
    _expected: int = field(init=False, default=0)
    _peak: int = field(init=False, default=0)
    #: What is used no more, but counts until then.
    _resting: deque[tuple[float, int]] = field(init=False, factory=deque)
    _resting_sum: int = field(init=False, default=0)
    _sharers: int = field(init=False, default=1)
    _sharers_known: bool = field(init=False, default=False)
    #: So many more bids must be heard until it is in touch, and since when that is so.
    _alone: int = field(init=False, default=0)
    _alone_since: float = field(init=False, default=inf)
    #: The last bid that was made, and that up to which it may be an accident that some were not
    #: answered; 0: all is well.
    _made: int = field(init=False, default=0)
    _doubts: int = field(init=False, default=0)
    #: It asked for more than it got.
    _short: bool = field(init=False, default=False)
    _again: bool = field(init=False, default=False)
    _contended: bool = field(init=False, default=False)
    _bid_at: float = field(init=False, default=-inf)
    #: Bids that are on their way, what they ask for at most, and the latest one that was answered.
    _bids: int = field(init=False, default=0)
    _bidding: set[Deferred[None]] = field(init=False, factory=set)
    _wanted: int = field(init=False, default=0)
    _latest: int = field(init=False, default=0)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _rest_timer: IDelayedCall | None = field(init=False, default=None)
    _closed: bool = field(init=False, default=False)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"))

    # What there is.

    @property
    def occupied(self) -> int:
        """How much is in use, or still counts."""
        if self._resting:
            self._rest()
        return self._used + self._resting_sum

    @property
    def available(self) -> int:
        """How much may be used now."""
        return self._allowed() - self.occupied

    @property
    def idle(self) -> bool:
        """Whether it holds nothing that anybody would have to know of."""
        held = self._held and not self.budgets.alone
        return not (self._expected or self._bids or self.occupied or held or self.waiting())

    @property
    def is_shared(self) -> bool:
        """Whether other processes use this budget, or may."""
        return not self._sharers_known or self._sharers > 1

    def _allowed(self) -> int:
        held = 0
        if self.reactor.seconds() < self._until:
            held = min(self._held, self._target)
        if not (self._alone or self._doubts):
            return held
        limit = self.budget.limit
        least = min(self.least(), limit)
        if not self._alone or (self._alone < _HEARD and held >= least):
            return max(held, least)
        # It never waits for others to be heard of; but they may be there, and hold what they did.
        sharers = self._most_sharers
        part = limit // sharers
        if self._others_hold and sharers > 1 and self._alone == _HEARD:
            part = min(part, held + limit // _HEADROOM // sharers)
        return max(held, part, least)

    @property
    def _most_sharers(self) -> int:
        """How many replicas may share it: all of the fleet, while it is not known which do."""
        members = self.budgets.members
        # Without a bid that was answered, the number of sharers is a guess.
        return max(self._sharers, members) if self._sharers_known else members or self._sharers

    @property
    def _others_hold(self) -> bool:
        """Whether leases of other replicas may still last since the fleet could last be reached."""
        if self.budget.rest_s:
            return False
        lost_at = min(self._alone_since, self.budgets.responded_at)
        now: float = self.reactor.seconds()
        return now < max(self._until, lost_at + LEASE_S)

    def _rest(self) -> None:
        resting, now = self._resting, self.reactor.seconds()
        while resting and resting[0][0] <= now:
            self._resting_sum -= resting.popleft()[1]

    def rested_s(self) -> float:
        """Return in how many seconds some of what only counts won't any more; 0: nothing does."""
        self._rest()
        return self._resting[0][0] - self.reactor.seconds() if self._resting else 0.0

    # Using it.

    def take(self, amount: int) -> None:
        """Use some of what is available."""
        self._used += amount
        occupied = self.occupied
        self._peak = max(self._peak, occupied)
        early = self._allowed() - occupied < self.least() and not self.waiting()
        if early and self.reactor.seconds() - self._bid_at >= _EARLY_S:
            self.ask()

    def leave(self, amount: int) -> None:
        """Use it no more."""
        self._used -= amount
        rest_s = self.budget.rest_s
        if rest_s:
            self._resting.append((self.reactor.seconds() + rest_s, amount))
            self._resting_sum += amount
            self._watch_rest()
        if self._contended and self._lets_go and not self._bids:
            self._bid()
        self.grown()

    def _watch_rest(self) -> None:
        if self._rest_timer is None and self._resting and not self._closed:
            wait_s = max(self.rested_s(), 0.0)
            self._rest_timer = self.reactor.callLater(wait_s, self._rested)

    def _rested(self) -> None:
        self._rest_timer = None
        self._rest()
        self._watch_rest()
        self.grown()

    # Telling the fleet.

    def expect(self) -> None:
        """Prepare for somebody who comes soon; `expected` must be called when he has."""
        self._expected += 1
        if self.available < self._expected:
            self.ask()

    def expected(self) -> None:
        """Take note that somebody who was expected has come, or won't."""
        self._expected -= 1

    def ask(self) -> None:
        """Try to get more, unless that was tried just now, or is under way for as much."""
        if self._bids:
            self._again = True
            if self._demand() > self._wanted and not (self._short or self._alone):
                self._bid(grows=True)
        elif self._timer is not None and (self._short or self._alone):
            return  # it is tried again soon
        elif self._held < self.budget.limit or self.reactor.seconds() >= self._until:
            self._bid()

    def _bid(self, *, grows: bool = False) -> None:
        if self._closed:
            return
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        self._again = False
        self._bids += 1
        self._bid_at = self.reactor.seconds()
        bidding = Deferred.fromCoroutine(self._tell(grows=grows))
        self._bidding.add(bidding)
        bidding.addBoth(lambda _: self._told(bidding))

    def _told(self, bidding: Deferred[None]) -> None:
        self._bidding.discard(bidding)
        self._bids -= 1
        if not self._closed:
            if not self._bids:
                self._next()
            self.grown()

    def _demand(self) -> int:
        needed = self.occupied + self.waiting() + self._expected
        return min(max(self._peak, needed), self.budget.limit)

    def _bid_now(self, *, grows: bool) -> Bid:
        limit, demand = self.budget.limit, self._demand()
        want = min(demand + demand // _SPARE_PART + _SPARE, limit) if demand else 0
        occupied = self.occupied
        if grows:
            held = max(self._held, occupied)
            return self._as_bid(held, demand, want, grows=True)
        if self._alone == _HEARD:
            # Others come back now, too: what is in use is told first, by all of them, and until
            # then nobody asks for more than its part; nor for less, or clients would wait.
            knows = self._sharers_known or self.budgets.members
            part = max(limit // (self._most_sharers if knows else _GUESSED), 1)
            demand, want = max(occupied, min(demand, part)), max(occupied, part)
        # From now on no more is used than what is told, whatever is heard.
        held = min(self._held, self._target) if self.reactor.seconds() < self._until else 0
        self._held = max(occupied, held if demand else 0)
        self._target = min(self._target, self._held)
        self._peak = occupied
        return self._as_bid(self._held, demand, want, grows=False)

    def _as_bid(self, held: int, demand: int, want: int, *, grows: bool) -> Bid:
        rest_s = self.budget.rest_s
        life_s = LEASE_S + (rest_s + _SLACK_S if rest_s else 0.0)
        least = max(min(self.least(), demand), 1)
        self._made = next(self.numbers)
        return Bid(self.owner, self._made, held, demand, want, least, life_s, grows)

    async def _tell(self, *, grows: bool) -> None:
        sent_at = self.reactor.seconds()
        bid = self._bid_now(grows=grows)
        self._wanted = bid.want
        try:
            part = await self.budgets.bid(self.budget, bid)
        except RedisUnavailableError as error:
            if bid.number > self._latest:
                self._miss(bid.number, error.reason)
            return
        except Exception:  # noqa: BLE001 - the process must go on by itself
            if not self._closed:
                self._log.failure("Sharing a budget failed")
            self._miss(bid.number, "")
            return
        if bid.number < self._latest:
            return  # what a later one has brought is more, and known already
        self._latest = bid.number
        self._doubts = 0
        self._alone = max(self._alone - 1, 0)
        self._held, self._target, self._sharers = part.held, part.target, max(part.sharers, 1)
        self._sharers_known = True
        self._until = inf if self.budgets.alone else sent_at + LEASE_S
        self._short = part.held < bid.demand
        self._contended = part.contended
        self.heard(part)

    def _miss(self, number: int, reason: str) -> None:
        """Take note that a bid was not answered; once may be an accident, and is tried again."""
        self._short = False
        if not self._sharers_known and (reason == "timeout" or not self._doubts):
            self._sharers = _GUESSED if reason == "timeout" else 1
        if reason in _ACCIDENTS and not self._alone and number <= (self._doubts or number):
            self._doubts = self._doubts or self._made
        else:
            if not self._alone:
                self._alone_since = self.reactor.seconds()
            self._alone, self._doubts = _HEARD, 0

    @property
    def _lets_go(self) -> bool:
        """Whether it holds more than it should, and could do with less."""
        return max(self.occupied, self._target) < self._held

    def _next(self) -> None:
        """Bid again when it is time."""
        lacks = self.waiting() > 0 and self.available < self.least()
        needed = self.occupied or self._held or self.waiting() or self._expected
        if self.budgets.alone or not (needed or self._alone or self._doubts):
            return
        if self._doubts:
            pause_s = 0.0
        elif self._alone:
            pause_s = _ALONE_S
        elif (self._again and lacks and not self._short) or (self._contended and self._lets_go):
            pause_s = 0.0
        else:
            pause_s = _CONTENDED_S if self._contended or self._short or lacks else _RENEW_S
        pause_s *= 0.75 + 0.5 * self.chance()
        self._timer = self.reactor.callLater(pause_s, self._bid)

    # The end.

    async def give_back(self) -> None:
        """Close, and tell the others what is free now; what still counts runs out by itself."""
        held, idle = self._held, not self.occupied
        self.close()
        if held and idle and not self.budgets.alone:
            bid = Bid(self.owner, next(self.numbers), 0, 0, 0, 1, LEASE_S)
            with suppress(RedisUnavailableError):
                await self.budgets.bid(self.budget, bid)

    def close(self) -> None:
        """Tell nobody anything any more."""
        self._closed = True
        for timer in (self._timer, self._rest_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._rest_timer = None
        for bidding in tuple(self._bidding):
            bidding.cancel()
