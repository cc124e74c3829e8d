"""Exponential backoff for keys whose requests time out.

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

#: The largest number of keys; the one that timed out least recently is evicted.
MAX_KEYS: Final = 10_000
#: The first pause, and the longest one, in seconds.
_FIRST_S: Final = 5.0
_LONGEST_S: Final = 300.0
_MAX_DOUBLINGS: Final = 10
#: How long a probe delays other requests for its key, in seconds.
_PROBE_S: Final = 10.0


@define(eq=False)
class TimeoutBackoff:
    """Timeouts of a key: how many *times* in a row, the last one *at*, and a pause *until*."""

    times: int
    at: float
    until: float
    #: The credentials whose requests have timed out, two of them at most.
    credentials: frozenset[str] = frozenset()

    @property
    def repeated(self) -> bool:
        """Whether there were at least two timeouts in a row."""
        return self.times > 1

    def concerns(self, credential: str) -> bool:
        """Return whether it delays requests of a credential."""
        return len(self.credentials) > 1 or credential in self.credentials


@define(eq=False)
class TimeoutBackoffs:
    """The backoff of each key that times out, by name. Times are in seconds."""

    #: Whether any key has a backoff.
    any_known: bool = field(init=False, default=False)
    by_key: OrderedDict[str, TimeoutBackoff] = field(init=False, factory=OrderedDict)

    def of(self, key: str, credential: str) -> TimeoutBackoff | None:
        """Return the backoff that concerns requests of *credential* for *key*, if any.

        Until its end, requests are delayed. After it, the next request is the half-open probe.
        """
        backoff = self.by_key.get(key)
        return backoff if backoff is not None and backoff.concerns(credential) else None

    def begin_probe(self, key: str, now: float) -> None:
        """Note that a probe is sent: other requests are delayed until it ends, or is too long."""
        backoff = self.by_key.get(key)
        if backoff is not None:
            backoff.until = now + _PROBE_S

    def note_timeout(self, key: str, credential: str, sent_at: float, now: float) -> None:
        """Note the timeout of a request of *credential* that was sent at *sent_at*.

        Concurrent requests count once: one that was sent before the last timeout is ignored.
        """
        backoff = self.by_key.get(key)
        credentials = frozenset({credential})
        if backoff is not None:
            if not backoff.concerns(credential):
                backoff.credentials |= credentials
            credentials = backoff.credentials
            if sent_at < backoff.at:
                return
        times = 1 if backoff is None else backoff.times + 1
        pause_s = 0.0
        if times > 1:
            doublings = min(times - 2, _MAX_DOUBLINGS)
            pause_s = min(_FIRST_S * 2**doublings, _LONGEST_S)
        renewed = TimeoutBackoff(times, now, now + pause_s, credentials)
        store_recent(self.by_key, key, renewed, MAX_KEYS)
        self.any_known = True

    def note_response(self, key: str, credential: str) -> None:
        """End the backoff of a key for *credential*, since a response arrived in time."""
        backoff = self.by_key.get(key)
        if backoff is not None and backoff.concerns(credential):
            del self.by_key[key]
            self.any_known = bool(self.by_key)
