"""What Redis has said of a key for a credential, so that it need not be asked all the time."""

from __future__ import annotations

from typing import Final

from attrs import evolve, frozen

from ghmirror_tw.policy.records import Entry, Grant, Known
from ghmirror_tw.store.redis.tracking import Tracked

#: What was said is good for so long, in seconds, unless it has changed.
GOOD_S: Final = 10.0
#: What is asked for again within so many seconds is worth being told of when it changes.
OFTEN_S: Final = 5.0


#: Nobody tells when it changes.
UNTRACKED: Final = Tracked((), holds=False)


@frozen
class Said:
    """What Redis said is *known*, and when it was asked; *tracked* tells whether that has changed.

    It is as what a server says that lags: a refusal or a write may be missing that does not
    change what is tracked.
    """

    known: Known
    asked_at: float
    tracked: Tracked

    @property
    def is_plain(self) -> bool:
        """Whether there is a grant in it that counts: only then it may stand for asking again."""
        grant = self.known.grant
        if grant is None or grant.restored:
            return False
        return grant.asked_at > self.known.refused_at

    def holds(self, now: float) -> bool:
        """Tell whether it is as good as asking again."""
        return self.tracked.holds and 0.0 <= now - self.asked_at < GOOD_S

    def lists(self, entry: Entry) -> bool:
        """Tell whether there was such an entry, whenever it was last confirmed, and to whom."""
        listed = self.known.entry_of(entry.digest)
        return listed is not None and entry == evolve(
            listed, validated_at=entry.validated_at, principal=entry.principal
        )

    def has(self, grant: Grant, entry: Entry, within_s: float) -> bool:
        """Tell whether Redis has a grant and an entry as late as these, but for *within_s*."""
        had, listed = self.known.grant, self.known.entry_of(entry.digest)
        if not self.tracked.holds or had is None or listed is None:
            return False
        ends_alike = grant.expires_at == had.expires_at or (
            abs(grant.expires_at - had.expires_at) < within_s
        )
        return (
            ends_alike
            and grant.validated_at - had.validated_at < within_s
            and entry.validated_at - listed.validated_at < within_s
            and self.lists(entry)
            and grant
            == evolve(
                had,
                asked_at=grant.asked_at,
                validated_at=grant.validated_at,
                expires_at=grant.expires_at,
            )
        )
