"""The last known quotas of each credential: for stored responses, and for the reserve.

The reserve is a part of each quota that only writes and free requests may use.
"""

from __future__ import annotations

from collections import OrderedDict
from math import ceil
from typing import Any, Final

from attrs import define, field

from ghmirror_tw.http import error_responses
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.runtime.bounded_tables import store_recent

#: The largest number of quotas; the least recently received one is evicted.
MOST: Final = 10_000
#: GitHub: rate limits, checking the status.
_FIELDS: Final = frozenset(
    {
        b"x-ratelimit-limit",
        b"x-ratelimit-remaining",
        b"x-ratelimit-used",
        b"x-ratelimit-reset",
        b"x-ratelimit-resource",
    }
)
_NOTHING: Final = Fields()


@define(eq=False)
class Quotas:
    """The last `X-RateLimit-*` fields that this process has received, by credential and bucket."""

    _last: OrderedDict[tuple[str, str], Fields] = field(init=False, factory=OrderedDict)

    def note(self, credential: str, bucket: str, fields: Fields) -> None:
        """Store the `X-RateLimit-*` fields of a response, if it has them."""
        if fields.get(b"x-ratelimit-limit") is None:
            return
        store_recent(self._last, (credential, bucket), fields.only(_FIELDS), MOST)

    def last(self, credential: str, bucket: str) -> Fields:
        """Return the fields that were received last; none, where none were."""
        return self._last.get((credential, bucket), _NOTHING)


@define(eq=False)
class QuotaReserve:
    """Rejects reads that would leave less than *reserve* of a quota; 0: none is rejected."""

    clock: Any
    reserve: int
    #: The remaining quota and its reset, by credential and bucket.
    _remaining: OrderedDict[tuple[str, str], tuple[int, float]] = field(
        init=False, factory=OrderedDict
    )

    def note(self, credential: str, bucket: str, remaining: int, reset: float) -> None:
        """Note the *remaining* quota until *reset*, in seconds since the epoch."""
        if self.reserve:
            store_recent(self._remaining, (credential, bucket), (remaining, reset), MOST)

    def check(self, credential: str, bucket: str) -> None:
        """Raise a `MirrorError` (503) where no more than the reserve is left."""
        remaining, reset = self._remaining.get((credential, bucket), (0, 0.0))
        left_s = reset - self.clock.seconds()
        if left_s > 0 and remaining <= self.reserve:
            raise error_responses.reserved(self.reserve, remaining, ceil(left_s))
