"""The memory store: one process, bounded by bytes, least recently used goes first."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from math import inf
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import (
    Entry,
    Grant,
    Known,
    Representation,
    recency_list,
    with_entry,
)
from ghmirror_tw.github.rate_limit_resources import resource_of_path
from ghmirror_tw.github.rate_limits import EVERYTHING, Limit
from ghmirror_tw.runtime.bounded_tables import store_recent
from ghmirror_tw.store.compact_records import (
    EPOCH,
    GRANT,
    LIST,
    REFUSAL,
    REPRESENTATION,
    Keeper,
    Kept,
    Name,
    Record,
    entries_of,
    epoch_of,
    grant_of,
    granted_at,
    is_grant,
    is_representation,
    long,
    short,
    short_text,
    size_of,
    time_of,
)
from ghmirror_tw.store.local_locks import LocalLocks
from ghmirror_tw.store.store_interface import Deadline, IStore, LockName, LockOutcome

#: For so long nobody queues for a key whose answers could not be stored, in seconds.
UNSTORABLE_S: Final = 60.0
_MOST_UNSTORABLE: Final = 10_000
_MOST_LIMITS: Final = 10_000
_MOST_BEGUN: Final = 1000
#: How many records are let go of without a pause: less than a millisecond's work.
_AT_ONCE: Final = 500
#: So many of those used least recently are looked up at a time, to be let go of.
_VICTIMS: Final = 500


def _newer(old: Record | None, record: Record) -> Record | None:
    """Return what takes the place of *old*, or None where that stays as it is."""
    if isinstance(record, Grant):
        keeps = isinstance(old, Grant) and old.asked_at >= record.asked_at
    elif isinstance(record, float):
        keeps = isinstance(old, float) and old >= record
    elif isinstance(record, tuple):
        before = old if isinstance(old, tuple) else ()
        record = recency_list((*before, *record))
        keeps = record == before
    else:
        keeps = old is not None
    return None if keeps else record


@implementer(IStore)
@define(eq=False)
class MemoryStore:
    """A store in this process's memory, of at most *max_size* bytes."""

    reactor: IReactorTime
    max_size: int
    name: str = "memory"
    size: int = 0
    representations: int = 0
    grants: int = 0
    evictions: int = 0
    #: What was written or used here, least recently first; names as `short` makes them.
    _records: dict[bytes, Kept] = field(factory=dict)
    #: How many refusals there are: mostly none.
    _refusals: int = 0
    #: When this process began epochs, by credential, those begun last at the end.
    _begun: OrderedDict[str, float] = field(factory=OrderedDict)
    #: What came from a copy and was not used since, the coldest last.
    _cold: dict[bytes, Kept] = field(factory=dict)
    #: Those that go next, in order: the first of all, less what was used since they were looked up.
    _victims: dict[bytes, None] = field(factory=dict)
    _keeper: Keeper = field(factory=Keeper)
    _locks: LocalLocks = field(init=False)
    _unstorable: OrderedDict[str, float] = field(factory=OrderedDict)
    #: Limits by token and scope, those that were met last at the end.
    _limits: OrderedDict[tuple[str, str], Limit] = field(factory=OrderedDict)
    _evicting: IDelayedCall | None = None

    def __attrs_post_init__(self) -> None:
        self._locks = LocalLocks(self.reactor)

    # Records: how each kind is called, and how it comes, goes and is found.

    def _use(self, name: bytes) -> Kept | None:
        """Return a record as it is kept, and note that it was used."""
        kept = self._records.pop(name, None)
        if kept is None:
            kept = self._cold.pop(name, None) if self._cold else None
            if kept is None:
                return None
        # Put anew, so that the dict itself is in the order of use.
        self._records[name] = kept
        if self._victims:
            self._victims.pop(name, None)
        return kept

    def _refused_at(self, of: bytes, whose: bytes) -> float:
        kept = self._use(REFUSAL + of + whose) if self._refusals else None
        return 0.0 if kept is None else time_of(kept)

    def epoch(self, credential: str) -> bytes | None:
        """Return the epoch of a credential, or None where there is none."""
        kept = self._use(EPOCH + short_text(credential))
        return None if kept is None else epoch_of(kept)

    def _entries(self, of: bytes) -> tuple[Entry, ...]:
        kept = self._use(LIST + of)
        return () if kept is None else entries_of(kept)

    def _count(self, name: bytes, kept: Kept, sign: int) -> None:
        self.size += sign * size_of(kept)
        if is_representation(kept):
            self.representations += sign
        elif is_grant(kept):
            self.grants += sign
        elif name.startswith(REFUSAL):
            self._refusals += sign

    def _pop(self, name: bytes) -> Kept | None:
        """Remove a record, which still counts, and return it as it is kept."""
        if self._victims:
            self._victims.pop(name, None)
        old = self._records.pop(name, None)
        return self._cold.pop(name, None) if old is None and self._cold else old

    def _take(self, name: bytes) -> None:
        old = self._pop(name)
        if old is not None:
            self._count(name, old, -1)

    def _put(self, name: bytes, record: Record) -> None:
        kept, old = self._keeper.keep(record), self._pop(name)
        if type(old) is type(kept) is bytes:
            # A grant, a list or an epoch in place of another.
            self.size += len(kept) - len(old)
        else:
            if old is not None:
                self._count(name, old, -1)
            self._count(name, kept, 1)
        self._records[name] = kept

    def _evict(self) -> None:
        """Let go of what was used least recently: of far more than comes, but never of all at once.

        Only a store that has just been told to be smaller has more to let go of.
        """
        for _ in range(_AT_ONCE):
            if self.size <= self.max_size or not (self._cold or self._records):
                return
            self._count(*(self._cold.popitem() if self._cold else self._pop_first()), -1)
            self.evictions += 1
        if self._evicting is None:
            self._evicting = self.reactor.callLater(0, self._evict_on)

    def _pop_first(self) -> tuple[bytes, Kept]:
        """Remove what was used least recently, and return it with its name.

        To find the first name of a dict takes the longer the more were taken from its beginning.
        """
        if not self._victims:
            self._victims = dict.fromkeys(islice(self._records, _VICTIMS))
        name = next(iter(self._victims))
        del self._victims[name]
        return name, self._records.pop(name)

    def _evict_on(self) -> None:
        self._evicting = None
        self._evict()

    # Questions.

    def store_deadline(self) -> Deadline:
        """Return all the patience there is: nobody ever waits for memory."""
        return Deadline()

    def look_up(
        self,
        key: CacheKey,
        credential: str,
        store_deadline: Deadline,  # noqa: ARG002 - nobody waits for memory
        *,
        current: bool = False,  # noqa: ARG002 - memory always is
        token: str | None = None,
    ) -> Deferred[Known]:
        """Return what is known, the grant only if no refusal outweighs it."""
        known = self.known(key, credential, token=token)
        return succeed(known.effective(self.reactor.seconds()))

    def known(
        self, key: CacheKey, credential: str, since: float = -inf, token: str | None = None
    ) -> Known:
        """Return what is known, refusals beside the grant that they may outweigh.

        The grant only if its question was asked after *since*.
        """
        of, whose = short_text(key.name), short_text(credential)
        grant = self._use(GRANT + of + whose)
        if grant is not None and granted_at(grant) <= since:
            grant = None
        # After the grant, so that a refusal is never evicted before what it outweighs.
        refused_at = self._refused_at(of, whose)
        limits: tuple[Limit, ...] = ()
        if self._limits:
            bucket = resource_of_path(b"GET", key.path)
            limits = self.limits_known(token or credential, (EVERYTHING, bucket))
        return Known(
            grant=None if grant is None else grant_of(grant),
            entries=self._entries(of),
            epoch=self.epoch(credential),
            refused_at=refused_at,
            unstorable=self._is_unstorable(key),
            limits=limits,
        )

    def fetch(
        self,
        key: CacheKey,
        digests: tuple[str, ...],
        store_deadline: Deadline,  # noqa: ARG002 - nobody waits for memory
        *,
        current: bool = False,  # noqa: ARG002 - memory always is
    ) -> Deferred[dict[str, Representation]]:
        """Return those of the representations that have not been evicted."""
        return succeed(self.held(key, digests))

    def held(self, key: CacheKey, digests: tuple[str, ...]) -> dict[str, Representation]:
        """Return those of the representations that are here."""
        here = {}
        for digest in digests:
            kept = self._use(REPRESENTATION + short_text(key.name) + short_text(digest))
            if kept is not None:
                here[digest] = self._keeper.representation(kept, digest)
        return here

    def resize(self, max_size: int) -> None:
        """Hold at most *max_size* bytes from now on."""
        self.max_size = max_size
        self._evict()

    def hold(self, key: CacheKey, representation: Representation) -> None:
        """Keep a copy of a representation."""
        self._put(short("representation", key.name, representation.digest), representation)
        self._evict()

    # Copies.

    def names(self) -> list[Name]:
        """Return the names of all records, those first that were used last."""
        return list(map(long, self.short_names()))

    def short_names(self) -> list[bytes]:
        """Return what `names` does, as `short` makes it.

        All at once, since the order changes with each use.
        """
        names = list(self._records)
        names.reverse()
        names += self._cold
        return names

    def peek(self, name: Name) -> Record | None:
        """Return a record without using it."""
        kept = self._peek(short(*name))
        return None if kept is None else self._keeper.found(kept, name[-1])

    def _peek(self, name: bytes) -> Kept | None:
        kept = self._records.get(name)
        return self._cold.get(name) if kept is None else kept

    @property
    def is_full(self) -> bool:
        """Whether more would push out others."""
        return self.size >= self.max_size

    def admit(self, name: Name, record: Record) -> bool:
        """Put a record from a copy over nothing or an older one; return whether it is new.

        What there is nothing of yet is put behind all that is here, so that it goes first.
        """
        newer = _newer(self.peek(name), record)
        if newer is None:
            return False
        called = short(*name)
        if called in self._records or called in self._cold:
            self._put(called, newer)
            return True
        kept = self._cold[called] = self._keeper.keep(newer)
        self._count(called, kept, 1)
        self._evict()
        return True

    # Statements.

    def store_response(
        self,
        key: CacheKey,
        credential: str,
        representation: Representation,
        grant: Grant,
        entry: Entry,
    ) -> None:
        """Store a representation, its grant and its place in the recency list."""
        self._put(short("representation", key.name, representation.digest), representation)
        self._unstorable.pop(key.name, None)
        self.freshen(key, credential, grant, entry)

    def freshen(self, key: CacheKey, credential: str, grant: Grant, entry: Entry) -> None:
        """Store a grant, over older ones only, and the representation's place in the list."""
        of, whose = short_text(key.name), short_text(credential)
        name = GRANT + of + whose
        old = self._peek(name)
        latest = 0.0 if old is None else granted_at(old)
        # What a refusal outweighs must not outlive it: it would be the one used last.
        if grant.asked_at > max(latest, self._refused_at(of, whose)):
            self._put(name, grant)
        self._put(LIST + of, with_entry(self._entries(of), entry))
        self._evict()

    def deny(self, key: CacheKey, credential: str, asked_at: float) -> None:
        """Store a refusal of a key to a credential; the grant that it outweighs goes."""
        of, whose = short_text(key.name), short_text(credential)
        self._put(REFUSAL + of + whose, max(asked_at, self._refused_at(of, whose)))
        self._evict()
        name = GRANT + of + whose
        grant = self._peek(name)
        if grant is not None and granted_at(grant) <= asked_at:
            self._take(name)

    def begin_epoch(self, credential: str, epoch: bytes, since: float) -> bytes | None:
        """Begin an epoch unless there is one; return that in which requests sent *since* were."""
        known = self.epoch(credential)
        if known is not None:
            return known if self._begun.get(credential, -inf) >= since else None
        store_recent(self._begun, credential, self.reactor.seconds(), _MOST_BEGUN)
        self._put(EPOCH + short_text(credential), epoch)
        self._evict()
        return epoch

    def replace_epoch(self, credential: str, epoch: bytes) -> Deferred[None]:
        """Begin an epoch in place of any other."""
        self.set_epoch(credential, epoch)
        return succeed(None)

    def revoke(self, credential: str, epoch: bytes) -> None:
        """Replace the epoch of a credential, if it has one."""
        if self.epoch(credential) is not None:
            self.set_epoch(credential, epoch)

    def set_epoch(self, credential: str, epoch: bytes | None) -> None:
        """Take the place of what is known of the epoch of a credential; None: it has none."""
        self._begun.pop(credential, None)
        name = EPOCH + short_text(credential)
        if epoch is None:
            self._take(name)
        else:
            self._put(name, epoch)
            self._evict()

    def set_limit(self, token: str, limit: Limit) -> None:
        """Store a limit, over one of the same scope that ends earlier."""
        name = token, limit.scope
        known = self._limits.get(name)
        if known is not None and known.until >= limit.until:
            return
        store_recent(self._limits, name, limit, _MOST_LIMITS)

    def limits(
        self,
        token: str,
        scopes: tuple[str, ...],
        store_deadline: Deadline,  # noqa: ARG002 - nobody waits for memory
    ) -> Deferred[tuple[Limit, ...]]:
        """Return the limits in force."""
        return succeed(self.limits_known(token, scopes))

    def limits_known(self, token: str, scopes: tuple[str, ...]) -> tuple[Limit, ...]:
        """Return the limits in force; those that have ended are let go of."""
        found, now = [], self.reactor.seconds()
        for scope in scopes:
            limit = self._limits.get((token, scope))
            if limit is not None and limit.until > now:
                found.append(limit)
            elif limit is not None:
                del self._limits[token, scope]
        return tuple(found)

    def _is_unstorable(self, key: CacheKey) -> bool:
        until = self._unstorable.get(key.name)
        return until is not None and self.reactor.seconds() < until

    def mark_unstorable(self, key: CacheKey) -> None:
        """Note that responses to *key* can't be stored, and release its lock."""
        until = self.reactor.seconds() + UNSTORABLE_S
        store_recent(self._unstorable, key.name, until, _MOST_UNSTORABLE)
        self._locks.release(LockName(key))

    # Locks.

    def try_acquire(
        self,
        lock: LockName,
        owner: str,
        store_deadline: Deadline,  # noqa: ARG002 - memory takes no time
    ) -> Deferred[LockOutcome]:
        """Acquire a lock, unless it is held, or needless since records are known by now."""
        if self._is_known(lock) or self._is_unstorable(lock.key):
            return succeed(LockOutcome.KNOWN)
        acquired = self._locks.try_acquire(lock, owner)
        return succeed(LockOutcome.ACQUIRED if acquired else LockOutcome.HELD)

    def _is_known(self, lock: LockName) -> bool:
        if lock.credential is None:
            return bool(self._entries(short_text(lock.key.name)))
        name = short("grant", lock.key.name, lock.credential)
        return name in self._records or name in self._cold

    def release(self, lock: LockName, owner: str) -> None:
        """Release a lock, if *owner* holds it."""
        self._locks.release(lock, owner)

    def released(self, lock: LockName, timeout_s: float) -> Deferred[None]:
        """Fire when the lock has been released, or when *timeout_s* has passed."""
        return self._locks.released(lock, timeout_s)

    def close(self) -> Deferred[None]:
        """Release all locks; the records end with the process."""
        evicting, self._evicting = self._evicting, None
        if evicting is not None:
            evicting.cancel()
        self._locks.close()
        return succeed(None)
