"""Claims that this process holds in Redis, kept alive for as long as it lives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.store.store_interface import LockName

#: How long a claim outlives the process that made it, in seconds.
LEASE_S: Final = 3.0
_RENEW_S: Final = LEASE_S / 3

Renew = Callable[[LockName, str], Awaitable[None]]


@define(eq=False)
class Leases:
    """Renews claims by *renew* until they are ended; what fails is tried again a second later."""

    reactor: Any
    renew: Renew
    _timers: dict[tuple[str, str], IDelayedCall] = field(init=False, factory=dict)

    def begin(self, subject: LockName, owner: str) -> None:
        """Keep *owner*'s claim to *subject* alive from now on."""
        self._timers[subject.name, owner] = self.reactor.callLater(
            _RENEW_S, self._renew, subject, owner
        )

    def _renew(self, subject: LockName, owner: str) -> None:
        self.begin(subject, owner)
        renewed = Deferred.fromCoroutine(self._try(subject, owner))
        renewed.addErrback(Failure.trap, RedisUnavailableError)

    async def _try(self, subject: LockName, owner: str) -> None:
        await self.renew(subject, owner)

    def end(self, subject: LockName, owner: str) -> bool:
        """Let go of a claim; tell whether *owner* had it."""
        timer = self._timers.pop((subject.name, owner), None)
        if timer is not None:
            timer.cancel()
        return timer is not None

    def close(self) -> None:
        """Let go of all of them."""
        timers, self._timers = self._timers, {}
        for timer in timers.values():
            timer.cancel()
