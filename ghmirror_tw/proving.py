"""Proving what a stored `Link` says, by asking for the pages that it says nothing about.

A `Link` is not what an entity-tag covers, and GitHub leaves it out of a 304 (GitHub: pagination).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

from attrs import define, field, frozen

from ghmirror_tw.policy.pagination import Demand, list_identity, page_number, with_page

#: One proof serves all pages of a list that a credential asks for within so many seconds.
PROOF_S: Final = 10.0
_MOST: Final = 10_000


@frozen
class Page:
    """What a page was: how many items, and the digest of them."""

    items: int
    digest: str


#: Asks for a page (its target) and returns what it is; None: GitHub didn't say.
AskPage = Callable[[bytes], Awaitable[Page | None]]


@define(eq=False)
class Proofs:
    """What was lately seen of the pages of lists, and when (seconds)."""

    _seen: OrderedDict[Hashable, tuple[Page, float]] = field(factory=OrderedDict)

    def digest_of(self, asker: Hashable, page: int) -> str | None:
        """Return what a page of *asker*'s list was when it was looked at, if it was."""
        seen = self._seen.get((asker, page))
        return None if seen is None else seen[0].digest

    async def _is_empty(
        self, asker: Hashable, target: bytes, number: int, now: float, ask: AskPage
    ) -> bool | None:
        seen = self._seen.get((asker, number))
        if seen is not None and now - seen[1] < PROOF_S:
            return seen[0].items == 0
        page = await ask(with_page(target, number))
        if page is None:
            return None
        self._seen[asker, number] = (page, now)
        self._seen.move_to_end((asker, number))
        if len(self._seen) > _MOST:
            self._seen.popitem(last=False)
        return page.items == 0

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
