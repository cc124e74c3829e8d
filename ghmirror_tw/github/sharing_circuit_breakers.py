"""Circuit breakers for computed entity-tags, and for lists of them, which GitHub may ignore.

GitHub's rule for entity-tags is observed, not promised, and a list in `If-None-Match` may not be
honoured. Each response that ignores a tag is counterevidence. Enough of it switches sharing, or
lists, off for an hour.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field

from ghmirror_tw.runtime.independent_evidence import Evidence, Observation, Quorum

#: The age of the oldest counterevidence that counts, in seconds.
WINDOW_S: Final = 600.0
_AGAINST: Final = Quorum(keys=3, credentials=2, window_s=WINDOW_S)
#: The time until a switch that went off is on again, in seconds.
RETRY_S: Final = 3600.0


@define
class SharingBreaker:
    """A circuit breaker: off after counterevidence of 3 keys and 2 credentials in 10 minutes."""

    off_at: float | None = None
    _evidence: Evidence = field(factory=lambda: Evidence(_AGAINST))

    def is_on(self, now: float) -> bool:
        """Return whether it is on at *now*; it is on again an hour after it went off."""
        if self.off_at is not None and now >= self.off_at + RETRY_S:
            self.off_at = None
            self._evidence.clear()
        return self.off_at is None

    def add_counterevidence(self, key: str, credential: str, now: float) -> bool:
        """Add one case; return whether it switches this off."""
        self._evidence.add(Observation(key, credential), now)
        if not self.is_on(now) or not self._evidence.is_enough(now):
            return False
        self.off_at = now
        return True


@define
class Sharing:
    """The trust in computed entity-tags, in this process.

    *configured* is the `share` option. A list is *proven* by the first 304 to one; until then it is
    sent only where it cannot cost more than not sending it.
    """

    configured: bool = True
    single: SharingBreaker = field(factory=SharingBreaker)
    lists: SharingBreaker = field(factory=SharingBreaker)
    proven: bool = False

    def enabled(self, now: float) -> bool:
        """Return whether computed tags are sent at all."""
        return self.configured and self.single.is_on(now)

    def lists_enabled(self, now: float) -> bool:
        """Return whether more than one tag may be sent at once."""
        return self.enabled(now) and self.lists.is_on(now)

    def note_confirmed(self, sent: int) -> None:
        """Note a 304 to a request with *sent* tags."""
        if sent > 1:
            self.proven = True

    def note_ignored(self, sent: int, key: str, credential: str, now: float) -> str | None:
        """Note a 200 with one of the *sent* tags; return what it switches off, or None."""
        if sent > 1:
            self.proven = False
            return "lists" if self.lists.add_counterevidence(key, credential, now) else None
        return "sharing" if self.single.add_counterevidence(key, credential, now) else None
