"""The reserve: a part of each quota that only writes and free requests may use (`reserve`)."""

from __future__ import annotations

from collections import OrderedDict
from math import ceil
from typing import Any

from attrs import define, field

from ghmirror_tw.http import error_responses
from ghmirror_tw.runtime.bounded_tables import store_recent
from ghmirror_tw.upstream.quotas import MOST


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
