"""The lock of a key's first request in the fleet: other requests wait for its end.

The lock is a lease in the store (`IStore.try_acquire`). Waiting takes `collapse_wait` at most.
Where the holder stored nothing, one more request acquires the lock; after that each is sent
without it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final, Self
from uuid import uuid4

from attrs import define, field

from ghmirror_tw.caching.decision import LockScope, lock_scope
from ghmirror_tw.caching.records import Known
from ghmirror_tw.proxy.request_context import Lookup
from ghmirror_tw.proxy.stored_responses import StoredResponses
from ghmirror_tw.store.store_interface import LockName, LockOutcome
from ghmirror_tw.upstream.request_to_send import OutgoingRequest

#: How often one request tries to acquire the same lock.
_MOST_ATTEMPTS: Final = 2


def unique_names() -> Callable[[], str]:
    """Return a function that returns a new name each time: of an owner, unique in the fleet."""
    prefix, numbers = uuid4().hex, count(1)
    return lambda: f"{prefix}-{next(numbers)}"


@define(eq=False)
class FirstRequestLock:
    """The lock of one request, and its permit; the end of a `with` block releases both.

    *owner* returns a new name for each lock.
    """

    stored: StoredResponses
    lookup: Lookup
    wait_s: float
    owner: Callable[[], str]
    _held: tuple[LockName, str] | None = field(init=False, default=None)

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Release permit and lock, where they are held."""
        if self.lookup.permit_holder.permit is not None:
            self.lookup.permit_holder.release()
        if self._held is not None:
            self.stored.store.release(*self._held)

    async def acquire(self, known: Known) -> Known:
        """Acquire the lock, or wait for its holder; return the records as they are then.

        The permit is acquired before the lock, so that other requests wait for GitHub, and not for
        other requests of this credential. While another one has the lock, the permit is released.
        """
        lookup, owner, now = self.lookup, self.owner(), self.stored.now
        until = now() + self.wait_s
        attempts: dict[LockName, int] = {}
        while (lock := self._lock_name(known)) is not None and now() < until:
            attempts[lock] = attempts.get(lock, 0) + 1
            if attempts[lock] > _MOST_ATTEMPTS or self._is_limited():
                break
            await self._acquire_permit()
            outcome = await self.stored.store.try_acquire(lock, owner, lookup.store_deadline)
            if outcome is LockOutcome.ACQUIRED:
                self._held = lock, owner
                return known
            if outcome is LockOutcome.HELD:
                lookup.permit_holder.release()
                await self.stored.store.released(lock, max(until - now(), 0.0))
            known = await self.stored.look_up(lookup, current=True)
        return known

    def _lock_name(self, known: Known) -> LockName | None:
        lookup = self.lookup
        accepted = self.stored.credentials.is_accepted(lookup.requester.token)
        scope = lock_scope(lookup.facts(accepted=accepted), known)
        if scope is None:
            return None
        return LockName(
            lookup.key, lookup.requester.credential if scope is LockScope.CREDENTIAL else None
        )

    def _is_limited(self) -> bool:
        """Return whether a rate limit is in force, so that nothing will be sent."""
        limits, lookup = self.stored.sender.limits, self.lookup
        return limits.applying(lookup.requester.token, lookup.scopes, self.stored.now()) is not None

    async def _acquire_permit(self) -> None:
        lookup = self.lookup
        if lookup.permit_holder.permit is None:
            outgoing = OutgoingRequest(lookup.request, lookup.requester, lookup.deadline)
            lookup.permit_holder.permit = await self.stored.sender.acquire(outgoing)
