"""What Redis has said of a key for a credential, so that it need not be asked all the time."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

from attrs import fields, frozen

from ghmirror_tw.caching.records import Entry, Grant, Known
from ghmirror_tw.redis.tracking import Tracked

#: What was said is good for so long, in seconds, unless it has changed.
GOOD_S: Final = 10.0
#: What is asked for again within so many seconds is worth being told of when it changes.
OFTEN_S: Final = 5.0
#: Nobody tells when it changes.
UNTRACKED: Final = Tracked((), holds=False)


def _all_but(record: type, *names: str) -> attrgetter[tuple[Any, ...]]:
    return attrgetter(*[each.name for each in fields(record) if each.name not in names])


#: What a grant and an entry say, but for when, and to whom an entry was last confirmed.
_granted: Final = _all_but(Grant, "asked_at", "validated_at", "expires_at")
_said_of: Final = _all_but(Entry, "validated_at", "principal")


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
        """Whether there is a grant that may permit: only then it may stand for asking again."""
        grant = self.known.grant
        if grant is None or grant.epoch is None:
            return False
        return grant.asked_at > self.known.refused_at

    def holds(self, now: float) -> bool:
        """Tell whether it is as good as asking again."""
        return self.tracked.holds and 0.0 <= now - self.asked_at < GOOD_S

    def lists(self, entry: Entry) -> bool:
        """Tell whether there was such an entry, whenever it was last confirmed, and to whom."""
        listed = self.known.entry_of(entry.digest)
        return listed is not None and _said_of(entry) == _said_of(listed)

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
            and _granted(grant) == _granted(had)
            and _said_of(entry) == _said_of(listed)
        )
