"""Exponential backoff for keys with requests that time out.

GitHub itself times out after some ten seconds, and may charge such a request. After a first
timeout, a key is requested once at a time. From the second timeout in a row on, there is a pause
before the next request, which doubles each time. GitHub's work for a key may differ by credential
(`/user/repos`): timeouts of one credential delay only its own requests, those of two delay all.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define, field

from ghmirror_tw.runtime.bounded_tables import store_recent

_MOST: Final = 10_000
#: The first pause, and the longest one, in seconds.
_FIRST_S: Final = 5.0
_LONGEST_S: Final = 300.0
_MOST_DOUBLINGS: Final = 10
#: How long a probe keeps other requests for its key back, in seconds.
_PROBE_S: Final = 10.0


@define(eq=False)
class Backoff:
    """Timeouts of a key: how many *times* in a row, the last one *at*, and a pause *until*."""

    times: int
    at: float
    until: float
    #: The credentials for which it has timed out, two of them at most.
    credentials: frozenset[str] = frozenset()

    @property
    def repeated(self) -> bool:
        """Whether it has timed out at least twice in a row."""
        return self.times > 1

    def concerns(self, credential: str) -> bool:
        """Tell whether it holds for a credential."""
        return len(self.credentials) > 1 or credential in self.credentials


@define(eq=False)
class Backoffs:
    """The backoff of each key that times out, by name. Times are in seconds."""

    _known: OrderedDict[str, Backoff] = field(init=False, factory=OrderedDict)

    @property
    def any_known(self) -> bool:
        """Whether any key has a backoff."""
        return bool(self._known)

    def holds(self, key: str, credential: str, now: float) -> Backoff | None:
        """Return the backoff that delays *key* for *credential* now; None: request it.

        When the pause is over, the caller's request is the probe: callers after it get the backoff
        until the probe has ended, or has taken too long.
        """
        known = self._known.get(key)
        if known is None or not known.concerns(credential):
            return None
        if now < known.until:
            return known
        known.until = now + _PROBE_S
        return None

    def timed_out(self, key: str, credential: str, began: float, now: float) -> None:
        """Note the timeout of a request of *credential* that was sent when it *began*.

        Concurrent requests count once: one that was sent before the last timeout is ignored.
        """
        known = self._known.get(key)
        credentials = frozenset({credential})
        if known is not None:
            if not known.concerns(credential):
                known.credentials |= credentials
            credentials = known.credentials
            if began < known.at:
                return
        times = 1 if known is None else known.times + 1
        pause_s = 0.0
        if times > 1:
            doublings = min(times - 2, _MOST_DOUBLINGS)
            pause_s = min(_FIRST_S * 2**doublings, _LONGEST_S)
        store_recent(self._known, key, Backoff(times, now, now + pause_s, credentials), _MOST)

    def responded(self, key: str, credential: str) -> None:
        """End the backoff of a key for *credential*, since a response came in time."""
        known = self._known.get(key)
        if known is not None and known.concerns(credential):
            del self._known[key]
