"""Locks within this process, whose waiters are notified when the holder releases them."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from ghmirror_tw.runtime.deferreds import add_waiter, wake
from ghmirror_tw.store.store_interface import LockName


@define
class _HeldLock:
    owner: str
    waiters: list[Deferred[None]] = field(factory=list)


@define(eq=False)
class LocalLocks:
    """Locks by their names; those that no request holds take no memory."""

    reactor: IReactorTime
    _held: dict[str, _HeldLock] = field(init=False, factory=dict)

    def try_acquire(self, lock: LockName, owner: str) -> bool:
        """Acquire a lock that is free or that *owner* holds; return whether *owner* holds it."""
        return self._held.setdefault(lock.text, _HeldLock(owner)).owner == owner

    def release(self, lock: LockName, owner: str | None = None) -> None:
        """Release a lock that *owner* holds (None: that any owner holds)."""
        held = self._held.get(lock.text)
        if held is not None and owner in {None, held.owner}:
            del self._held[lock.text]
            wake(held.waiters)

    def released(self, lock: LockName, timeout_s: float) -> Deferred[None]:
        """Fire when the lock has been released, or when *timeout_s* has passed."""
        held = self._held.get(lock.text)
        return succeed(None) if held is None else add_waiter(self.reactor, held.waiters, timeout_s)

    def close(self) -> None:
        """Release all locks."""
        held, self._held = self._held, {}
        for each in held.values():
            wake(each.waiters)
