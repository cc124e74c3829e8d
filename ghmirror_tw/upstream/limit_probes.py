"""Half-open probes: when a rate limit has ended, one request of the whole fleet is sent first.

The probe holds the lock of the fleet for the end of the limit. Once its response reports no limit,
all replicas read in the store that the limit is over, and send their requests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.github.reported_limit import Limit
from ghmirror_tw.store.store_interface import Deadline, IStore, LockName, LockOutcome
from ghmirror_tw.upstream.limits_in_force import LimitCheck, RateLimitedError, RateLimitTable

#: How long a request waits for the probe of another replica, in seconds.
_WAIT_S: Final = 0.5
#: A probe that takes longer lets another one begin, in seconds.
_LONGEST_S: Final = 10.0
#: For how long the store knows that a probe has passed, in seconds.
_KNOWN_S: Final = 60.0
#: By how much the clocks of replicas may differ, in seconds.
_CLOCKS_S: Final = 0.5


def _passed(limit: Limit, until: float = 0.0) -> Limit:
    """Return the record that a probe of *limit* has passed: a limit with a scope of its own."""
    return Limit(limit.kind, f"{limit.scope}+", until)


@define(eq=False)
class LimitProbe:
    """A request's turn as the probe of limits that have ended; *check*: those limits.

    *leads*: the request is the probe of the whole fleet; others wait until `end`.
    """

    check: LimitCheck
    leads: bool = False
    _on_end: Callable[[], object] | None = None

    def end(self) -> None:
        """Let another request be the probe; repeated calls do nothing."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()


@define(eq=False)
class LimitProbes:
    """Admits requests past limits that have ended, one of the fleet that shares *store* first.

    *owner* returns a new name for each lock.
    """

    store: IStore
    limits: RateLimitTable
    now: Callable[[], float]
    call_later: Callable[[float, Callable[[], object]], IDelayedCall]
    owner: Callable[[], str]

    async def admit(self, credential: str, scopes: tuple[str, ...]) -> LimitProbe:
        """Return when the request may be sent; raise `RateLimitedError` if a limit applies."""
        check = self.limits.check(credential, scopes, self.now())
        # Limits of credentials that GitHub has not accepted are not shared in the fleet.
        if not check.ended or not self.limits.is_accepted(credential):
            self.limits.end_probe(check)
            return LimitProbe(check)
        lock, owner = LockName.end_of_limit(credential, check.ended[0].limit.scope), self.owner()
        leads = False
        try:
            leads = await self._leads(check, lock, owner)
        finally:
            if not leads:
                self._end(check, lock, owner)
        if not leads:
            return LimitProbe(check)

        def end() -> None:
            self._end(check, lock, owner)
            if timer.active():
                timer.cancel()

        probe = LimitProbe(check, leads=True, on_end=end)
        timer = self.call_later(_LONGEST_S, probe.end)
        return probe

    def _end(self, check: LimitCheck, lock: LockName, owner: str) -> None:
        self.limits.end_probe(check)
        self.store.release(lock, owner)

    async def _leads(self, check: LimitCheck, lock: LockName, owner: str) -> bool:
        """Return whether the request is the probe; False: the probe of another replica has passed.

        Raises `RateLimitedError` where another replica still probes, or has met another limit.
        """
        store_deadline = self.store.store_deadline()
        outcome = await self.store.try_acquire(lock, owner, store_deadline)
        if outcome is LockOutcome.HELD:
            await self.store.released(lock, _WAIT_S)
        if await self._has_passed(check, store_deadline):
            self.limits.clear(check)
            return False
        if outcome is LockOutcome.HELD:
            self.limits.note_probe_elsewhere(check, self.now())
            raise RateLimitedError(check.ended[0])
        return True

    async def _has_passed(self, check: LimitCheck, store_deadline: Deadline) -> bool:
        """Return whether probes of all limits have passed. Raises where there is another limit."""
        credential = check.credential
        limits = await self.store.limits(credential, check.scopes, store_deadline)
        self.limits.merge(credential, limits, self.now())
        latest = self.limits.latest(credential, check.scopes)
        if latest is not None and self.now() < latest.limit.until:
            raise RateLimitedError(latest)
        for active in check.ended:
            scope = _passed(active.limit).scope
            known = await self.store.limits(credential, (scope,), store_deadline)
            if not known or known[0].until - _KNOWN_S < active.limit.until - _CLOCKS_S:
                return False
        return True

    def note_passed(self, probe: LimitProbe) -> None:
        """Note that the response reports no limit, in the whole fleet if it was the probe."""
        check = probe.check
        if check.ended or check.strikes:
            self.limits.clear(check)
        if probe.leads:
            for active in check.ended:
                record = _passed(active.limit, self.now() + _KNOWN_S)
                self.store.set_limit(check.credential, record)
