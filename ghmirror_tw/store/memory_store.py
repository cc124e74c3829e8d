"""The memory store: the records of one process, LRU, bounded by bytes."""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import (
    Entry,
    Grant,
    Known,
    NegativeResponse,
    Representation,
    with_entry,
)
from ghmirror_tw.github.rate_limit_resources import scopes_of_read
from ghmirror_tw.github.reported_limit import Limit
from ghmirror_tw.runtime.bounded_tables import store_recent
from ghmirror_tw.store.compact_records import (
    entries_of,
    short,
)
from ghmirror_tw.store.local_limits import LocalLimits
from ghmirror_tw.store.local_locks import LocalLocks
from ghmirror_tw.store.local_permissions import LocalPermissions
from ghmirror_tw.store.local_token_epochs import LocalEpochs
from ghmirror_tw.store.lru_records import LruRecords
from ghmirror_tw.store.record_kinds import ENTRY, REPRESENTATION
from ghmirror_tw.store.store_interface import Deadline, IStore, LockName, LockOutcome

#: How long a key counts as unstorable, in seconds: no request waits for another one then.
UNSTORABLE_S: Final = 60.0
_MOST_UNSTORABLE: Final = 10_000
#: Memory takes no time.
_ENDLESS: Final = Deadline()


@implementer(IStore)
@define(eq=False)
class MemoryStore:
    """A store in this process's memory, of at most *max_size* bytes."""

    reactor: IReactorTime
    max_size: int
    name: str = "memory"
    records: LruRecords = field(init=False)
    permissions: LocalPermissions = field(init=False)
    _epochs: LocalEpochs = field(init=False)
    unstorable: OrderedDict[str, float] = field(init=False, factory=OrderedDict)
    _limits: LocalLimits = field(init=False, factory=LocalLimits)
    _locks: LocalLocks = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.records = LruRecords(self.reactor, self.max_size)
        self.permissions = LocalPermissions(self.records)
        self._epochs = LocalEpochs(self.records)
        self._locks = LocalLocks(self.reactor)

    def resize(self, max_size: int) -> None:
        """Store at most *max_size* bytes from now on."""
        self.max_size = max_size
        self.records.resize(max_size)

    # Look-ups.

    def store_deadline(self) -> Deadline:
        """Return a deadline without an end: memory takes no time."""
        return _ENDLESS

    def look_up(
        self,
        key: CacheKey,
        credential: str,
        store_deadline: Deadline,  # noqa: ARG002 - memory takes no time
        *,
        current: bool = False,  # noqa: ARG002 - memory always is
        token: str | None = None,
    ) -> Deferred[Known]:
        """Return the records known, with the grant only if no refusal outweighs it."""
        known = self.known(key, credential, token=token)
        return succeed(known.effective(self.reactor.seconds()))

    def known(
        self, key: CacheKey, credential: str, since: float = -inf, token: str | None = None
    ) -> Known:
        """Return the records known, with a refusal beside the grant that it may outweigh.

        The grant only if its request was sent after *since*.
        """
        grant = self.permissions.grant(key, credential, since)
        refused_at, negative = 0.0, None
        if self.records.negatives:
            negative = self.permissions.negative(key, credential)
        # After these, so that a refusal and a recency list are never evicted before them.
        if self.records.refusals:
            refused_at = self.permissions.refused_at(key, credential)
        token = token or credential
        limits: tuple[Limit, ...] = ()
        if self._limits:
            limits = self.limits_known(token, scopes_of_read(key.path))
        return Known(
            grant=grant,
            entries=self._entries(key),
            epoch=self.epoch(token),
            refused_at=refused_at,
            unstorable=bool(self.unstorable) and self._is_unstorable(key),
            limits=limits,
            negative=negative,
        )

    def _entries(self, key: CacheKey) -> tuple[Entry, ...]:
        entries = self.records.use(short(ENTRY, key.name))
        return () if entries is None else entries_of(entries)

    def epoch(self, token: str) -> bytes | None:
        """Return the epoch of a token, or None where there is none."""
        return self._epochs.get(token)

    def _is_unstorable(self, key: CacheKey) -> bool:
        until = self.unstorable.get(key.name)
        return until is not None and self.reactor.seconds() < until

    def fetch(
        self,
        key: CacheKey,
        digests: tuple[str, ...],
        store_deadline: Deadline,  # noqa: ARG002 - memory takes no time
        *,
        current: bool = False,  # noqa: ARG002 - memory always is
    ) -> Deferred[dict[str, Representation]]:
        """Return those of the representations that have not been evicted."""
        return succeed(self.held(key, digests))

    def held(self, key: CacheKey, digests: tuple[str, ...]) -> dict[str, Representation]:
        """Return those of the representations that are in memory."""
        found = {}
        for digest in digests:
            compact = self.records.use(short(REPRESENTATION, key.name, digest))
            if compact is not None:
                found[digest] = self.records.compactor.representation(compact, digest)
        return found

    # Writes.

    def hold(self, key: CacheKey, representation: Representation) -> None:
        """Store a copy of a representation."""
        name = short(REPRESENTATION, key.name, representation.digest)
        self.records.put(name, representation)

    def store_response(
        self,
        key: CacheKey,
        credential: str,
        representation: Representation,
        grant: Grant,
        entry: Entry,
    ) -> None:
        """Store a representation, its grant and its place in the recency list."""
        self.hold(key, representation)
        self.unstorable.pop(key.name, None)
        self.freshen(key, credential, grant, entry)

    def freshen(self, key: CacheKey, credential: str, grant: Grant, entry: Entry) -> None:
        """Store a grant, over older ones only, and the representation's place in the list."""
        self.permissions.store_grant(key, credential, grant)
        name = short(ENTRY, key.name)
        entries = self.records.use(name)
        known = () if entries is None else entries_of(entries)
        self.records.put(name, with_entry(known, entry))

    def deny(
        self,
        key: CacheKey,
        credential: str,
        requested_at: float,
        *,
        token: str | None = None,  # noqa: ARG002 - memory loses no refusal
    ) -> None:
        """Store a refusal (see `IStore.deny`), and remove what it outweighs."""
        self.permissions.deny(key, credential, requested_at)

    def store_negative(self, key: CacheKey, credential: str, negative: NegativeResponse) -> None:
        """Store a negative response, if no record is of a later request."""
        self.permissions.store_negative(key, credential, negative)

    def begin_epoch(self, token: str, epoch: bytes, since: float) -> bytes | None:
        """Begin *epoch* if there is none.

        Return the current epoch if this process began it at *since* or later, else None.
        """
        return self._epochs.begin(token, epoch, since, self.reactor.seconds())

    def replace_epoch(
        self, token: str, epoch: bytes, *, if_present: bool = False
    ) -> Deferred[None]:
        """Begin an epoch in place of any other."""
        if not if_present or self.epoch(token) is not None:
            self.set_epoch(token, epoch)
        return succeed(None)

    def revoke(self, token: str, epoch: bytes) -> None:
        """Replace the epoch of a token, if it has one."""
        if self.epoch(token) is not None:
            self.set_epoch(token, epoch)

    def set_epoch(self, token: str, epoch: bytes | None) -> None:
        """Replace the epoch of a token; None: it has none."""
        self._epochs.set(token, epoch)

    def set_limit(self, token: str, limit: Limit) -> None:
        """Store a limit, over one of the same scope that ends earlier."""
        self._limits.store(token, limit)

    def limits(
        self,
        token: str,
        scopes: tuple[str, ...],
        store_deadline: Deadline,  # noqa: ARG002 - memory takes no time
    ) -> Deferred[tuple[Limit, ...]]:
        """Return the limits in force."""
        return succeed(self.limits_known(token, scopes))

    def limits_known(self, token: str, scopes: tuple[str, ...]) -> tuple[Limit, ...]:
        """Return the limits in force."""
        return self._limits.in_force(token, scopes, self.reactor.seconds())

    def mark_unstorable(self, key: CacheKey) -> None:
        """Note that responses to *key* can't be stored, and release its lock."""
        until = self.reactor.seconds() + UNSTORABLE_S
        store_recent(self.unstorable, key.name, until, _MOST_UNSTORABLE)
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
            return bool(self._entries(lock.key))
        return self.permissions.has_grant(lock.key, lock.credential)

    def release(self, lock: LockName, owner: str) -> None:
        """Release a lock, if *owner* holds it."""
        self._locks.release(lock, owner)

    def released(self, lock: LockName, timeout_s: float) -> Deferred[None]:
        """Fire when the lock has been released, or when *timeout_s* has passed."""
        return self._locks.released(lock, timeout_s)

    def close(self) -> Deferred[None]:
        """Release all locks; the records end with the process."""
        self.records.close()
        self._locks.close()
        return succeed(None)
