"""Budgets of a process that shares them with no other."""

from __future__ import annotations

from math import inf

from attrs import define
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from ghmirror_tw.store.store_interface import Bid, Budget, IBudgets, Part


@implementer(IBudgets)
@define(eq=False)
class MemoryBudgets:
    """Gives one process whole budgets."""

    alone: bool = True
    members: int = 1
    responded_at: float = -inf

    def bid(self, budget: Budget, bid: Bid) -> Deferred[Part]:
        """Give it all."""
        held = budget.limit if bid.demand else 0
        return succeed(Part(held, held))

    def complain(self, credential: str, for_s: float) -> None:
        """Do nothing: no other process has to know of a complaint."""
