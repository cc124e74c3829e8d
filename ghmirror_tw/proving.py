"""Proofs of a stored `Link`: requests for the pages that it says nothing about.

A `Link` is not what an entity-tag covers, and GitHub leaves it out of a 304 (GitHub: pagination).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Final

from attrs import define, field, frozen

from ghmirror_tw.policy.pagination import Demand, list_identity, page_number, page_size, with_page
from ghmirror_tw.store.lately import Lately

#: A walk through the pages of a list uses a proof for so long, each page once.
WALK_S: Final = 10.0
#: For so long it is remembered that a page, or numbered pages, do not exist.
_ABSENT_S: Final = 3600.0
_MOST: Final = 5_000


class NoPagesError(Exception):
    """GitHub refuses a numbered page of a list (400, 404): the operation has none."""


class NoSuchPageError(Exception):
    """GitHub does not count as far as this page (422), so it is not linked to either."""


#: Sends a request for a page (its target) and returns how many items it has, None where GitHub
#: does not tell. Raises `NoPagesError` and `NoSuchPageError`.
SendForPage = Callable[[bytes], Awaitable[int | None]]


@frozen
class Walk:
    """A request for a page of a list, by a credential, with the fields of the cache key.

    *generation* changes with each write of the credential. A proof that was sent before *since*
    does not count: the page was answered, or something written, then.
    """

    credential: str
    fields: tuple[bytes | None, ...]
    generation: int
    target: bytes
    since: float = 0.0

    def at(self, target: bytes) -> Hashable:
        """Return the name of a page as this walk sees it."""
        return (self.credential, self.fields, self.generation, target)

    def absent(self, target: bytes) -> Hashable:
        """Return the name of a page, or of a whole list, that does not exist."""
        return (self.credential, self.fields, target)


@define(eq=False)
class Proofs:
    """What was lately seen of pages of lists. A proof serves one walk through a list.

    A page that is requested again is proved again: only other pages use the same proof.
    """

    now: Callable[[], float]
    #: Items by page, and when the request for them was sent (seconds).
    _seen: Lately[Hashable, tuple[int, float]] = field(factory=lambda: Lately(_MOST))
    #: When a page was last answered to the client.
    _answered: Lately[Hashable, float] = field(factory=lambda: Lately(_MOST))
    #: Until when a page, or a list with numbered pages, is known not to exist.
    _absent: Lately[Hashable, float] = field(factory=lambda: Lately(_MOST))

    def has_no_pages(self, walk: Walk) -> bool:
        """Tell whether GitHub has lately refused numbered pages of a list."""
        return self._is_absent(walk, list_identity(walk.target))

    def answered(self, walk: Walk) -> None:
        """Note that a page was answered: proofs from before do not serve it again."""
        self._answered.put(walk.at(walk.target), self.now())

    async def hold(self, walk: Walk, demand: Demand, send: SendForPage) -> bool | None:
        """Tell whether *demand* holds of the list that is walked; None where GitHub does not tell.

        The page of the walk itself is validated by the caller, and not requested again.
        """
        if demand.unprovable:
            return False
        if demand.linked_page is not None:
            return await self._has_items(walk, demand.linked_page, send)
        following = demand.next_page
        try:
            if demand.last_page is not None:
                items = await self._items(walk, demand.last_page, send)
                if not items:
                    return None if items is None else False
                if items < page_size(demand.last_page):
                    return True
                following = with_page(demand.last_page, (page_number(demand.last_page) or 1) + 1)
            assert following is not None
            items = await self._items(walk, following, send)
        except NoPagesError:
            self._note_absent(walk, list_identity(walk.target))
            return False
        return None if items is None else items == 0

    async def _has_items(self, walk: Walk, page: bytes, send: SendForPage) -> bool | None:
        try:
            items = await self._items(walk, page, send)
        except NoPagesError:
            # Of a cursor, this tells nothing about pages with numbers.
            return False
        return None if items is None else items > 0

    async def _items(self, walk: Walk, page: bytes, send: SendForPage) -> int | None:
        """Return how many items a page has: as lately seen, or as GitHub tells now."""
        if self._is_absent(walk, page):
            return 0
        sent_at, seen = self.now(), self._seen.get(walk.at(page))
        if seen is not None:
            items, proved_at = seen
            answered_at = self._answered.get(walk.at(walk.target)) or 0.0
            if max(walk.since, answered_at, sent_at - WALK_S) < proved_at:
                return items
        try:
            found = await send(page)
        except NoSuchPageError:
            self._note_absent(walk, page)
            return 0
        if found is not None:
            self._seen.put(walk.at(page), (found, sent_at))
        return found

    def _is_absent(self, walk: Walk, target: bytes) -> bool:
        return (self._absent.get(walk.absent(target)) or 0.0) > self.now()

    def _note_absent(self, walk: Walk, target: bytes) -> None:
        self._absent.put(walk.absent(target), self.now() + _ABSENT_S)
