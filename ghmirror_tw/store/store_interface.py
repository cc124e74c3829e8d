"""What every store does, so that the mirror need not know which one it asks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Sequence
from enum import Enum
from math import inf
from typing import Any, TypeAlias

from attrs import define, frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Entry, Grant, Known, Representation
from ghmirror_tw.github.rate_limits import Limit


class LockOutcome(Enum):
    """What a store says to somebody who wants to ask first for something."""

    ACQUIRED = "go"
    HELD = "wait"
    KNOWN = "known"


@frozen
class LockName:
    """What somebody wants to ask first for.

    A key of which nothing is known; or, with a *credential*, a key of which it has no grant.
    """

    key: CacheKey
    credential: str | None = None

    @classmethod
    def end_of_limit(cls, credential: str, scope: str) -> LockName:
        """Return whether a limit of *credential* in *scope* has ended.

        No request has such a target.
        """
        return cls(CacheKey(b"limit " + scope.encode("ascii")), credential)

    @property
    def name(self) -> str:
        """What tells it from other subjects."""
        return f"{self.key.name}:{self.credential or ''}"


@define(eq=False)
class Deadline:
    """How long a request may still wait for the store, in seconds, whatever it asks it."""

    left_s: float = inf


class IStore(Interface):
    """The five kinds of records, limits, and claims.

    Questions return Deferreds. They never fail on account of what is stored or of a store that
    can't be asked: what can't be read is not known. They take no longer than *store_deadline* has
    left, and take what they took from it. Statements (the methods that return None) take effect in
    the order they are made, as seen from this process, and report trouble in the log, not to the
    caller; no caller waits for them. A *credential* is always a name made by ``CredentialNames``,
    and so is a *token*, which is the same however the credential is sent.

    Grants and refusals are written only over older ones by ``asked_at``, in one step.
    """

    name: str = Attribute("What metrics and logs call this store: ``memory`` or ``redis``.")

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
        """Return what is known of *key* for *credential*, refusals already weighed.

        Limits are those of *token*, or of *credential* where it has the same name.

        A grant is left out if it has expired, or if the request that GitHub refused was sent at
        the same time or later. *current*: no record that was stored before must be missing; if
        that can't be had, the result is not `current`.
        """

    def fetch(
        key: CacheKey, digests: tuple[str, ...], store_deadline: Deadline, *, current: bool = False
    ) -> Deferred[dict[str, Representation]]:
        """Return those of the representations that are still there, by digest.

        *current*: what was stored before must not be missing, if that can be had.
        """

    def store_response(
        key: CacheKey,
        credential: str,
        representation: Representation,
        grant: Grant,
        entry: Entry,
    ) -> None:
        """Store what a 200 brought: the representation, the grant, its place in the list."""

    def freshen(key: CacheKey, credential: str, grant: Grant, entry: Entry) -> None:
        """Store what a 304 confirmed: the grant, and the representation's place in the list."""

    def deny(key: CacheKey, credential: str, asked_at: float) -> None:
        """Store that GitHub refused *key* to *credential* (403, 404, 410 or 451)."""

    def begin_epoch(credential: str, epoch: bytes, since: float) -> bytes | None:
        """Begin *epoch* for a credential that has none, and return it.

        If it has one by now, return that where this process began it at *since* or later, else
        None. *since*, in seconds, is when the client's request was received.
        """

    def replace_epoch(credential: str, epoch: bytes) -> Deferred[None]:
        """Begin *epoch* in place of any other, after a write, for the whole fleet.

        Fires when the store has it or has failed to store it, or after the time that a request may
        wait for the store. Never fails: where the store could not store it, it tries again later.
        """

    def revoke(credential: str, epoch: bytes) -> None:
        """Begin *epoch* in place of another one, if any: GitHub has responded with 401."""

    def set_limit(token: str, limit: Limit) -> None:
        """Store a limit that *token* has met.

        Of each scope, the limit that ends last is stored for the whole fleet. It is in force no
        longer than from now to its end, whatever the clocks of other replicas show.
        """

    def limits(
        token: str, scopes: tuple[str, ...], store_deadline: Deadline
    ) -> Deferred[tuple[Limit, ...]]:
        """Return the limits in force that *token* has met in any of *scopes*."""

    def mark_unstorable(key: CacheKey) -> None:
        """Note for a minute that answers to *key* can't be stored, and end the claim to it."""

    def try_acquire(
        subject: LockName, owner: str, store_deadline: Deadline
    ) -> Deferred[LockOutcome]:
        """Try, in one step, to be the one in the fleet who asks for *subject*.

        GO: ask, and ``release`` it afterwards; until then the store keeps the claim alive for as
        long as this process lives. WAIT: somebody else is asking; ``wait`` for them. KNOWN: by
        now there is something to look up, or nothing will be.
        """

    def release(subject: LockName, owner: str) -> None:
        """End the claim of *owner*, and wake who waits for it. Nothing if it isn't theirs."""

    def released(subject: LockName, timeout_s: float) -> Deferred[None]:
        """Return when the claim to *subject* has ended, or when *timeout_s* has passed."""

    def close() -> Deferred[None]:
        """Let go of all resources; statements made before have been carried out where possible."""


@frozen
class Budget:
    """Something of which GitHub allows a credential only so much: *limit*, in the whole fleet.

    *kind* tells it from the others of this credential. What was used counts for *rest_s* seconds
    more, when it is over.
    """

    credential: str
    kind: str
    limit: int
    rest_s: float = 0.0


@frozen
class Bid:
    """What one process tells of its part in a budget, and what it would like.

    *owner* is the process. It holds *held* now, and uses no more until it is told otherwise.
    *demand*: what it has use for; with none it lets go of everything. *want*: what it would take
    if there is plenty. *least*: with less it can't go on. *number* grows with each bid. It speaks
    for *life_s* seconds from now; if it is never heard of again, what it holds is free after that.
    One that *grows* gives nothing back: others of the same process are on their way, and may have
    brought it more than it knows of.
    """

    owner: str
    number: int
    held: int
    demand: int
    want: int
    least: int
    life_s: float
    grows: bool = False


@frozen
class Part:
    """What a process gets of a budget.

    *held*: what it holds now. *target*: what it should hold; if that is less, it should let go of
    the rest, as soon as it isn't in use, and say so. *sharers*: how many processes hold or want
    some. *contended*: others need what it holds, or it needs what others hold. *complained_s*: for
    so long GitHub's last complaint counts.
    """

    held: int
    target: int
    sharers: int = 1
    contended: bool = False
    complained_s: float = 0.0


class IBudgets(Interface):
    """Who in the fleet may use how much of what GitHub allows a credential.

    What all processes hold of a budget is never more than its limit, as far as they are heard of.
    """

    alone: bool = Attribute("Whether there is nobody to share with: then nothing is held for long.")
    members: int = Attribute("How many replicas share the budgets, as last known; 0: not known.")
    responded_at: float = Attribute(
        "When the fleet's Redis last responded, in seconds since the epoch."
    )

    def bid(budget: Budget, bid: Bid) -> Deferred[Part]:
        """Tell what a process holds and wants, and return what it gets, in one step.

        Fails with ``Unavailable`` where nobody can be asked.
        """

    def complain(credential: str, for_s: float) -> None:
        """Note that GitHub complained of a secondary limit; the whole fleet heeds it *for_s*."""


#: A record as it is kept where only bytes are: its name (see `names`), and itself, sealed.
Pair: TypeAlias = tuple[bytes, bytes]


class IArchive(Interface):
    """A store's records, to be copied and put back; snapshots are made of this.

    All methods fail with ``Unavailable`` where the store can't be asked.
    """

    def dump() -> AsyncGenerator[list[Pair]]:
        """Give all records, in small batches; of representations, those first that were used last.

        What changes meanwhile may be in it, or not. Use it within `contextlib.aclosing`.
        """

    def admit(pairs: Sequence[Pair]) -> Coroutine[Any, Any, int]:
        """Put records back, over nothing or over older ones only; return how many are new.

        Grants lose their epochs, so they permit nothing. Refusals, records that are not ours, and
        expired ones are left out.
        """

    def is_full() -> bool:
        """Tell whether there is no room for more, so that putting back would push out others."""

    def mark() -> Coroutine[Any, Any, str | None]:
        """Return the mark of a store that has been filled; None if a part of it has none.

        The mark is lost with the records, and each filling makes a new one. So nothing was lost
        between two equal marks.
        """

    def mark_filled() -> Coroutine[Any, Any, None]:
        """Put a new mark on all parts."""

    def filled_by_others() -> Coroutine[Any, Any, str | None]:
        """Return which fleet of another server or secret filled the store last; None: none did.

        Each fleet has its own mark and leases.
        """

    def acquire_lease(what: str, owner: str, lease_s: float) -> Coroutine[Any, Any, bool]:
        """Take *what* is for one replica only (``save``, ``restore``), or keep it on.

        Return whether *owner* has it now; it is free again when *lease_s* has passed.
        """

    def release_lease(what: str, owner: str) -> Coroutine[Any, Any, None]:
        """Let go of what *owner* has taken."""
