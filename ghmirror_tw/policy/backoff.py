"""For how long a key is not requested again whose requests time out.

GitHub gives up after some ten seconds, and may count such a request. A key that has timed out once
is requested by one client at a time; from the second time in a row on there is a pause in between,
which doubles (exponential backoff). What GitHub has to do for a key may differ by credential
(`/user/repos`): one credential's timeouts hold up that one alone, those of two hold up all.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define, field

_MOST: Final = 10_000
#: The first pause, and the longest one, in seconds.
_FIRST_S: Final = 5.0
_LONGEST_S: Final = 300.0
_MOST_DOUBLINGS: Final = 10
#: So long, in seconds, others wait for what comes of a probe.
_PROBE_S: Final = 10.0


@define(eq=False)
class Backoff:
    """A key that times out: how often in a row, last *at*, and *until* when it is not requested."""

    times: int
    at: float
    until: float
    #: The credentials for which it has timed out, two of them at most.
    credentials: frozenset[str] = frozenset()

    @property
    def repeated(self) -> bool:
        """Whether it was no accident."""
        return self.times > 1

    def concerns(self, credential: str) -> bool:
        """Tell whether it holds for a credential."""
        return len(self.credentials) > 1 or credential in self.credentials


@define(eq=False)
class Backoffs:
    """Keys that time out, by name. Times are in seconds."""

    _known: OrderedDict[str, Backoff] = field(init=False, factory=OrderedDict)

    @property
    def any_known(self) -> bool:
        """Whether there is any."""
        return bool(self._known)

    def holds(self, key: str, credential: str, now: float) -> Backoff | None:
        """Return why *key* is not requested now for *credential*, or None.

        When the pause is over, one request is the probe, and this holds for the others meanwhile.
        """
        known = self._known.get(key)
        if known is None or not known.concerns(credential):
            return None
        if now < known.until:
            return known
        known.until = now + _PROBE_S
        return None

    def timed_out(self, key: str, credential: str, began: float, now: float) -> None:
        """Take note that a request of *credential*'s timed out that was sent when it *began*.

        All that were sent before the first of them timed out are one time, however many they are.
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
        self._known[key] = Backoff(times, now, now + pause_s, credentials)
        self._known.move_to_end(key)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    def responded(self, key: str, credential: str) -> None:
        """Take note that a response to *credential* came in time."""
        known = self._known.get(key)
        if known is not None and known.concerns(credential):
            del self._known[key]
