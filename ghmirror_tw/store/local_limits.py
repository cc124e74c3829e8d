"""Rate limits that this process knows of."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define, field

from ghmirror_tw.github.reported_limit import Limit
from ghmirror_tw.runtime.bounded_tables import store_recent

_MOST_LIMITS: Final = 10_000


@define(eq=False)
class LocalLimits:
    """Limits by token and scope, of each scope the one that ends last."""

    _limits: OrderedDict[tuple[str, str], Limit] = field(init=False, factory=OrderedDict)

    def __bool__(self) -> bool:
        return bool(self._limits)

    def store(self, token: str, limit: Limit) -> None:
        """Store a limit, over one of the same scope that ends earlier."""
        name = token, limit.scope
        known = self._limits.get(name)
        if known is None or known.until < limit.until:
            store_recent(self._limits, name, limit, _MOST_LIMITS)

    def in_force(self, token: str, scopes: tuple[str, ...], now: float) -> tuple[Limit, ...]:
        """Return the limits in force at *now*; those that have ended are removed."""
        found = []
        for scope in scopes:
            limit = self._limits.get((token, scope))
            if limit is not None and limit.until > now:
                found.append(limit)
            elif limit is not None:
                del self._limits[token, scope]
        return tuple(found)
