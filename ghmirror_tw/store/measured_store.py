"""What a store costs, measured: each question's time, as clients feel it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from attrs import define
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Entry, Grant, Known, Representation
from ghmirror_tw.github.rate_limits import Limit
from ghmirror_tw.store.store_interface import Deadline, IStore, LockName, LockOutcome

R = TypeVar("R")


def is_something(known: Known) -> bool:
    """Tell whether there is a grant or a representation: a hit."""
    return known.grant is not None or bool(known.entries)


def what_came(result: R | Failure, is_hit: Callable[[R], bool]) -> str:
    """Return what came of a question to a store: ``error``, ``hit`` or ``miss``."""
    return "error" if isinstance(result, Failure) else "hit" if is_hit(result) else "miss"


class LookupTimes(Protocol):
    """Takes one measurement; see `metrics.Metrics.store`."""

    def __call__(self, store: str, operation: str, result: str, seconds: float) -> None:
        """Take it."""


@implementer(IStore)
@define(eq=False)
class MeasuredStore:
    """A store whose questions are timed; statements take nobody's time."""

    store: Any
    report: LookupTimes
    now: Callable[[], float]

    @property
    def name(self) -> str:
        """What the store is called."""
        called: str = self.store.name
        return called

    def _timed(
        self, asked: Deferred[R], operation: str, began: float, is_hit: Callable[[R], bool]
    ) -> Deferred[R]:
        if asked.called and not asked.paused:
            result: Any = asked.result
            self._tell(result, operation, began, is_hit)  # memory answers at once
            return asked
        return asked.addBoth(self._tell, operation, began, is_hit)

    def _tell(
        self, result: R | Failure, operation: str, began: float, is_hit: Callable[[R], bool]
    ) -> R | Failure:
        said = what_came(result, is_hit)
        self.report(self.store.name, operation, said, self.now() - began)
        return result

    def store_deadline(self) -> Deadline:
        """Return how long one request may wait for the store."""
        store_deadline: Deadline = self.store.store_deadline()
        return store_deadline

    def look_up(
        self,
        key: CacheKey,
        credential: str,
        store_deadline: Deadline,
        *,
        current: bool = False,
        token: str | None = None,
    ) -> Deferred[Known]:
        """Return what is known; a hit where there is a grant or a representation."""
        began = self.now()
        asked = self.store.look_up(key, credential, store_deadline, current=current, token=token)
        return self._timed(asked, "look_up", began, is_something)

    def fetch(
        self,
        key: CacheKey,
        digests: tuple[str, ...],
        store_deadline: Deadline,
        *,
        current: bool = False,
    ) -> Deferred[dict[str, Representation]]:
        """Return representations; a hit where none is missing."""
        began = self.now()
        asked = self.store.fetch(key, digests, store_deadline, current=current)
        return self._timed(asked, "fetch", began, lambda found: len(found) == len(set(digests)))

    def try_acquire(
        self, subject: LockName, owner: str, store_deadline: Deadline
    ) -> Deferred[LockOutcome]:
        """Try to go first; a hit where something is known."""
        began = self.now()
        asked = self.store.try_acquire(subject, owner, store_deadline)
        return self._timed(asked, "claim", began, lambda claim: claim is LockOutcome.KNOWN)

    def released(self, subject: LockName, timeout_s: float) -> Deferred[None]:
        """Return when the claim has ended; that is GitHub's time, not the store's."""
        waiting: Deferred[None] = self.store.released(subject, timeout_s)
        return waiting

    def store_response(
        self,
        key: CacheKey,
        credential: str,
        representation: Representation,
        grant: Grant,
        entry: Entry,
    ) -> None:
        """Store what a 200 brought."""
        self.store.store_response(key, credential, representation, grant, entry)

    def freshen(self, key: CacheKey, credential: str, grant: Grant, entry: Entry) -> None:
        """Store what a 304 confirmed."""
        self.store.freshen(key, credential, grant, entry)

    def deny(self, key: CacheKey, credential: str, asked_at: float) -> None:
        """Store a refusal of a key."""
        self.store.deny(key, credential, asked_at)

    def begin_epoch(self, credential: str, epoch: bytes, since: float) -> bytes | None:
        """Begin an epoch, unless there is one."""
        began: bytes | None = self.store.begin_epoch(credential, epoch, since)
        return began

    def replace_epoch(self, credential: str, epoch: bytes) -> Deferred[None]:
        """Replace an epoch."""
        replaced: Deferred[None] = self.store.replace_epoch(credential, epoch)
        return replaced

    def revoke(self, credential: str, epoch: bytes) -> None:
        """Replace an epoch, if there is one."""
        self.store.revoke(credential, epoch)

    def set_limit(self, token: str, limit: Limit) -> None:
        """Store a limit."""
        self.store.set_limit(token, limit)

    def limits(
        self, token: str, scopes: tuple[str, ...], store_deadline: Deadline
    ) -> Deferred[tuple[Limit, ...]]:
        """Return limits in force; a hit where there is one."""
        began = self.now()
        return self._timed(self.store.limits(token, scopes, store_deadline), "limits", began, bool)

    def mark_unstorable(self, key: CacheKey) -> None:
        """Note that answers can't be stored."""
        self.store.mark_unstorable(key)

    def release(self, subject: LockName, owner: str) -> None:
        """End a claim."""
        self.store.release(subject, owner)

    def close(self) -> Deferred[None]:
        """Close the store."""
        closed: Deferred[None] = self.store.close()
        return closed
