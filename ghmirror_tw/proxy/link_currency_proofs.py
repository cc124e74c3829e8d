"""Proofs that a stored `Link` is current: the last page is unchanged, or no page follows it.

An entity-tag of GitHub's does not cover `Link`, and a 304 does not contain it (GitHub: pagination).

Each replica has proofs of its own. A polled page needs a new proof each time in any case: it costs
two requests. Shared proofs would make only walks cheaper whose pages are requested through several
replicas. A walk of 3 pages takes 5 requests through eight replicas, and 4 through one; a walk of 10
pages takes 14.5 and 11. Clients with persistent connections use one replica.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

from attrs import define, field, frozen

from ghmirror_tw.caching.key import length_prefixed
from ghmirror_tw.github.link_conditions import LinkConditions, next_page
from ghmirror_tw.github.page_parameters import list_identity, page_number, page_size, with_page
from ghmirror_tw.runtime.recent_cache import RecentCache

#: How old a proof may be, in seconds. A walk through a list uses it once for each page.
WALK_S: Final = 10.0
#: How long it is stored that a page, or numbered pages, do not exist, in seconds.
_ABSENT_S: Final = 3600.0
_MOST: Final = 5_000
#: The longest target, and the longest fields, in the name of an entry, in bytes.
_MOST_NAME_BYTES: Final = 256


class NoPagesError(Exception):
    """GitHub refuses a numbered page of a list (400, 404): the operation has no such pages."""


class NoSuchPageError(Exception):
    """GitHub has no page of this number (422), so that no link leads to it."""


#: Requests the page at a target; returns the number of its items, or None where the response does
#: not show it. Raises `NoPagesError` and `NoSuchPageError`.
CountItems = Callable[[bytes], Awaitable[int | None]]


@frozen
class Walk:
    """A request for a page of a list, by a credential, with the fields of the cache key.

    *generation* changes with each write of the credential. A proof counts only if its request was
    sent after *since*, the time of the last validation of the page.
    """

    credential: str
    fields: tuple[bytes | None, ...]
    generation: int
    target: bytes
    since: float = 0.0

    def proof_name(self, target: bytes) -> Hashable:
        """Return the name of the proof of a page, for this generation of requests."""
        return (self.credential, _short(*self.fields), self.generation, _short(target))

    def page_name(self, target: bytes) -> Hashable:
        """Return the name of a page, or of a list, as it is for all generations of requests."""
        return (self.credential, _short(*self.fields), _short(target))


def _short(*parts: bytes | None) -> Hashable:
    """Return the parts, or a digest where they are long: the tables are bounded by entries only."""
    if sum([len(part) for part in parts if part]) <= _MOST_NAME_BYTES:
        return parts
    encoded = b"".join(map(length_prefixed, parts))
    return hashlib.sha256(encoded).digest()


@define(eq=False)
class LinkProofs:
    """Recent proofs for pages of lists.

    All pages of one walk share a proof. It does not count for a page that the client has received
    since.
    """

    now: Callable[[], float]
    #: By page: the number of its items, and when the request for it was sent (seconds).
    seen: RecentCache[Hashable, tuple[int, float]] = field(factory=lambda: RecentCache(_MOST))
    #: By page: when the client last received it.
    last_sent: RecentCache[Hashable, float] = field(factory=lambda: RecentCache(_MOST))
    #: Until when a page, or a list with numbered pages, is known not to exist.
    absent: RecentCache[Hashable, float] = field(factory=lambda: RecentCache(_MOST))
    #: By page: whether it had no items at the last request of a client for it.
    empty_pages: RecentCache[Hashable, bool] = field(factory=lambda: RecentCache(_MOST))
    #: Whether any page had none.
    any_empty: bool = False
    #: By empty page: until when GitHub is known to send a link to it all the same.
    _linked: RecentCache[Hashable, float] = field(factory=lambda: RecentCache(_MOST))

    def lacks_numbered_pages(self, walk: Walk) -> bool:
        """Return whether GitHub has recently refused numbered pages of the list."""
        return self._is_absent(walk, list_identity(walk.target))

    def note_sent(self, walk: Walk) -> None:
        """Note that a page was sent to the client: earlier proofs are not used for it again."""
        self.last_sent.put(walk.proof_name(walk.target), self.now())

    # Whether the next page is empty: the client's own request for it shows that at no further cost.

    def note_items(self, walk: Walk, items: int) -> None:
        """Note how many items GitHub has on the page of *walk*, by the client's own request."""
        name = walk.page_name(walk.target)
        if items and not self.any_empty:
            return
        is_empty = not items and (self._linked.get(name) or 0.0) <= self.now()
        self.any_empty = self.any_empty or is_empty
        self.empty_pages.put(name, is_empty)

    def leads_nowhere(self, walk: Walk, link: bytes | None, api_url: bytes) -> bool:
        """Return whether the next page by a stored *link* has been empty since."""
        if not self.any_empty:
            return False
        following = next_page(link, api_url)
        return following is not None and self.empty_pages.get(walk.page_name(following)) is True

    def note_link(self, walk: Walk, link: bytes | None, api_url: bytes) -> None:
        """Note that GitHub sends *link* now, even if the next page is known to be empty."""
        if self.leads_nowhere(walk, link, api_url):
            name = walk.page_name(next_page(link, api_url) or b"")
            self.empty_pages.put(name, False)
            self._linked.put(name, self.now() + _ABSENT_S)

    async def prove(self, walk: Walk, conditions: LinkConditions, count: CountItems) -> bool | None:
        """Return whether *conditions* hold for the list of *walk*; None where no response shows it.

        The page of the walk itself is validated by the caller, and not requested here.
        """
        if conditions.unprovable:
            return False
        if conditions.linked_page is not None:
            return await self._has_items(walk, conditions.linked_page, count)
        following = conditions.next_page
        try:
            if conditions.last_page is not None:
                items = await self._items(walk, conditions.last_page, count)
                if not items:
                    return None if items is None else False
                if items < page_size(conditions.last_page):
                    return True
                following = with_page(
                    conditions.last_page, (page_number(conditions.last_page) or 1) + 1
                )
            assert following is not None
            items = await self._items(walk, following, count)
        except NoPagesError:
            self._note_absent(walk, list_identity(walk.target))
            return False
        return None if items is None else items == 0

    async def _has_items(self, walk: Walk, page: bytes, count: CountItems) -> bool | None:
        try:
            items = await self._items(walk, page, count)
        except NoPagesError:
            # For a cursor, this proves nothing about pages with numbers.
            return False
        return None if items is None else items > 0

    async def _items(self, walk: Walk, page: bytes, count: CountItems) -> int | None:
        """Return the number of items of a page: by a recent proof, or by a request."""
        if self._is_absent(walk, page):
            return 0
        sent_at, seen = self.now(), self.seen.get(walk.proof_name(page))
        if seen is not None:
            items, proved_at = seen
            page_sent_at = self.last_sent.get(walk.proof_name(walk.target)) or 0.0
            if max(walk.since, page_sent_at, sent_at - WALK_S) < proved_at:
                return items
        try:
            found = await count(page)
        except NoSuchPageError:
            self._note_absent(walk, page)
            return 0
        if found is not None:
            self.seen.put(walk.proof_name(page), (found, sent_at))
        return found

    def _is_absent(self, walk: Walk, target: bytes) -> bool:
        return (self.absent.get(walk.page_name(target)) or 0.0) > self.now()

    def _note_absent(self, walk: Walk, target: bytes) -> None:
        self.absent.put(walk.page_name(target), self.now() + _ABSENT_S)
