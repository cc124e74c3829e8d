"""The interfaces of a store: records, limits and locks, and the copies made of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Sequence
from enum import Enum
from math import inf
from typing import Any, TypeAlias

from attrs import define, frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Entry, Grant, Known, NegativeResponse, Representation
from ghmirror_tw.github.reported_limit import Limit


class LockOutcome(Enum):
    """The outcome of an attempt to acquire a lock.

    KNOWN: the lock is needless, because there are records to look up by now, or because responses
    can't be stored.
    """

    ACQUIRED = "go"
    HELD = "wait"
    KNOWN = "known"


@frozen
class LockName:
    """Identifies a lock. Only the request that holds it sends GitHub a request for *key*.

    With a *credential*, it concerns requests of that credential alone, which has no grant.
    """

    key: CacheKey
    credential: str | None = None

    @classmethod
    def end_of_limit(cls, credential: str, scope: str) -> LockName:
        """Return the lock for probing whether a limit of *credential* in *scope* has ended.

        No request has such a target.
        """
        return cls(CacheKey(b"limit " + scope.encode("ascii")), credential)

    @property
    def text(self) -> str:
        """The name as a text that no other lock has."""
        return f"{self.key.name}:{self.credential or ''}"


@define(eq=False)
class Deadline:
    """How many seconds a request may still wait for the store, over all its look-ups."""

    left_s: float = inf


class IStore(Interface):
    """Records of six kinds, limits, and locks.

    Look-ups return Deferreds. They never fail because of stored bytes or of a store that is away:
    a record that can't be read is not known. They take no longer than *store_deadline* has left,
    and reduce that by the time they took.

    Writes return None. They take effect in the order in which they are made, as seen from this
    process. No caller waits for them, and failures go to the log, not to the caller.

    A *credential* is always a name made by ``CredentialNames``, and so is a *token*, which is the
    same however the credential is sent. Grants and refusals are written only over older ones by
    ``requested_at``, in one step.
    """

    name: str = Attribute("The store's name in metrics and logs: ``memory`` or ``redis``.")

    def store_deadline() -> Deadline:
        """Return how long one request may wait for this store."""

    def look_up(
        key: CacheKey,
        credential: str,
        store_deadline: Deadline,
        *,
        current: bool = False,
        token: str | None = None,
    ) -> Deferred[Known]:
        """Return the records of *key* for *credential*, without a grant that a refusal outweighs.

        Epoch and limits are those of *token*, or of *credential* where it has the same name.

        A grant is left out if it has expired, or if the request that GitHub refused was sent at
        the same time or later. *current*: no record that was stored before must be missing; where
        that can't be had, the result is not `current`.
        """

    def fetch(
        key: CacheKey, digests: tuple[str, ...], store_deadline: Deadline, *, current: bool = False
    ) -> Deferred[dict[str, Representation]]:
        """Return those of the representations that are stored, by digest.

        *current*: no representation that was stored before must be missing, where that can be had.
        """

    def limits(
        token: str, scopes: tuple[str, ...], store_deadline: Deadline
    ) -> Deferred[tuple[Limit, ...]]:
        """Return the limits in force that *token* has met in any of *scopes*."""

    def store_response(
        key: CacheKey,
        credential: str,
        representation: Representation,
        grant: Grant,
        entry: Entry,
    ) -> None:
        """Store a 200: the representation, the grant, and the entry of the recency list."""

    def freshen(key: CacheKey, credential: str, grant: Grant, entry: Entry) -> None:
        """Store a 304 (RFC 9111, section 4.3.4): the grant, and the entry of the recency list."""

    def deny(
        key: CacheKey, credential: str, requested_at: float, *, token: str | None = None
    ) -> None:
        """Store that the grant of *credential* for *key* has ended, at *requested_at* or before.

        GitHub refused the key (403, 404, 410, 451), or its response to a request with a grant
        neither confirmed nor replaced it (see `epochs`). The record is a refusal in both cases.
        If that is lost, all permissions of *token* end, or of *credential* as in `look_up`.
        """

    def store_negative(key: CacheKey, credential: str, negative: NegativeResponse) -> None:
        """Store a response that may be repeated; if Redis is away, it is stored here alone."""

    def begin_epoch(token: str, epoch: bytes, since: float) -> bytes | None:
        """Begin *epoch* for a token that has none, and return it.

        If it has one by now, return that where this process began it at *since* or later, else
        None. *since*, in seconds, is when the client's request was received.
        """

    def replace_epoch(token: str, epoch: bytes, *, if_present: bool = False) -> Deferred[None]:
        """Begin *epoch* in place of any other, after a write, for the whole fleet.

        *if_present*: only if there is another one.

        Fires when the store has it or has failed to store it, or after the time that a request may
        wait for the store. Never fails: where the store could not store it, it tries again later.
        """

    def revoke(token: str, epoch: bytes) -> None:
        """Begin *epoch* in place of another one, if any: GitHub has responded with 401."""

    def set_limit(token: str, limit: Limit) -> None:
        """Store a limit that *token* has met.

        Of each scope, the limit that ends last is stored for the whole fleet. It is in force no
        longer than from now to its end, even if the clocks of other replicas differ.
        """

    def mark_unstorable(key: CacheKey) -> None:
        """Note for a minute that responses to *key* can't be stored, and release its lock."""

    def try_acquire(lock: LockName, owner: str, store_deadline: Deadline) -> Deferred[LockOutcome]:
        """Try, in one step, to acquire a lock for the whole fleet.

        ACQUIRED: the caller has to `release` it. Until then the store renews its lease for as long
        as this process lives. HELD: the caller can wait until it is `released`. KNOWN: the caller
        needs no lock.
        """

    def release(lock: LockName, owner: str) -> None:
        """Release a lock, and notify its waiters; no effect if *owner* does not hold it."""

    def released(lock: LockName, timeout_s: float) -> Deferred[None]:
        """Fire when the lock has been released, or when *timeout_s* has passed."""

    def close() -> Deferred[None]:
        """Release all resources; earlier writes have been carried out where possible."""


#: A record where only bytes are stored: its name (see `record_names`), and the sealed record.
Pair: TypeAlias = tuple[bytes, bytes]


class IArchive(Interface):
    """A store's records, to be copied and restored; snapshots are made of this.

    All methods fail with ``RedisUnavailableError`` while the store is away.
    """

    def dump() -> AsyncGenerator[list[Pair]]:
        """Yield all records, in small batches; representations used last come first.

        Records that change meanwhile may be missing. Use it within `contextlib.aclosing`.
        """

    def admit(pairs: Sequence[Pair]) -> Coroutine[Any, Any, int]:
        """Restore records, over nothing or over older ones only; return how many are new.

        Grants lose their epochs, so they permit nothing. Refusals, bytes that are no records of
        this secret, and expired records are left out.
        """

    def is_full() -> bool:
        """Return whether there is no room for more, so that a restore would evict other records."""

    def mark() -> Coroutine[Any, Any, str | None]:
        """Return the mark of a store that has been filled; None if a part of it has none.

        The mark is lost with the records, and each filling makes a new one. So nothing was lost
        between two equal marks.
        """

    def mark_filled() -> Coroutine[Any, Any, None]:
        """Set a new mark on all parts."""

    def filled_by_others() -> Coroutine[Any, Any, str | None]:
        """Return which fleet of another server or secret filled the store last, or None.

        Each fleet has its own mark and leases.
        """

    def acquire_lease(what: str, owner: str, lease_s: float) -> Coroutine[Any, Any, bool]:
        """Acquire or renew the lease of ``save`` or ``restore``, of which one replica has each.

        Return whether *owner* has it now; it is free again after *lease_s* seconds.
        """

    def release_lease(what: str, owner: str) -> Coroutine[Any, Any, None]:
        """Release a lease, if *owner* has it."""
