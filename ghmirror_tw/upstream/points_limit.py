"""How many points a minute a credential may use.

With ``auto`` points are counted for an hour after GitHub has limited the credential.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final, Literal

from attrs import define, field

from ghmirror_tw.runtime.bounded_tables import store_recent
from ghmirror_tw.upstream.request_queue import GRAPHQL

#: GraphQL has points of its own.
GRAPHQL_POINTS: Final = 2000
#: The points of ``auto``, and for how long after a secondary limit they count, in seconds.
AUTO_POINTS: Final = 900
COUNTED_S: Final = 3600.0
_MOST: Final = 10_000


@define(eq=False)
class PointsLimit:
    """The limit of points a minute of each credential: 0: none; ``auto``: see above."""

    clock: Any
    points_per_minute: int | Literal["auto"]
    #: Until when points count after a secondary limit, by credential.
    _limited: OrderedDict[str, float] = field(init=False, factory=OrderedDict)
    #: Whether points count after a secondary limit only.
    is_auto: bool = field(init=False)
    #: Whether points may count for any credential.
    in_use: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.is_auto = self.points_per_minute == "auto"
        self.in_use = not self.is_auto and self.points_per_minute != 0

    def note_secondary_limit(self, credential: str, for_s: float) -> None:
        """Note that GitHub has limited a credential, which counts for *for_s* seconds."""
        if self.is_auto:
            self.in_use = True
            store_recent(self._limited, credential, self.clock.seconds() + for_s, _MOST)

    def counts(self, credential: str) -> bool:
        """Return whether points of a credential count now."""
        if self.is_auto:
            now: float = self.clock.seconds()
            return self._limited.get(credential, 0.0) > now
        return bool(self.points_per_minute)

    def of(self, credential: str, kind: str) -> int:
        """Return the limit of a credential, REST or GraphQL; 0: points do not count."""
        if not self.in_use or not self.counts(credential):
            return 0
        points = self.points_per_minute
        if kind == GRAPHQL:
            return GRAPHQL_POINTS
        return points if isinstance(points, int) else AUTO_POINTS

    def bounded(self, points: int, kind: str) -> int:
        """Return the points of a request, but never more than the limit of a minute."""
        most = GRAPHQL_POINTS if kind == GRAPHQL else self.points_per_minute
        return min(points, most) if isinstance(most, int) and most else points
