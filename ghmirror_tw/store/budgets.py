"""Budgets of a process that shares them with nobody."""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from ghmirror_tw.store.interfaces import Bid, Budget, IBudgets, Part

_MOST: Final = 10_000


@implementer(IBudgets)
@define(eq=False)
class MemoryBudgets:
    """Gives one process whole budgets."""

    reactor: Any
    alone: bool = True
    members: int = 1
    responded_at: float = -inf
    _complaints: OrderedDict[str, float] = field(init=False, factory=OrderedDict)

    def bid(self, budget: Budget, bid: Bid) -> Deferred[Part]:
        """Give it all."""
        left_s = self._complaints.get(budget.credential, 0.0) - self.reactor.seconds()
        held = budget.limit if bid.demand else 0
        return succeed(Part(held, held, complained_s=max(left_s, 0.0)))

    def complain(self, credential: str, for_s: float) -> None:
        """Note a complaint."""
        self._complaints[credential] = self.reactor.seconds() + for_s
        self._complaints.move_to_end(credential)
        if len(self._complaints) > _MOST:
            self._complaints.popitem(last=False)
