"""Proving what a stored `Link` says, by asking for the pages that it says nothing about.

A `Link` is not what an entity-tag covers, and GitHub leaves it out of a 304 (GitHub: pagination).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

from attrs import define, field

from ghmirror_tw.policy.pagination import Demand, list_identity, page_number, with_page

#: One proof serves all pages of a list that a credential asks for within so many seconds.
PROOF_S: Final = 10.0
_MOST: Final = 10_000

#: Asks for a page (its target) and returns how many items it has; None: GitHub didn't say.
AskPage = Callable[[bytes], Awaitable[int | None]]


@define(eq=False)
class Proofs:
    """What was lately seen of the pages of lists: empty or not, and when (seconds)."""

    _seen: OrderedDict[Hashable, tuple[bool, float]] = field(factory=OrderedDict)

    def saw(self, asker: Hashable, page: int, items: int, now: float) -> None:
        """Remember that a page of *asker*'s list had *items*."""
        self._seen[asker, page] = (items == 0, now)
        self._seen.move_to_end((asker, page))
        if len(self._seen) > _MOST:
            self._seen.popitem(last=False)

    async def _is_empty(
        self, asker: Hashable, target: bytes, page: int, now: float, ask: AskPage
    ) -> bool | None:
        seen = self._seen.get((asker, page))
        if seen is not None and now - seen[1] < PROOF_S:
            return seen[0]
        items = await ask(with_page(target, page))
        if items is None:
            return None
        self.saw(asker, page, items, now)
        return items == 0

    async def hold(
        self, asker: Hashable, target: bytes, demand: Demand, now: float, ask: AskPage
    ) -> bool | None:
        """Tell whether *demand* holds of the list that *target* is a page of.

        None where GitHub didn't say. The page after the end comes first: while it is empty,
        asking for the last one costs nothing but what may have to be learned anyway. *target*
        itself is being validated by the caller, and is not asked for again.
        """
        if demand.unprovable:
            return False
        if demand.next_page is not None:
            empty = await self._is_empty(asker, target, demand.next_page, now, ask)
            if not empty:
                return empty
        if demand.last_page not in {None, page_number(target)}:
            assert demand.last_page is not None
            empty = await self._is_empty(asker, target, demand.last_page, now, ask)
            return None if empty is None else not empty
        return True


def asker_of(credential: str, generation: int, target: bytes, *fields: bytes | None) -> Hashable:
    """Return under what proofs are remembered: who asks, how, and since which write of theirs."""
    return (credential, generation, list_identity(target), fields)
