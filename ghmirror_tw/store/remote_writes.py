"""Writes to Redis: sent at once, tracked until they are done, and queued where Redis is away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Final, TypeAlias

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Entry, Grant, NegativeResponse, Representation
from ghmirror_tw.github.reported_limit import Limit
from ghmirror_tw.redis import Command, RedisUnavailableError, Reply
from ghmirror_tw.store.memory_store import MemoryStore
from ghmirror_tw.store.remote_interface import IRemoteRecords
from ghmirror_tw.store.write_behind_queue import Write, WriteBehind, WriteKind

#: A cache key, a credential, and the records that a 304 confirmed.
Confirmed: TypeAlias = tuple[CacheKey, str, Grant, Entry]

#: About how many bytes of memory a queued write takes beside its target and links, by tracemalloc.
_QUEUED_BYTES: Final = 750
_QUEUED_GRANT_BYTES: Final = 1500


def grant_name(key: CacheKey, credential: str, *_: object) -> tuple[str, str, str]:
    """Return the name under which the write of a grant is tracked and queued."""
    return "grant", key.name, credential


def epoch_name(token: str) -> tuple[str, str]:
    """Return the name under which the write of an epoch is tracked and queued."""
    return "epoch", token


def size_of_write(key: CacheKey | None = None, grant: Grant | None = None) -> int:
    """Return about how many bytes of memory a queued write takes."""
    size = _QUEUED_BYTES if grant is None else _QUEUED_GRANT_BYTES
    if key is not None:
        size += len(key.target) + sum([len(part) for line in key.others for part in line])
    if grant is not None and grant.link is not None:
        # The entry of the recency list has it as well.
        size += 2 * len(grant.link)
    return size


@define(eq=False)
class _WritesInFlight:
    """Writes that have been sent and have no reply yet, by the key or token they concern."""

    _by_subject: dict[str, list[Deferred[None]]] = field(init=False, factory=dict)
    _names: Counter[Hashable] = field(init=False, factory=Counter)

    def __len__(self) -> int:
        return sum(map(len, self._by_subject.values()))

    def __contains__(self, name: Hashable) -> bool:
        return name in self._names

    def begin(self, name: Hashable, subject: str, done: Deferred[None]) -> None:
        self._by_subject.setdefault(subject, []).append(done)
        self._names[name] += 1

    def end(self, name: Hashable, subject: str, done: Deferred[None]) -> None:
        self._names[name] -= 1
        if not self._names[name]:
            del self._names[name]
        of_subject = self._by_subject[subject]
        of_subject.remove(done)
        if not of_subject:
            del self._by_subject[subject]

    def latest(self, subject: str) -> Deferred[None] | None:
        of_subject = self._by_subject.get(subject)
        return of_subject[-1] if of_subject else None

    async def done(self, subject: str) -> None:
        while of_subject := self._by_subject.get(subject):
            await DeferredList(list(of_subject))

    async def all_done(self) -> None:
        while self._by_subject:
            await DeferredList(
                [done for of_subject in self._by_subject.values() for done in of_subject]
            )


@define(eq=False)
class _Group:
    """Confirmations of one turn of the reactor, and the Deferred that fires when all are done."""

    confirmed: list[Confirmed] = field(factory=list)
    commands: list[Command] = field(factory=list)
    done: Deferred[None] = field(factory=Deferred)


@define(eq=False)
class RemoteWrites:
    """Sends writes to Redis in the order in which they are made; no caller waits for them.

    A write that fails because Redis is away goes to *queue*, and *enqueued* is called.
    Confirmations of one turn of the reactor are sent in one exchange (group commit), because each
    exchange has a cost of its own. Any other write, and any look-up of the same key, sends them
    first, so the order of writes and look-ups is kept.
    """

    reactor: Any
    redis: IRemoteRecords
    memory: MemoryStore
    queue: WriteBehind
    timeout_s: float
    enqueued: Callable[[], object]
    _in_flight: _WritesInFlight = field(init=False, factory=_WritesInFlight)
    #: The confirmations of this turn: by cache key where servers are sharded.
    _groups: dict[str, _Group] = field(init=False, factory=dict)
    _end_of_turn: Any = field(init=False, default=None)
    _log: Logger = field(init=False, factory=lambda: Logger(namespace="ghmirror.store"))

    @property
    def in_flight(self) -> int:
        """How many writes have been made, and are neither done nor queued."""
        return len(self._in_flight)

    def is_in_flight(self, name: Hashable) -> bool:
        """Return whether a write of that name is in flight."""
        return name in self._in_flight

    def is_unwritten(self, name: Hashable) -> bool:
        """Return whether a write of that name is in flight or queued."""
        return name in self._in_flight or name in self.queue

    def latest(self, subject: str) -> Deferred[None] | None:
        """Return the latest write in flight of a key or token; it is not to be changed."""
        return self._in_flight.latest(subject)

    async def done(self, subject: str | None = None) -> None:
        """Wait until writes in flight are done or queued: those of *subject*, or all."""
        await (self._in_flight.all_done() if subject is None else self._in_flight.done(subject))

    # Single writes.

    def send(self, subject: str, write: Write) -> None:
        """Send a write; *subject* is the name of the key or the token that it concerns."""
        self.commit()
        self._track(_run(write.run), subject, write)

    def _track(
        self, sending: Coroutine[Deferred[Any], Any, None], subject: str, write: Write
    ) -> None:
        """Follow *sending*; if it fails, *write* is queued."""
        done = Deferred.fromCoroutine(sending)
        if done.called:
            done.addErrback(self._failed, write)
            return
        self._in_flight.begin(write.name, subject, done)

        def end(result: Failure | None) -> None:
            if result is not None:
                self._failed(result, write)
            self._in_flight.end(write.name, subject, done)

        done.addBoth(end)

    def _failed(self, failure: Failure, write: Write) -> None:
        if not failure.check(RedisUnavailableError):
            self._log.failure("Writing to Redis failed", failure=failure)
        elif write.name is not None:
            self.queue.enqueue(write)
            self.enqueued()

    def deny(
        self, key: CacheKey, credential: str, requested_at: float, token: str, *, first: bool
    ) -> None:
        """Write a refusal, which must not be lost; *first*: it ends nothing stored here."""
        write = Write(
            lambda: self.redis.deny(key, credential, requested_at, self.timeout_s),
            ("refusal", key.name, credential, token),
            WriteKind.FIRST_REFUSAL if first else WriteKind.REFUSAL,
            size_of_write(key),
        )
        self.send(key.name, write)

    def store_negative(self, key: CacheKey, credential: str, negative: NegativeResponse) -> None:
        """Write a negative response; if that fails, it is not queued."""
        write = partial(self.redis.put_negative, key, credential, negative, self.timeout_s)
        self.send(key.name, Write(write))

    def set_limit(self, token: str, limit: Limit) -> None:
        """Write a limit."""
        write = partial(self.redis.set_limit, token, limit, self.timeout_s)
        self.send(token, Write(write, ("limit", token, limit.scope), size=size_of_write()))

    def mark_unstorable(self, key: CacheKey) -> None:
        """Write that responses can't be stored; if that fails, it is not queued."""
        self.send(key.name, Write(partial(self.redis.mark_unstorable, key, self.timeout_s)))

    # Responses, and confirmations.

    def store(
        self,
        key: CacheKey,
        credential: str,
        representation: Representation | None,
        grant: Grant,
        entry: Entry,
    ) -> None:
        """Write a grant and an entry, and the representation that a 200 contained."""
        # The first time with the content at hand; from the queue with the copy in memory, if any.
        content = [] if representation is None else [representation]

        def write() -> Awaitable[None]:
            return self._store(key, credential, grant, entry, content.pop() if content else None)

        self.send(
            key.name,
            Write(write, grant_name(key, credential), size=size_of_write(key, grant)),
        )

    async def _store(
        self,
        key: CacheKey,
        credential: str,
        grant: Grant,
        entry: Entry,
        representation: Representation | None = None,
    ) -> None:
        """Write a grant and an entry, and the representation if Redis doesn't have it."""
        freshen = partial(self.redis.freshen, key, credential, grant, entry)
        stored = await freshen(representation, self.timeout_s)
        copy = None if stored else self.memory.held(key, (grant.digest,)).get(grant.digest)
        if copy is not None:
            await freshen(copy, self.timeout_s)

    def freshen(self, key: CacheKey, credential: str, grant: Grant, entry: Entry) -> None:
        """Write what a 304 confirmed, unless Redis has it about as it is."""
        # For a page with links, all replicas must know its last validation: proofs of its `Link`
        # count only if they are newer.
        if grant.link is None and self.redis.has(key, credential, grant, entry):
            return
        if not self.redis.is_resealed(key, grant.digest):
            copy = self.memory.held(key, (grant.digest,)).get(grant.digest)
            self.store(key, credential, copy, grant, entry)
        elif self.redis.servers.writing:
            self.confirm(key, credential, grant, entry)
        else:
            self.store(key, credential, None, grant, entry)

    def confirm(self, key: CacheKey, credential: str, grant: Grant, entry: Entry) -> None:
        """Write what a 304 confirmed, with the other confirmations of this turn."""
        try:
            command = self.redis.confirmation(key, credential, grant, entry)
        except Exception:  # noqa: BLE001 - the other confirmations must not be lost for it
            self._log.failure("Writing to Redis failed")
            return
        group = self._groups.setdefault(key.name if self.redis.servers.sharded else "", _Group())
        if self._end_of_turn is None:
            self._end_of_turn = self.reactor.callLater(0.0, self.commit)
        group.commands.append(command)
        group.confirmed.append((key, credential, grant, entry))
        self._in_flight.begin(grant_name(key, credential), key.name, group.done)

    def commit_before(self, key: CacheKey) -> None:
        """Send the confirmations of this turn if any write of *key* is in flight."""
        if self._groups and self._in_flight.latest(key.name) is not None:
            self.commit()

    def commit(self) -> None:
        """Send the confirmations of this turn now."""
        if self._end_of_turn is None:
            return
        if self._end_of_turn.active():
            self._end_of_turn.cancel()
        self._end_of_turn = None
        groups, self._groups = self._groups, {}
        for group in groups.values():
            sent = self.redis.confirm(group.confirmed[0][0], group.commands, self.timeout_s)
            sent.addCallback(self._committed, group).addErrback(self._not_committed, group)

    def _committed(self, replies: list[Reply], group: _Group) -> None:
        for confirmed, stored in zip(group.confirmed, replies, strict=True):
            if isinstance(stored, Exception):
                self._enqueue(confirmed)
            elif not stored:
                self._store_again(confirmed)
        self._end(group)

    def _not_committed(self, failure: Failure, group: _Group) -> None:
        if failure.check(RedisUnavailableError):
            for confirmed in group.confirmed:
                self._enqueue(confirmed)
        else:
            self._log.failure("Writing to Redis failed", failure=failure)
        self._end(group)

    def _enqueue(self, confirmed: Confirmed) -> None:
        self.queue.enqueue(self._write_of(confirmed))
        self.enqueued()

    def _write_of(self, confirmed: Confirmed) -> Write:
        key, _, grant, _ = confirmed
        size = size_of_write(key, grant)
        return Write(partial(self._store, *confirmed), grant_name(*confirmed), size=size)

    def _store_again(self, confirmed: Confirmed) -> None:
        """Write a representation that Redis has lost, if there is a copy in memory."""
        key, _, grant, _ = confirmed
        copy = self.memory.held(key, (grant.digest,)).get(grant.digest)
        if copy is not None:
            again = partial(self.redis.freshen, *confirmed, copy, self.timeout_s)
            self._track(_run(again), key.name, self._write_of(confirmed))

    def _end(self, group: _Group) -> None:
        for confirmed in group.confirmed:
            self._in_flight.end(grant_name(*confirmed), confirmed[0].name, group.done)
        group.done.callback(None)

    async def close(self, grace_s: float) -> None:
        """Wait for writes in flight, and up to *grace_s* seconds for durable ones in the queue."""
        self.commit()
        # A reply may show that Redis has lost a representation, which is then written again.
        await self.done()
        if self.queue.has_durable:
            await self.queue.durable_flushed(grace_s)
        self.queue.close()


async def _run(write: Callable[[], Awaitable[object]]) -> None:
    await write()
