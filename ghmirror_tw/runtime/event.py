"""An event that happens once, for Deferreds."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred


@define(eq=False)
class Event:
    """An event that has happened or will happen, as `asyncio.Event` without `clear`."""

    is_set: bool = field(init=False, default=False)
    _waiters: list[Deferred[None]] = field(init=False, factory=list)

    def wait(self) -> Deferred[None]:
        """Fire when the event is set. Cancelling removes this waiter only."""
        waiter: Deferred[None] = Deferred(self._remove)
        if self.is_set:
            waiter.callback(None)
        else:
            self._waiters.append(waiter)
        return waiter

    def _remove(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def set(self) -> None:
        """Set the event, and call all waiters. Setting it again changes nothing."""
        self.is_set = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.called:
                waiter.callback(None)
