"""Who tries whether a limit has ended: one question of the whole fleet, and then all go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.github.rate_limits import Limit
from ghmirror_tw.store.store_interface import Deadline, IStore, LockName, LockOutcome
from ghmirror_tw.upstream.limits import ActiveLimits, Entry, RateLimitedError

#: So long is waited for what comes of another replica's trial, in seconds; it may take longer.
_WAIT_S: Final = 0.5
#: A trial that takes longer keeps nobody else from trying, in seconds.
_LONGEST_S: Final = 10.0
#: That a trial went well is known for so long to all, in seconds.
_KNOWN_S: Final = 60.0
#: By so much the clocks of replicas may differ, in seconds.
_CLOCKS_S: Final = 0.5


def _mark(limit: Limit, until: float = 0.0) -> Limit:
    """Return what is stored as a limit of nothing: that a trial of *limit* went well."""
    return Limit(limit.kind, f"{limit.scope}+", until)


@define(eq=False)
class LimitProbe:
    """Leave to ask, which must be left; *tries*: for the whole fleet, whether a limit has ended."""

    entry: Entry
    tries: bool
    _end: Callable[[], object] | None

    def leave(self) -> None:
        """Let others try; may be called again."""
        end, self._end = self._end, None
        if end is not None:
            end()


@define(eq=False)
class LimitProbes:
    """Lets one in the fleet that shares *store* try, when a limit has ended.

    *owner* gives a name under which to claim something, another each time.
    """

    store: IStore
    stops: ActiveLimits
    now: Callable[[], float]
    call_later: Callable[[float, Callable[[], object]], IDelayedCall]
    owner: Callable[[], str]

    def enter_at_once(self, credential: str, scopes: tuple[str, ...]) -> LimitProbe | None:
        """Return leave to ask where no limit is known, else None: as mostly."""
        if self.stops.any_known:
            return None
        return LimitProbe(self.stops.enter(credential, scopes, self.now()), tries=False, end=None)

    async def enter(self, credential: str, scopes: tuple[str, ...]) -> LimitProbe:
        """Return leave to ask, or raise `RateLimitedError`."""
        entry = self.stops.enter(credential, scopes, self.now())
        release = None
        try:
            # What made-up tokens meet is no matter for the fleet.
            if entry.over and self.stops.is_known(credential):
                release = await self._claim(entry)
        finally:
            if release is None:
                self.stops.left(entry)
        if release is None:
            return LimitProbe(entry, tries=False, end=None)

        def end() -> None:
            self.stops.left(entry)
            release()
            if timer.active():
                timer.cancel()

        trial = LimitProbe(entry, tries=True, end=end)
        timer = self.call_later(_LONGEST_S, trial.leave)
        return trial

    async def _claim(self, entry: Entry) -> Callable[[], object] | None:
        """Return what lets others try, if this is the one who tries; None: another has."""
        store_deadline = self.store.store_deadline()
        stop = entry.over[0]
        subject = LockName.end_of_limit(entry.credential, stop.limit.scope)
        owner = self.owner()
        tries = False
        said = await self.store.try_acquire(subject, owner, store_deadline)
        try:
            if said is LockOutcome.HELD:
                await self.store.released(subject, _WAIT_S)
            if await self._is_known(entry, store_deadline):
                self.stops.passed(entry)
                return None
            if said is LockOutcome.HELD:
                self.stops.lost(entry, self.now())
                raise RateLimitedError(stop)
            tries = True
        finally:
            if not tries:
                self.store.release(subject, owner)
        return lambda: self.store.release(subject, owner)

    async def _is_known(self, entry: Entry, store_deadline: Deadline) -> bool:
        """Tell whether all limits are known to be over, since others have tried.

        Raises `RateLimitedError` where one of them has met another limit.
        """
        credential = entry.credential
        limits = await self.store.limits(credential, entry.scopes, store_deadline)
        self.stops.learned(credential, limits, self.now())
        newer = self.stops.newest(credential, entry.scopes)
        if newer is not None and self.now() < newer.limit.until:
            raise RateLimitedError(newer)
        for stop in entry.over:
            mark = _mark(stop.limit).scope
            known = await self.store.limits(credential, (mark,), store_deadline)
            if not known or known[0].until - _KNOWN_S < stop.limit.until - _CLOCKS_S:
                return False
        return True

    def passed(self, trial: LimitProbe) -> None:
        """Take note that what was asked met no limit, and let all know."""
        self.stops.passed(trial.entry)
        if trial.tries:
            for stop in trial.entry.over:
                mark = _mark(stop.limit, self.now() + _KNOWN_S)
                self.store.set_limit(trial.entry.credential, mark)
