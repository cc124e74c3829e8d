"""Look-ups in Redis, and in this process's own records while Redis is unavailable."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, TypeVar

from attrs import define, evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Known, Representation
from ghmirror_tw.github.reported_limit import Limit, latest_of_each_scope
from ghmirror_tw.redis import RedisUnavailableError
from ghmirror_tw.runtime.reactor_lag import ReactorLag
from ghmirror_tw.store.memory_store import MemoryStore
from ghmirror_tw.store.remote_availability import RemoteAvailability
from ghmirror_tw.store.remote_interface import IRemoteHistory
from ghmirror_tw.store.remote_writes import RemoteWrites, epoch_name, grant_name
from ghmirror_tw.store.store_interface import Deadline

R = TypeVar("R")


@define(eq=False)
class DeadlineReads:
    """Runs look-ups in Redis within the deadline of a request.

    The time for which this process itself was held up does not count: Redis was not slow then.
    """

    reactor: Any
    lag: ReactorLag
    availability: RemoteAvailability

    async def retried(self, deadline: Deadline, look_up: Callable[[float], Deferred[R]]) -> R:
        """Return the result of *look_up*, repeated if its connection was lost.

        *look_up* receives the time left, in seconds. If a connection was lost, another one may
        work, or all turn out to be lost. The latter is known before the look-up fails, so that a
        caller can wait for a restore.
        """
        while True:
            try:
                return await self.once(deadline, look_up)
            except RedisUnavailableError as error:
                if error.reason != "lost":
                    raise
            await deferLater(self.reactor, 0.0)

    def once(self, deadline: Deadline, look_up: Callable[[float], Deferred[R]]) -> Deferred[R]:
        """Return the result of *look_up*, sent over one connection."""
        if deadline.left_s <= 0:
            why = "the request has waited long enough for Redis"
            return fail(RedisUnavailableError("timeout", why))
        began = self.lag.seconds()

        def spend(result: R | Failure) -> R | Failure:
            deadline.left_s -= self.elapsed_s(began)
            return result

        if self.availability.is_settled:
            return look_up(deadline.left_s).addBoth(spend)
        settled = self.availability.settled(deadline.left_s)
        found: Deferred[R] = settled.addCallback(
            lambda _: look_up(deadline.left_s - self.elapsed_s(began))
        )
        return found.addBoth(spend)

    def elapsed_s(self, began: float) -> float:
        """Return the time since *began*, none if the clock was set back meanwhile."""
        return max(self.lag.seconds() - began, 0.0)


@define(eq=False)
class FailoverReads:
    """Reads from *redis*, and adds the records in *memory*; Redis' absence leaves those alone.

    *redis* has the look-ups of `IRemoteRecords`.
    """

    redis: Any
    reads: DeadlineReads
    memory: MemoryStore
    writes: RemoteWrites
    history: IRemoteHistory
    servers: Any
    timeout_s: float
    #: Whether responses are stored in memory while Redis is away.
    fallback: bool

    def look_up(
        self,
        key: CacheKey,
        credential: str,
        deadline: Deadline,
        *,
        current: bool,
        token: str | None,
    ) -> Deferred[Known]:
        """Return the records of *key* and *credential* in Redis and in this process."""
        self.writes.commit_before(key)
        look_up = partial(self.redis.look_up, key, credential, current=current, token=token)
        of = key, credential, token
        may_wait = current and self.reads.availability.is_settled and self.servers.writing
        if may_wait and not self.history.is_known:
            looked = self.history.looked_up(min(deadline.left_s, self.timeout_s))
            return looked.addCallback(lambda _: self._look_up(deadline, look_up, *of))
        return self._look_up(deadline, look_up, *of)

    def _look_up(
        self, deadline: Deadline, look_up: Callable[[float], Deferred[Known]], *of: Any
    ) -> Deferred[Known]:
        # No coroutine in the usual case: it takes longer than this.
        return self.reads.once(deadline, look_up).addCallbacks(
            self._with_own,
            lambda failure: self._look_up_again(failure, deadline, look_up, *of),
            callbackArgs=of,
        )

    def _look_up_again(
        self,
        failure: Failure,
        deadline: Deadline,
        look_up: Callable[[float], Deferred[Known]],
        *of: Any,
    ) -> Deferred[Known]:
        """Look up once more after a lost connection; else return the records in memory."""
        error = failure.value
        if not isinstance(error, RedisUnavailableError):
            return fail(failure)
        is_lost = error.reason == "lost"

        async def known() -> Known:
            # Refusals that other replicas received meanwhile can't be seen from here.
            nothing = Known(unstorable=not self.fallback, current=False)
            if not is_lost:
                return nothing
            await deferLater(self.reads.reactor, 0.0)
            try:
                return await self.reads.retried(deadline, look_up)
            except RedisUnavailableError:
                return nothing

        return Deferred.fromCoroutine(known()).addCallback(self._with_own, *of)

    def _with_own(self, known: Known, key: CacheKey, credential: str, token: str | None) -> Known:
        """Return *known*, which Redis returned, with the records of this process."""
        grant = known.grant
        since = -inf if grant is None else grant.requested_at
        own = self.memory.known(key, credential, since, token)
        current = known.current
        if not (self.servers.writing and self.history.is_known and self.history.is_settled):
            # Refusals that other replicas received can't be seen while they can't write them.
            known = evolve(known, current=False)
        known = self._with_epoch(known, own.epoch, token or credential, current=current)
        lost = grant is None or grant.epoch is None
        if known.current and lost and not self.writes.is_in_flight(grant_name(key, credential)):
            # A grant that Redis has lost may have been lost together with a refusal.
            own = own.unvalidated()
        if own.negative is not None:
            # Redis deletes it with the record that ends it; the copy would outlive that record.
            own = evolve(own, negative=None)
        return known.merged(own).effective(self.reads.reactor.seconds())

    def _with_epoch(self, known: Known, own: bytes | None, token: str, *, current: bool) -> Known:
        """Return *known* with the epoch in Redis, or with one that is still to be written there.

        Memory has a copy of the epoch, so that grants have one while Redis is away.
        """
        if self.writes.is_unwritten(epoch_name(token)):
            # Another replica may write one at the same time, and the later one ends this one.
            return evolve(known, epoch=own, current=False)
        unread = known.epoch is None and not current
        if known.epoch == own or unread or not self.history.is_known:
            return evolve(known, epoch=own)
        if current:
            self.memory.set_epoch(token, known.epoch)
        return known

    def fetch(
        self, key: CacheKey, digests: tuple[str, ...], deadline: Deadline, *, current: bool
    ) -> Deferred[dict[str, Representation]]:
        """Return representations: copies in memory, and those that Redis has."""
        copies = self.memory.held(key, digests)
        missing = tuple([digest for digest in dict.fromkeys(digests) if digest not in copies])
        if not missing:
            return succeed(copies)
        fetching = self._fetch(key, copies, missing, deadline, current=current)
        return Deferred.fromCoroutine(fetching)

    async def _fetch(
        self,
        key: CacheKey,
        copies: dict[str, Representation],
        missing: tuple[str, ...],
        deadline: Deadline,
        *,
        current: bool,
    ) -> dict[str, Representation]:
        fetch, found = partial(self.redis.fetch, key), dict[str, Representation]()
        with suppress(RedisUnavailableError):
            found |= await self.reads.retried(deadline, partial(fetch, missing, current=current))
            left = tuple([digest for digest in missing if digest not in found])
            if left and not current and not self.servers.reads_primary:
                # A Redis replica may lag; content that is missing there would be paid for.
                found |= await self.reads.retried(deadline, partial(fetch, left, current=True))
        for representation in found.values():
            self.memory.hold(key, representation)
        return copies | found

    async def limits(
        self, token: str, scopes: tuple[str, ...], deadline: Deadline
    ) -> tuple[Limit, ...]:
        """Return the limits in force that are stored in Redis or in this process."""
        own = self.memory.limits_known(token, scopes)
        try:
            found = await self.reads.retried(deadline, partial(self.redis.limits, token, scopes))
        except RedisUnavailableError:
            return own
        return latest_of_each_scope(own, found)
