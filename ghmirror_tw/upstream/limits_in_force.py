"""Rate limits in force: those that GitHub has reported to a credential, until they have ended.

GitHub sends the end of a limit. From then on it is half-open: one request is the probe, and others
are rejected until it ends. A response without a limit removes the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from attrs import define, field, frozen

from ghmirror_tw.github.reported_limit import Limit, LimitKind
from ghmirror_tw.runtime.bounded_tables import CredentialTable

#: How long requests are rejected while another replica probes, in seconds.
_PROBED_ELSEWHERE_S: Final = 1
#: The same limit ends a little earlier or later by the clocks of different replicas, in seconds.
_SAME_S: Final = 0.5


@define(eq=False)
class ActiveLimit:
    """A limit that GitHub has reported, whose end no response has shown yet.

    *probed*: a probe of this process is under way; *probed_elsewhere_until*: one of another replica
    is, and may have ended by then.
    """

    limit: Limit
    probed: bool = False
    probed_elsewhere_until: float = 0.0

    def applies(self, now: float) -> bool:
        """Return whether requests are rejected now."""
        return self.probed or now < max(self.limit.until, self.probed_elsewhere_until)


class RateLimitedError(Exception):
    """A request was not sent, because *active* applies to it."""

    def __init__(self, active: ActiveLimit) -> None:
        super().__init__(active.limit.kind.reason)
        self.active = active


@frozen(eq=False)
class LimitCheck:
    """The limits of a credential when a request of it was sent.

    *ended*: the limits whose end the request probes. *strikes*: how many limits in a row the
    credential had met, of those whose end GitHub does not always send.
    """

    credential: str
    scopes: tuple[str, ...]
    strikes: int
    ended: tuple[ActiveLimit, ...]


@define(eq=False)
class RateLimitTable:
    """The limits in force, by credential and scope. Times are seconds since the epoch.

    *is_accepted* returns whether GitHub has accepted a credential.
    """

    is_accepted: Callable[[str], bool] = lambda _: True
    limits: CredentialTable[tuple[str, str], ActiveLimit] = field(
        init=False, factory=CredentialTable
    )
    strikes: CredentialTable[str, int] = field(init=False, factory=CredentialTable)
    #: Whether there are limits or strikes of any credential.
    any_known: bool = field(init=False, default=False)

    def _of(self, credential: str, scopes: tuple[str, ...]) -> list[ActiveLimit]:
        if not self.any_known:
            return []
        limits = [self.limits.get((credential, scope)) for scope in scopes]
        return [each for each in limits if each is not None]

    def in_force(self, now: float) -> list[tuple[str, Limit]]:
        """Return the limits that have not ended yet, each with its credential."""
        return [
            (credential, active.limit)
            for (credential, _), active in self.limits.items()
            if now < active.limit.until
        ]

    def has_any(self, credential: str, scopes: tuple[str, ...]) -> bool:
        """Return whether a credential has a limit, in force or half-open."""
        return bool(self._of(credential, scopes))

    def applying(self, credential: str, scopes: tuple[str, ...], now: float) -> ActiveLimit | None:
        """Return the limit because of which a request would be rejected, or None."""
        for each in self._of(credential, scopes):
            if each.applies(now):
                return each
        return None

    def latest(self, credential: str, scopes: tuple[str, ...]) -> ActiveLimit | None:
        """Return the limit that ends last, in force or half-open, or None."""
        return max(self._of(credential, scopes), key=lambda each: each.limit.until, default=None)

    def check(self, credential: str, scopes: tuple[str, ...], now: float) -> LimitCheck:
        """Return the limits that a request probes; raise `RateLimitedError` where one applies.

        Until `end_probe`, other requests to which these limits apply are rejected.
        """
        ended = self._of(credential, scopes)
        for each in ended:
            if each.applies(now):
                raise RateLimitedError(each)
        for each in ended:
            each.probed = True
        return LimitCheck(credential, scopes, self.strikes.get(credential) or 0, tuple(ended))

    def end_probe(self, check: LimitCheck) -> None:
        """Let another request be the probe."""
        for active in check.ended:
            active.probed = False

    def note_probe_elsewhere(self, check: LimitCheck, now: float) -> None:
        """Note that another replica has the probe."""
        for active in check.ended:
            active.probed_elsewhere_until = now + _PROBED_ELSEWHERE_S

    def clear(self, check: LimitCheck) -> None:
        """Remove the limits that a request has probed: its response reports no limit.

        A limit that was met after the request was sent stays.
        """
        credential = check.credential
        if self.strikes.get(credential) == check.strikes:
            self.strikes.pop(credential)
        for active in check.ended:
            name = (credential, active.limit.scope)
            if self.limits.get(name) is active:
                self.limits.pop(name)
        self.any_known = bool(self.limits or self.strikes)

    def set(self, check: LimitCheck, limit: Limit) -> None:
        """Store a limit that a response reports.

        All requests that were sent before it was known count as one strike.
        """
        credential = check.credential
        if limit.kind is LimitKind.SECONDARY or not limit.hinted:
            strikes = max(check.strikes + 1, self.strikes.get(credential) or 0)
            self.strikes.put(credential, strikes, accepted=self.is_accepted(credential))
        known = self.limits.get((credential, limit.scope))
        if known is not None and known.limit.until > limit.until:
            limit = known.limit
        self._put(credential, limit)

    def merge(self, credential: str, limits: Iterable[Limit], now: float) -> None:
        """Store limits that other replicas have met, where they end later than those known."""
        for limit in limits:
            known = self.limits.get((credential, limit.scope))
            if limit.until > now and (known is None or known.limit.until + _SAME_S < limit.until):
                self._put(credential, limit)

    def _put(self, credential: str, limit: Limit) -> None:
        accepted = self.is_accepted(credential)
        self.limits.put((credential, limit.scope), ActiveLimit(limit), accepted=accepted)
        self.any_known = True
