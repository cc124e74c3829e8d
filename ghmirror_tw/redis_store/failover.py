"""The store of a fleet: Redis, with a memory store beside it that stands in while Redis is away.

All that this process writes goes to the memory store, too. While Redis is available, that is a
bounded copy of what was used last: it saves fetching content, and this process finds its own writes
at once. While Redis is unavailable, it is the store; its records are written to Redis when that is
back. It cannot be wrong: content is known by its digest, and of a grant and a refusal the one with
the later request counts, wherever it is stored. A response that GitHub does not confirm now needs a
permission in Redis (see ``policy.order``).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from math import inf
from secrets import token_hex
from typing import Any, Final, TypeAlias, TypeVar

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.order import new_epoch, shows_acceptance
from ghmirror_tw.caching.records import Entry, Grant, Known, Representation
from ghmirror_tw.github.rate_limits import Limit, latest_of_each_scope
from ghmirror_tw.redis.server_figures import Figures
from ghmirror_tw.redis.servers_interface import Command, RedisUnavailableError, Reply
from ghmirror_tw.redis_store.redis_history import History
from ghmirror_tw.redis_store.redis_records import EpochOverError, RedisRecords
from ghmirror_tw.runtime.lag import Lag
from ghmirror_tw.runtime.waiting import waiting, wake
from ghmirror_tw.store.claim_leases import LEASE_S, Leases
from ghmirror_tw.store.claim_watch import Watch
from ghmirror_tw.store.measured_store import LookupTimes, is_something, what_came
from ghmirror_tw.store.memory_store import MemoryStore
from ghmirror_tw.store.store_interface import Deadline, IStore, LockName, LockOutcome
from ghmirror_tw.store.write_behind import Write, WriteBehind

R = TypeVar("R")
#: A cache key, a credential, and what is written of them.
_Confirmed: TypeAlias = tuple[CacheKey, str, Grant, Entry]

#: Nobody waits for statements, so they may take so many times as long as questions.
_UNHURRIED: Final = 4


@define(frozen=True)
class Sizes:
    """How much the memory store may hold, in bytes: beside Redis, and in its place."""

    beside: int
    instead: int


@define(eq=False)
class _Turn:
    """What was confirmed in one turn of the reactor, to be written together."""

    confirmed: list[_Confirmed] = field(factory=list)
    commands: list[Command] = field(factory=list)
    #: Fires when all of it is written, or owed.
    sent: Deferred[None] = field(factory=Deferred)


def _grant_of(key: CacheKey, credential: str, *_: object) -> tuple[str, str, str]:
    """Return under what name the writing of a grant is owed."""
    return "grant", key.name, credential


def _epoch_of(credential: str) -> tuple[str, str]:
    """Return under what name the writing of an epoch is owed."""
    return "epoch", credential


@implementer(IStore)
@define(eq=False)
class FailoverStore:
    """Redis where it can be asked, memory where it can't.

    *timeout_s*: what one request may wait for Redis, in all. Without *fallback*, requests are
    answered without storing while Redis is away. *report* takes measurements, by *clock*.
    *known* is called when it is known for the first time whether Redis can be asked. When it is
    closed, it waits up to *grace_s* seconds for writes that must not be lost.
    """

    reactor: Any
    redis: RedisRecords
    memory: MemoryStore
    sizes: Sizes
    timeout_s: float
    fallback: bool
    report: LookupTimes
    clock: Callable[[], float]
    known: Callable[[], object] = lambda: None
    name: str = "redis"
    grace_s: float = 0.0
    history: History = field(init=False)
    _returns: int | None = field(init=False, default=None)
    _owed: WriteBehind = field(init=False)
    _watch: Watch = field(init=False)
    _leases: Leases = field(init=False)
    _sending: dict[str, list[Deferred[None]]] = field(init=False, factory=dict)
    _stating: dict[Hashable, int] = field(init=False, factory=dict)
    #: What was confirmed in this turn of the reactor; by cache key where servers are sharded.
    _turns: dict[str, _Turn] = field(init=False, factory=dict)
    _end_of_turn: Any = field(init=False, default=None)
    _lag: Lag = field(init=False)
    figures: Figures = field(init=False)
    _is_settled: bool = field(init=False, default=False)
    _closed: bool = field(init=False, default=False)
    _unsettled: list[Deferred[None]] = field(init=False, factory=list)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"))

    def __attrs_post_init__(self) -> None:
        redis, servers = self.redis, self.redis.servers
        self._lag = Lag(self.reactor)
        self.figures = Figures(self.reactor, servers)
        self._owed = WriteBehind(self.reactor, self._can_pay, self.resize, redis.chance)
        self.history = History(
            self.reactor,
            servers,
            token_hex(8).encode(),
            lambda: self._owed.owes_first,
            redis.change_history,
        )
        self._watch = Watch(
            self.reactor,
            lambda subject: redis.is_locked(subject, self.timeout_s),
            lambda: servers.reading,
            redis.chance,
        )
        self._leases = Leases(
            self.reactor,
            lambda subject, owner: redis.renew(subject, owner, LEASE_S, self._statement_s),
        )
        self.resize()

    @property
    def available(self) -> bool:
        """Whether Redis can be read and written now."""
        servers = self.redis.servers
        return bool(servers.reading and servers.writing)

    def _can_pay(self) -> bool:
        """Tell whether queued writes can be done. An epoch can only in a history that is known."""
        return self.redis.servers.writing and self.redis.history is not None

    @property
    def _statement_s(self) -> float:
        return self.timeout_s * _UNHURRIED

    def open(self) -> None:
        """Begin to connect."""
        self._lag.open()
        self.redis.servers.open()
        self.redis.servers.settled().addCallback(self._look_at_history)

    def _look_at_history(self, _: None) -> None:
        self._returns = self.redis.servers.returns
        self.history.look()
        if self.redis.servers.writing:
            self.history.looked(self._statement_s).addCallback(self._settle)
        else:
            self._settle(None)

    def _settle(self, _: None) -> None:
        if self._closed:
            return
        self._is_settled = True
        self.figures.open()
        wake(self._unsettled)
        self.known()

    @property
    def is_settled(self) -> bool:
        """Whether it is known by now if Redis can be asked."""
        return self._is_settled

    def settled(self) -> Deferred[None]:
        """Fire when it is known for the first time whether Redis can be asked."""
        return succeed(None) if self._is_settled else waiting(self.reactor, self._unsettled)

    def changed(self) -> None:
        """Note that Redis came or went, and may have lost records meanwhile."""
        returns = self.redis.servers.returns
        if self._returns not in {None, returns}:
            self.history.interrupted()
        if self._is_settled:
            self._returns = returns
        self.resize()

    def connected(self) -> None:
        """Note a new connection, which may lead to another server."""
        if self._is_settled:
            self.history.connected()

    def resize(self) -> None:
        """Give the memory store the size that it needs now."""
        alone = self.fallback and (not self.available or bool(self._owed))
        self.memory.resize(self.sizes.instead if alone else self.sizes.beside)

    # Questions.

    def store_deadline(self) -> Deadline:
        """Return how long one request may wait for Redis."""
        return Deadline(self.timeout_s)

    async def _ask(
        self,
        operation: str,
        store_deadline: Deadline,
        ask: Callable[[float], Deferred[R]],
        result_of: Callable[[R], bool],
    ) -> R:
        """Ask Redis, no longer than there is patience, and measure what it took.

        When the connection is lost, another one may be well. Or it turns out that all are: that
        is known before it is said that nothing is known, so that a filling can be waited for.
        """
        while True:
            try:
                return await self._ask_once(operation, store_deadline, ask, result_of)
            except RedisUnavailableError as error:
                if error.reason != "lost":
                    raise
            await deferLater(self.reactor, 0.0)

    def _ask_once(
        self,
        operation: str,
        store_deadline: Deadline,
        ask: Callable[[float], Deferred[R]],
        result_of: Callable[[R], bool],
    ) -> Deferred[R]:
        """Ask Redis over one connection.

        What this process was held up by itself costs no patience: Redis can't help it.
        """
        if store_deadline.left_s <= 0:
            return fail(
                RedisUnavailableError("timeout", "the request has waited long enough for Redis")
            )
        began, lag_s = self.clock(), self._lag.total_s

        def measure(result: R | Failure) -> R | Failure:
            took = self.clock() - began
            store_deadline.left_s -= self._waited_s(began, lag_s)
            self.report(self.name, operation, what_came(result, result_of), took)
            return result

        if self._is_settled:
            asked = ask(store_deadline.left_s)
        else:
            settled = waiting(self.reactor, self._unsettled, store_deadline.left_s)
            asked = settled.addCallback(
                lambda _: ask(store_deadline.left_s - self._waited_s(began, lag_s))
            )
        return asked.addBoth(measure)

    def _waited_s(self, began: float, lag_s: float) -> float:
        """Return how long Redis has been waited for, by the time and the lag at the beginning."""
        # by a clock that was set back meanwhile there would be less than none
        lag_s = max(self._lag.total_s - lag_s, 0.0)
        return max(self.clock() - began - lag_s, 0.0)

    def look_up(
        self,
        key: CacheKey,
        credential: str,
        store_deadline: Deadline,
        *,
        current: bool = False,
        token: str | None = None,
    ) -> Deferred[Known]:
        """Return what Redis and this process know."""
        if key.name in self._sending:
            self._end_turn()
        ask = partial(self.redis.look_up, key, credential, current=current, token=token)
        may_wait = current and self._is_settled and self.redis.servers.writing
        if may_wait and not self.history.is_known:
            looked = self.history.looked(min(store_deadline.left_s, self.timeout_s))
            return looked.addCallback(
                lambda _: self._look_up(key, credential, token, store_deadline, ask)
            )
        return self._look_up(key, credential, token, store_deadline, ask)

    def _look_up(
        self,
        key: CacheKey,
        credential: str,
        token: str | None,
        store_deadline: Deadline,
        ask: Callable[[float], Deferred[Known]],
    ) -> Deferred[Known]:
        return self._ask_once("look_up", store_deadline, ask, is_something).addCallbacks(
            self._with_own,
            self._look_up_again,
            callbackArgs=(key, credential, token),
            errbackArgs=(key, credential, token, store_deadline, ask),
        )

    def _look_up_again(  # noqa: PLR0913, PLR0917 - the look-up once more
        self,
        failure: Failure,
        key: CacheKey,
        credential: str,
        token: str | None,
        store_deadline: Deadline,
        ask: Callable[[float], Deferred[Known]],
    ) -> Deferred[Known]:
        """Return what can be known when Redis has not answered at once."""
        error = failure.value
        if not isinstance(error, RedisUnavailableError):
            return fail(failure)
        reason = error.reason

        async def known() -> Known:
            # Refusals that other replicas received meanwhile can't be seen from here.
            nothing = Known(unstorable=not self.fallback, current=False)
            if reason != "lost":
                return nothing
            await deferLater(self.reactor, 0.0)
            try:
                return await self._ask("look_up", store_deadline, ask, is_something)
            except RedisUnavailableError:
                return nothing

        return Deferred.fromCoroutine(known()).addCallback(self._with_own, key, credential, token)

    def _with_own(self, known: Known, key: CacheKey, credential: str, token: str | None) -> Known:
        """Return what Redis knows with what this process does."""
        grant = known.grant
        since = -inf if grant is None else grant.asked_at
        here = self.memory.known(key, credential, since, token)
        current = known.current
        if not (self.redis.servers.writing and self.history.is_known and self.history.is_settled):
            # Refusals that other replicas received can't be seen while they can't write them.
            known = evolve(known, current=False)
        known = self._with_epoch(known, here.epoch, credential, current=current)
        lost = grant is None or grant.epoch is None
        if known.current and lost and _grant_of(key, credential) not in self._stating:
            # What Redis has lost, it may have lost together with a refusal.
            here = here.doubted()
        return known.with_all_of(here).weighed(self.reactor.seconds())

    def _with_epoch(
        self, known: Known, here: bytes | None, credential: str, *, current: bool
    ) -> Known:
        """Return *known* with the epoch in Redis, or with one that is still to be written there.

        Memory has a copy of the epoch, so that grants have one while Redis is away.
        """
        name = _epoch_of(credential)
        if name in self._stating or name in self._owed:
            # Another replica may write one at the same time, and the later one ends this one.
            return evolve(known, epoch=here, current=False)
        unread = known.epoch is None and not current
        if known.epoch == here or unread or not self.history.is_known:
            return evolve(known, epoch=here)
        if current:
            self.memory.set_epoch(credential, known.epoch)
        return known

    def fetch(
        self,
        key: CacheKey,
        digests: tuple[str, ...],
        store_deadline: Deadline,
        *,
        current: bool = False,
    ) -> Deferred[dict[str, Representation]]:
        """Return representations: copies that are here, or those that Redis has."""
        found = self.memory.held(key, digests)
        missing = tuple([digest for digest in dict.fromkeys(digests) if digest not in found])
        if not missing:
            return succeed(found)
        return Deferred.fromCoroutine(
            self._fetch(key, found, missing, store_deadline, current=current)
        )

    async def _fetch(
        self,
        key: CacheKey,
        found: dict[str, Representation],
        missing: tuple[str, ...],
        store_deadline: Deadline,
        *,
        current: bool,
    ) -> dict[str, Representation]:
        try:
            fetched = await self._ask(
                "fetch",
                store_deadline,
                lambda left_s: Deferred.fromCoroutine(
                    self._fetch_from_redis(key, missing, left_s, current=current)
                ),
                lambda fetched: len(fetched) == len(missing),
            )
        except RedisUnavailableError:
            return found
        for representation in fetched.values():
            self.memory.hold(key, representation)
        return found | fetched

    async def _fetch_from_redis(
        self, key: CacheKey, digests: tuple[str, ...], left_s: float, *, current: bool
    ) -> dict[str, Representation]:
        """Ask who lags only about what it has by now: what is missing would have to be paid for."""
        began, lag_s = self.clock(), self._lag.total_s
        found = await self.redis.fetch(key, digests, left_s, current=current)
        missing = tuple(digest for digest in digests if digest not in found)
        if not missing or current or self.redis.servers.reads_primary:
            return found
        left_s -= self._waited_s(began, lag_s)
        return found | await self.redis.fetch(key, missing, left_s, current=True)

    # Statements.

    def _confirm(self, key: CacheKey, credential: str, grant: Grant, entry: Entry) -> None:
        """Have what a 304 confirmed written to Redis at the end of this turn of the reactor.

        What is done for many at a time takes less time for each of them. Before anything is asked
        or stated of the same key, it is written at once.
        """
        try:
            command = self.redis.confirmation(key, credential, grant, entry)
        except Exception:  # noqa: BLE001 - what others confirmed must not be lost for it
            self._log.failure("Writing to Redis failed")
            return
        slot = key.name if self.redis.servers.sharded else ""
        turn = self._turns.get(slot)
        if turn is None:
            turn = self._turns[slot] = _Turn()
        if self._end_of_turn is None:
            self._end_of_turn = self.reactor.callLater(0.0, self._end_turn)
        turn.commands.append(command)
        turn.confirmed.append((key, credential, grant, entry))
        self._begin(_grant_of(key, credential), key.name, turn.sent)

    def _end_turn(self) -> None:
        """Write what was confirmed."""
        if self._end_of_turn is None:
            return
        if self._end_of_turn.active():
            self._end_of_turn.cancel()
        self._end_of_turn = None
        turns, self._turns = self._turns, {}
        # Whoever is told of one before the next is written must not ask Redis in that moment.
        for turn in turns.values():
            asked = self.redis.confirm(turn.confirmed[0][0], turn.commands, self._statement_s)
            asked.addCallback(self._confirmed, turn).addErrback(self._not_confirmed, turn)

    def _confirmed(self, replies: list[Reply], turn: _Turn) -> None:
        """Take note of what was written, and of what was not."""
        for confirmed, there in zip(turn.confirmed, replies, strict=True):
            if isinstance(there, Exception):
                self._owe(confirmed)
            elif not there:
                self._put_back(confirmed)
        self._end(turn)

    def _not_confirmed(self, failure: Failure, turn: _Turn) -> None:
        if failure.check(RedisUnavailableError):
            for confirmed in turn.confirmed:
                self._owe(confirmed)
        else:
            self._log.failure("Writing to Redis failed", failure=failure)
        self._end(turn)

    def _owe(self, confirmed: _Confirmed) -> None:
        self._owed.owe(_grant_of(*confirmed), partial(self._store, *confirmed))
        self.resize()

    def _put_back(self, confirmed: _Confirmed) -> None:
        """Write a representation that is not in Redis any more, if it is here."""
        key, _, grant, _ = confirmed
        held = self.memory.held(key, (grant.digest,)).get(grant.digest)
        if held is not None:
            write = partial(self.redis.freshen, *confirmed, held, self._statement_s)
            owed = partial(self._store, *confirmed)
            self._sent_by(_done(write), _grant_of(*confirmed), key.name, owed)

    def _end(self, turn: _Turn) -> None:
        for confirmed in turn.confirmed:
            self._sent(_grant_of(*confirmed), confirmed[0].name, turn.sent)
        turn.sent.callback(None)

    def _send(
        self, name: Hashable | None, slot: str, write: Write, *, lasting: bool = False
    ) -> None:
        """Have something written to Redis, of the key or credential *slot*; nobody waits for it.

        What can't be written is owed under its *name*, if it has one. What is *lasting* is owed
        before all else.
        """
        self._end_turn()
        self._sent_by(_done(write), name, slot, write, lasting=lasting)

    def _sent_by(
        self,
        sending: Coroutine[Deferred[Any], Any, None],
        name: Hashable | None,
        slot: str,
        write: Write,
        *,
        lasting: bool = False,
    ) -> None:
        sent = Deferred.fromCoroutine(sending)
        if sent.called:
            sent.addErrback(self._not_written, name, write, lasting=lasting)
            return
        self._begin(name, slot, sent)

        def done(result: Failure | None) -> None:
            if result is not None:
                self._not_written(result, name, write, lasting=lasting)
            self._sent(name, slot, sent)

        sent.addBoth(done)

    def _not_written(
        self, failure: Failure, name: Hashable | None, write: Write, *, lasting: bool
    ) -> None:
        if not failure.check(RedisUnavailableError):
            self._log.failure("Writing to Redis failed", failure=failure)
        elif name is not None:
            self._owed.owe(name, write, first=lasting)
            self.resize()

    def _begin(self, name: Hashable | None, slot: str, sent: Deferred[None]) -> None:
        self._sending.setdefault(slot, []).append(sent)
        self._stating[name] = self._stating.get(name, 0) + 1

    def _sent(self, name: Hashable | None, slot: str, sent: Deferred[None]) -> None:
        left = self._stating.pop(name) - 1
        if left:
            self._stating[name] = left
        of_slot = self._sending[slot]
        of_slot.remove(sent)
        if not of_slot:
            del self._sending[slot]

    async def _until_sent(self, slot: str) -> None:
        """Wait until what was stated of a key or credential is written, or owed."""
        while under_way := self._sending.get(slot):
            await DeferredList(list(under_way))

    async def _store(
        self,
        key: CacheKey,
        credential: str,
        grant: Grant,
        entry: Entry,
        representation: Representation | None = None,
    ) -> None:
        """Write a grant and an entry, and the representation if it isn't there."""
        there = await self.redis.freshen(
            key, credential, grant, entry, representation, self._statement_s
        )
        held = None if there else self.memory.held(key, (grant.digest,)).get(grant.digest)
        if held is not None:
            await self.redis.freshen(key, credential, grant, entry, held, self._statement_s)

    @property
    def _learns(self) -> bool:
        return self.fallback or bool(self.redis.servers.writing)

    def store_response(
        self,
        key: CacheKey,
        credential: str,
        representation: Representation,
        grant: Grant,
        entry: Entry,
    ) -> None:
        """Store what a 200 brought."""
        if not self._learns:
            return
        self.memory.store_response(key, credential, representation, grant, entry)
        # The first time with the content that is at hand; later with what is left in memory.
        content = [representation]
        self._send(
            _grant_of(key, credential),
            key.name,
            lambda: self._store(key, credential, grant, entry, content.pop() if content else None),
        )

    def freshen(self, key: CacheKey, credential: str, grant: Grant, entry: Entry) -> None:
        """Store what a 304 confirmed."""
        if not self._learns:
            return
        self.memory.freshen(key, credential, grant, entry)
        # For a page with links, all replicas must know its last validation: proofs of its `Link`
        # count only if they are newer.
        if grant.link is None and self.redis.has(key, credential, grant, entry):
            return
        if self.redis.servers.writing:
            self._confirm(key, credential, grant, entry)
        else:
            confirmed = key, credential, grant, entry
            self._send(_grant_of(*confirmed), key.name, partial(self._store, *confirmed))

    def deny(self, key: CacheKey, credential: str, asked_at: float) -> None:
        """Store a refusal of a key; it is queued, first, until Redis has it."""
        self.memory.deny(key, credential, asked_at)
        self._send(
            ("refusal", key.name, credential),
            key.name,
            lambda: self.redis.deny(key, credential, asked_at, self._statement_s),
            lasting=True,
        )

    def begin_epoch(self, credential: str, epoch: bytes, since: float) -> bytes | None:
        """Begin an epoch in the whole fleet, unless there is one."""
        if self.redis.history is None:
            return None
        began = self.memory.begin_epoch(credential, epoch, since)
        if began == epoch:
            self._put_epoch(credential, epoch, EpochOverError.NOTHING)
        return began

    def revoke(self, credential: str, epoch: bytes) -> None:
        """Replace the epoch of a credential, if any; it is queued, first, until Redis has it."""
        self.memory.revoke(credential, epoch)
        self._put_epoch(credential, epoch, EpochOverError.ANOTHER)

    def _put_epoch(self, credential: str, epoch: bytes, over: EpochOverError) -> None:
        """Write an epoch, or later another one in its place.

        A late write may come after writes of other replicas, and must not permit grants from before
        those.
        """
        at_once = [epoch]

        async def put() -> None:
            if self.redis.history is None and self.redis.servers.writing:
                await self.history.looked(self._statement_s)
            mine = at_once.pop() if at_once else new_epoch(accepted=shows_acceptance(epoch))
            if mine != epoch and self.memory.epoch(credential) is not None:
                self.memory.set_epoch(credential, mine)
            there = await self.redis.put_epoch(credential, mine, self._statement_s, over)
            if there != mine and self.memory.epoch(credential) == mine:
                self.memory.set_epoch(credential, there)

        lasting = over is not EpochOverError.NOTHING
        self._send(_epoch_of(credential), credential, put, lasting=lasting)

    def replace_epoch(self, credential: str, epoch: bytes) -> Deferred[None]:
        """Replace an epoch in the whole fleet; fire when Redis has it, or after the timeout."""
        self.memory.replace_epoch(credential, epoch)
        self._put_epoch(credential, epoch, EpochOverError.EITHER)
        sending = self._sending.get(credential)
        if not sending:
            return succeed(None)
        waiters: list[Deferred[None]] = []
        sending[-1].addCallback(lambda _: wake(waiters))
        return waiting(self.reactor, waiters, self.timeout_s)

    def set_limit(self, token: str, limit: Limit) -> None:
        """Store a limit, in the whole fleet."""
        self.memory.set_limit(token, limit)
        self._send(
            ("limit", token, limit.scope),
            token,
            lambda: self.redis.set_limit(token, limit, self._statement_s),
        )

    def limits(
        self, token: str, scopes: tuple[str, ...], store_deadline: Deadline
    ) -> Deferred[tuple[Limit, ...]]:
        """Return the limits in force that are stored in Redis or in this process."""
        return Deferred.fromCoroutine(self._limits(token, scopes, store_deadline))

    async def _limits(
        self, token: str, scopes: tuple[str, ...], store_deadline: Deadline
    ) -> tuple[Limit, ...]:
        here = self.memory.limits_known(token, scopes)
        try:
            there = await self._ask(
                "limits",
                store_deadline,
                lambda left_s: Deferred.fromCoroutine(self.redis.limits(token, scopes, left_s)),
                bool,
            )
        except RedisUnavailableError:
            return here
        return latest_of_each_scope(here, there)

    def mark_unstorable(self, key: CacheKey) -> None:
        """Note that answers can't be stored; that isn't worth owing."""
        self.memory.mark_unstorable(key)
        self._send(None, key.name, lambda: self.redis.mark_unstorable(key, self._statement_s))

    # Who asks first: one in this process, and that one in the fleet.

    def try_acquire(
        self, subject: LockName, owner: str, store_deadline: Deadline
    ) -> Deferred[LockOutcome]:
        """Try to go first."""
        return Deferred.fromCoroutine(self._claim(subject, owner, store_deadline))

    async def _claim(self, subject: LockName, owner: str, store_deadline: Deadline) -> LockOutcome:
        said = await self.memory.try_acquire(subject, owner, store_deadline)
        if said is not LockOutcome.ACQUIRED:
            return said
        try:
            said = await self._claim_in_fleet(subject, owner, store_deadline)
        except RedisUnavailableError:
            return LockOutcome.ACQUIRED
        except Exception:  # cancelled, for one: who asked is gone, and must not hold up anybody
            self.memory.release(subject, owner)
            self._release_in_fleet(subject, owner)
            raise
        if said is LockOutcome.ACQUIRED:
            self._leases.begin(subject, owner)
        else:
            self.memory.release(subject, owner)
        return said

    async def _claim_in_fleet(
        self, subject: LockName, owner: str, store_deadline: Deadline
    ) -> LockOutcome:
        if self._watch.knows(subject):
            return LockOutcome.HELD
        said = await self._ask(
            "claim",
            store_deadline,
            lambda left_s: Deferred.fromCoroutine(
                self.redis.try_acquire(subject, owner, LEASE_S, left_s)
            ),
            lambda claim: claim is LockOutcome.KNOWN,
        )
        if said is LockOutcome.HELD:
            self._watch.begin(subject)
        return said

    def release(self, subject: LockName, owner: str) -> None:
        """End a claim, once what was stated of it can be seen by who waits for it."""
        self.memory.release(subject, owner)
        if self._leases.end(subject, owner):
            self._release_in_fleet(subject, owner)

    def _release_in_fleet(self, subject: LockName, owner: str) -> None:
        self._send(None, "", lambda: self._release(subject, owner))

    async def _release(self, subject: LockName, owner: str) -> None:
        for slot in filter(None, (subject.key.name, subject.credential)):
            await self._until_sent(slot)
        await self.redis.release(subject, owner, self._statement_s)

    def released(self, subject: LockName, timeout_s: float) -> Deferred[None]:
        """Return when the claim has ended, here or elsewhere."""
        return Deferred.fromCoroutine(self._wait(subject, timeout_s))

    async def _wait(self, subject: LockName, timeout_s: float) -> None:
        until = self.reactor.seconds() + timeout_s
        if not self._watch.knows(subject):
            await self.memory.released(subject, timeout_s)
        # Who was first here may have found that somebody else was first in the fleet.
        if self._watch.knows(subject):
            await self._watch.released(subject, max(until - self.reactor.seconds(), 0.0))

    # The end.

    def close(self) -> Deferred[None]:
        """Let what has been stated be written, and close all connections."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._closed = True
        self._end_turn()
        self._lag.close()
        self.figures.close()
        self._leases.close()
        self._watch.close()
        # What Redis turns out to have lost is written again behind that.
        while self._sending:
            await DeferredList([sent for of_key in self._sending.values() for sent in of_key])
        if self._owed.owes_first:
            await self._owed.paid_first(self.grace_s)
        self._owed.close()
        await self.history.close()
        await self.redis.servers.close()
        await self.memory.close()


async def _done(write: Write) -> None:
    await write()
