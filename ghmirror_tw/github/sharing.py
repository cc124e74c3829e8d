"""Whether computed entity-tags and lists of them are believed in: slow, sceptical switches.

How GitHub makes entity-tags is observed, not promised, and whether it honours a list in
`If-None-Match` is not proven. So each answer is evidence, and enough of it switches sharing or
lists off; an hour later they are tried again.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field

from ghmirror_tw.runtime.evidence import Evidence, Observation, Quorum

#: Evidence is counted for so long, in seconds.
WINDOW_S: Final = 600.0
_AGAINST: Final = Quorum(keys=3, credentials=2, window_s=WINDOW_S)
#: After so long, what was switched off is tried again, in seconds.
RETRY_S: Final = 3600.0


@define
class Switch:
    """On until three keys and two credentials spoke against it within ten minutes."""

    off_at: float | None = None
    _evidence: Evidence = field(factory=lambda: Evidence(_AGAINST))

    def is_on(self, now: float) -> bool:
        """Tell whether it is on at *now*; an hour after it went off, it is again."""
        if self.off_at is not None and now >= self.off_at + RETRY_S:
            self.off_at = None
            self._evidence.clear()
        return self.off_at is None

    def speaks_against(self, key: str, credential: str, now: float) -> bool:
        """Count one case against it; return whether this switched it off."""
        self._evidence.add(Observation(key, credential), now)
        if not self.is_on(now) or not self._evidence.is_enough(now):
            return False
        self.off_at = now
        return True


@define
class Sharing:
    """What is believed of GitHub's validators, in this process.

    *wanted* is the `share` option. A list is *proven* by the first 304 to one; until then it is
    sent only where it cannot cost more than not sending it.
    """

    wanted: bool = True
    single: Switch = field(factory=Switch)
    lists: Switch = field(factory=Switch)
    proven: bool = False

    def enabled(self, now: float) -> bool:
        """Tell whether computed tags are sent at all."""
        return self.wanted and self.single.is_on(now)

    def lists_enabled(self, now: float) -> bool:
        """Tell whether more than one tag may be sent at once."""
        return self.enabled(now) and self.lists.is_on(now)

    def honoured(self, sent: int) -> None:
        """Take note of a 304 to *sent* tags."""
        if sent > 1:
            self.proven = True

    def ignored(self, sent: int, key: str, credential: str, now: float) -> str | None:
        """Take note of a 200 with one of the *sent* tags; return what this switched off, if so."""
        if sent > 1:
            self.proven = False
            return "lists" if self.lists.speaks_against(key, credential, now) else None
        return "sharing" if self.single.speaks_against(key, credential, now) else None
