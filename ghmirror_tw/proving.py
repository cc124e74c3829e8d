"""Proofs of a stored `Link`: requests for the pages that it says nothing about.

A `Link` is not what an entity-tag covers, and GitHub leaves it out of a 304 (GitHub: pagination).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

from attrs import define, field, frozen

from ghmirror_tw.policy.pagination import Demand, list_identity, page_number, page_size, with_page

#: A walk through the pages of a list uses a proof for so long, each page once.
WALK_S: Final = 10.0
#: For so long it is remembered that a page, or numbered pages, do not exist.
_ABSENT_S: Final = 3600.0
_MOST: Final = 10_000


class NoPagesError(Exception):
    """GitHub refuses a numbered page of a list (400, 404): the operation has none."""


class NoSuchPageError(Exception):
    """GitHub does not count as far as this page (422), so it is not linked to either."""


#: Sends a request for a page (its target) and returns how many items it has, None where GitHub
#: does not tell. Raises `NoPagesError` and `NoSuchPageError`.
SendForPage = Callable[[bytes], Awaitable[int | None]]


@frozen
class Walk:
    """A request for a page of a list, by a credential.

    *name* is the same for all pages of the list that are requested in the same way; *generation*
    changes with each write of the credential. A proof that was sent before *since* does not count:
    the page was answered, or something written, then.
    """

    name: Hashable
    generation: int
    target: bytes
    since: float = 0.0

    @property
    def of(self) -> Hashable:
        """Under what proofs of the list are found."""
        return (self.name, self.generation)


@define(eq=False)
class _Seen:
    """What was lately seen of a list: items by page and when the request was sent (seconds).

    *answered*: when each page was last answered to the client.
    """

    items: dict[int, tuple[int, float]] = field(factory=dict)
    answered: dict[int | None, float] = field(factory=dict)

    def prune(self, now: float) -> None:
        """Drop what no walk uses any longer."""
        self.items = {page: it for page, it in self.items.items() if now - it[1] < WALK_S}
        self.answered = {page: at for page, at in self.answered.items() if now - at < WALK_S}


@define(eq=False)
class Proofs:
    """What was lately seen of the pages of lists. A proof serves one walk through a list.

    A page that is requested again is proved again: only other pages use the same proof.
    """

    now: Callable[[], float]
    _lists: OrderedDict[Hashable, _Seen] = field(factory=OrderedDict)
    #: Until when a page (None: any numbered page) of a list is known not to exist.
    _absent: OrderedDict[tuple[Hashable, int | None], float] = field(factory=OrderedDict)

    def has_no_pages(self, walk: Walk) -> bool:
        """Tell whether GitHub has lately refused numbered pages of a list."""
        return bool(self._absent) and self._is_absent(walk.name, None)

    def answered(self, walk: Walk) -> None:
        """Note that a page was answered: proofs from before do not serve it again."""
        seen = self._lists.get(walk.of)
        if seen is not None:
            seen.answered[page_number(walk.target)] = self.now()

    async def hold(self, walk: Walk, demand: Demand, send: SendForPage) -> bool | None:
        """Tell whether *demand* holds of the list that is walked; None where GitHub does not tell.

        The page of the walk itself is validated by the caller, and not requested again.
        """
        if demand.unprovable:
            return False
        following = demand.next_page
        try:
            if demand.last_page is not None:
                items = await self._items(walk, demand.last_page, send)
                if not items:
                    return None if items is None else False
                if items < page_size(walk.target):
                    return True
                following = demand.last_page + 1
            assert following is not None
            items = await self._items(walk, following, send)
        except NoPagesError:
            self._note_absent(walk.name, None)
            return False
        return None if items is None else items == 0

    async def _items(self, walk: Walk, page: int, send: SendForPage) -> int | None:
        """Return how many items a page has: as lately seen, or as GitHub tells now."""
        if self._is_absent(walk.name, page):
            return 0
        sent_at = self.now()
        seen = self._lists.get(walk.of)
        if seen is not None and page in seen.items:
            items, proved_at = seen.items[page]
            last = max(walk.since, seen.answered.get(page_number(walk.target), 0.0))
            if last < proved_at and sent_at - proved_at < WALK_S:
                return items
        try:
            found = await send(with_page(walk.target, page))
        except NoSuchPageError:
            self._note_absent(walk.name, page)
            return 0
        if found is not None:
            self._note(walk.of, page, found, sent_at)
        return found

    def _note(self, of: Hashable, page: int, items: int, sent_at: float) -> None:
        seen = self._lists.setdefault(of, _Seen())
        self._lists.move_to_end(of)
        if len(self._lists) > _MOST:
            self._lists.popitem(last=False)
        seen.prune(self.now())
        seen.items[page] = (items, sent_at)

    def _is_absent(self, name: Hashable, page: int | None) -> bool:
        return self._absent.get((name, page), 0.0) > self.now()

    def _note_absent(self, name: Hashable, page: int | None) -> None:
        self._absent[name, page] = self.now() + _ABSENT_S
        self._absent.move_to_end((name, page))
        if len(self._absent) > _MOST:
            self._absent.popitem(last=False)


def walk_name(credential: str, target: bytes, *fields: bytes | None) -> Hashable:
    """Return what the requests of a walk have in common: credential, list and fields of the key."""
    return (credential, list_identity(target), fields)
