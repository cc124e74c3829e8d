"""The last known quotas of each credential, for stored responses and the status page."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define, field

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

    recent: OrderedDict[tuple[str, str], Fields] = field(init=False, factory=OrderedDict)

    def note(self, credential: str, bucket: str, fields: Fields) -> None:
        """Store the `X-RateLimit-*` fields of a response, if it has them."""
        if fields.get(b"x-ratelimit-limit") is None:
            return
        store_recent(self.recent, (credential, bucket), fields.only(_FIELDS), MOST)

    def last(self, credential: str, bucket: str) -> Fields:
        """Return the fields that were received last; none, where none were."""
        return self.recent.get((credential, bucket), _NOTHING)
