"""Who must not ask GitHub now, because GitHub said so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from attrs import define, field, frozen

from ghmirror_tw.github.rate_limits import Limit, LimitKind
from ghmirror_tw.http.cache_status import Outcome
from ghmirror_tw.runtime.bounded_tables import CredentialTable
from ghmirror_tw.upstream.response import BufferedContent, Response

#: How long others wait while somebody tries whether a limit has ended, in seconds.
_ON_TRIAL_S: Final = 1
#: The same limit ends a little earlier or later by the clocks of different replicas, in seconds.
_SAME_S: Final = 0.5


@define(eq=False)
class ActiveLimit:
    """A limit that was met.

    *on_trial*: somebody here tries whether it ended; *elsewhere_until*: another replica does,
    and may be done by then.
    """

    limit: Limit
    on_trial: bool = False
    elsewhere_until: float = 0.0

    def holds(self, now: float) -> bool:
        """Tell whether nobody may ask, or try."""
        return self.on_trial or now < max(self.limit.until, self.elsewhere_until)

    def again(self, now: float) -> Response:
        """Return GitHub's response as it would be now."""
        return limited(self.limit, now)


class RateLimitedError(Exception):
    """Nothing was sent, because of a limit that was met before."""

    def __init__(self, stop: ActiveLimit) -> None:
        super().__init__(stop.limit.kind.reason)
        self.stop = stop


def limited(limit: Limit, now: float) -> Response:
    """Return GitHub's response to what a limit stops, wherever the limit was learned."""
    status, fields, content = limit.response(now)
    return Response(
        status, fields, Outcome.ERROR, BufferedContent(content), detail=limit.kind.reason
    )


@frozen(eq=False)
class Entry:
    """Leave to ask once: what was known when it was given.

    *credential* is the name of a token. *over*: the limits that have ended, and whose end this
    question tries. *strikes*: how many limits in a row the credential had met, of those whose end
    GitHub does not always say.
    """

    credential: str
    scopes: tuple[str, ...]
    strikes: int
    over: tuple[ActiveLimit, ...]


@define(eq=False)
class ActiveLimits:
    """Limits by credential and scope, and who tries when they end.

    Who asks enters and leaves; in between, what came of it is told.

    Times are seconds since the epoch. *is_known* tells whether GitHub has accepted a token.
    """

    is_known: Callable[[str], bool] = lambda _: True
    _stops: CredentialTable[tuple[str, str], ActiveLimit] = field(
        init=False, factory=CredentialTable
    )
    _strikes: CredentialTable[str, int] = field(init=False, factory=CredentialTable)

    def _of(self, credential: str, scopes: tuple[str, ...]) -> list[ActiveLimit]:
        if not self._stops:
            return []
        stops = [self._stops.get((credential, scope)) for scope in scopes]
        return [stop for stop in stops if stop is not None]

    def now_stopped(
        self, credential: str, scopes: tuple[str, ...], now: float
    ) -> ActiveLimit | None:
        """Return what keeps a credential from asking now; it is not a trial."""
        for stop in self._of(credential, scopes):
            if stop.holds(now):
                return stop
        return None

    def in_force(self, now: float) -> list[tuple[str, Limit]]:
        """Return the limits that have not ended yet, each with the credential that met it."""
        return [
            (credential, stop.limit)
            for (credential, _), stop in self._stops.items()
            if now < stop.limit.until
        ]

    def is_unsettled(self, credential: str, scopes: tuple[str, ...]) -> bool:
        """Tell whether a limit was met of which nobody has seen the end."""
        return bool(self._of(credential, scopes))

    @property
    def any_known(self) -> bool:
        """Whether a limit was met, by any credential, of which nobody has seen the end."""
        return bool(self._stops)

    def enter(self, credential: str, scopes: tuple[str, ...], now: float) -> Entry:
        """Return leave to ask, or raise `RateLimitedError` if a credential must not ask now.

        After the end of a limit one may, and all others wait until `left` is called.
        """
        stop = self.now_stopped(credential, scopes, now)
        if stop is not None:
            raise RateLimitedError(stop)
        over = tuple(self._of(credential, scopes))
        for each in over:
            each.on_trial = True
        return Entry(credential, scopes, self._strikes.get(credential) or 0, over)

    def left(self, entry: Entry) -> None:
        """Take note that a question has ended, whatever came of it: another may be tried."""
        for stop in entry.over:
            stop.on_trial = False

    def lost(self, entry: Entry, now: float) -> None:
        """Take note that another replica tries."""
        for stop in entry.over:
            stop.elsewhere_until = now + _ON_TRIAL_S

    def passed(self, entry: Entry) -> None:
        """Take note of an answer that tells of no limit.

        It says nothing of a limit that was met after its question was put.
        """
        credential = entry.credential
        if self._strikes.get(credential) == entry.strikes:
            self._strikes.pop(credential)
        for stop in entry.over:
            name = (credential, stop.limit.scope)
            if self._stops.get(name) is stop:
                self._stops.pop(name)

    def met(self, entry: Entry, limit: Limit) -> None:
        """Take note of a limit that GitHub told of.

        All that were asked before it was known are one strike, however many they are.
        """
        credential = entry.credential
        if limit.kind is LimitKind.SECONDARY or not limit.hinted:
            strikes = max(entry.strikes + 1, self._strikes.get(credential) or 0)
            self._strikes.put(credential, strikes, known=self.is_known(credential))
        known = self._stops.get((credential, limit.scope))
        if known is not None and known.limit.until > limit.until:
            limit = known.limit
        self._put(credential, ActiveLimit(limit))

    def newest(self, credential: str, scopes: tuple[str, ...]) -> ActiveLimit | None:
        """Return the limit that lasts longest of those that were met, ended or not."""
        return max(self._of(credential, scopes), key=lambda stop: stop.limit.until, default=None)

    def learned(self, credential: str, limits: Iterable[Limit], now: float) -> None:
        """Take note of limits that other replicas have met."""
        for limit in limits:
            known = self._stops.get((credential, limit.scope))
            if limit.until > now and (known is None or known.limit.until + _SAME_S < limit.until):
                self._put(credential, ActiveLimit(limit))

    def _put(self, credential: str, stop: ActiveLimit) -> None:
        name = (credential, stop.limit.scope)
        self._stops.put(name, stop, known=self.is_known(credential))
