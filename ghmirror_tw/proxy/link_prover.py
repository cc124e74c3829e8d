"""Decides what must be proved before a stored `Link` is sent again, and proves it.

The proofs are requests of the mirror's own for other pages of the list, validated like others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from attrs import define
from twisted.internet.defer import CancelledError, Deferred

from ghmirror_tw.caching.records import Grant, Known, Representation
from ghmirror_tw.caching.validator_ladder import UNCONDITIONAL, ConditionalRequest
from ghmirror_tw.caching.validators import ValidatorKind
from ghmirror_tw.github.link_conditions import (
    NO_CONDITIONS,
    UNPROVABLE,
    LinkConditions,
    conditions_of_link,
)
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.preconditions import PRECONDITIONS
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.link_currency_proofs import LinkProofs, NoPagesError, NoSuchPageError
from ghmirror_tw.proxy.mirror_options import MirrorOptions
from ghmirror_tw.proxy.mirror_response import NoUpstreamResponseError, Response
from ghmirror_tw.proxy.request_context import Lookup
from ghmirror_tw.upstream.limits_in_force import RateLimitedError, RateLimitTable
from ghmirror_tw.upstream.upstream_interface import UpstreamError

#: GitHub's statuses for a page of a list that has no numbered pages, and for one beyond its count.
_NO_PAGES: Final = frozenset({400, 404})
_NO_SUCH_PAGE: Final = 422

#: Returns the response to a request of the mirror's own, for another page of a list.
RequestPage = Callable[[Request, Lookup], Awaitable[Response]]


@define(eq=False)
class LinkProver:
    """Proves links by requests.

    *request_page* is None within a proof, which needs no proof itself.
    """

    proofs: LinkProofs
    limits: RateLimitTable
    options: MirrorOptions
    request_page: RequestPage | None = None

    def conditions(
        self,
        lookup: Lookup,
        known: Known,
        stored: Representation,
        link: bytes | None,
        kind: ValidatorKind,
    ) -> LinkConditions:
        """Return what must be proved where a 304 confirms *stored*, whose link is *link*."""
        if self.request_page is None or kind is ValidatorKind.EMPTY:
            return NO_CONDITIONS
        api_url = self.options.api_url
        conditions = conditions_of_link(
            lookup.request.target,
            stored.items,
            link,
            shared=kind is ValidatorKind.COMPUTED,
            verify_last=self.options.verify_last,
            authorised=lookup.request.authorization is not None,
            api_url=api_url,
        )
        if conditions is not NO_CONDITIONS and self.proofs.lacks_numbered_pages(lookup.walk(known)):
            return UNPROVABLE
        if self.proofs.any_empty and self.proofs.leads_nowhere(lookup.walk(known), link, api_url):
            return UNPROVABLE
        return conditions

    def prepare(
        self, lookup: Lookup, known: Known, conditional: ConditionalRequest, now: float
    ) -> tuple[ConditionalRequest, Deferred[bool | None] | None]:
        """Return the conditional request to send, and the proof that has begun beside it.

        Where the likely 304 could not be used, since its link could not be proved, the request is
        sent without validators at once, rather than twice.
        """
        own = self._own_conditions(lookup, known, conditional)
        if self._is_unprovable(lookup, known, conditional, own):
            return UNCONDITIONAL, None
        if own is NO_CONDITIONS or own.unprovable:
            return conditional, None
        # While it is not known whether a rate limit has ended, only one request may be the probe.
        if self.limits.has_any(lookup.requester.token, lookup.scopes):
            return conditional, None
        # The flight is as old as the proof; the main request may have to wait for a connection.
        lookup.flight.note_sent(now)
        return conditional, Deferred.fromCoroutine(self.prove(lookup, known, own))

    def _own_conditions(
        self, lookup: Lookup, known: Known, conditional: ConditionalRequest
    ) -> LinkConditions:
        """Return what must be proved if the grant's own validator is confirmed."""
        grant = known.grant
        stored = conditional.stored.get(grant.digest) if grant is not None else None
        if grant is None or stored is None or not conditional.has_validator:
            return NO_CONDITIONS
        return self.conditions(lookup, known, stored, grant.link, ValidatorKind.OWN)

    def _is_unprovable(
        self, lookup: Lookup, known: Known, conditional: ConditionalRequest, own: LinkConditions
    ) -> bool:
        """Return whether the likely 304 could not be used, since its link could not be proved."""
        if known.grant is not None or lookup.request.authorization is not None:
            return own.unprovable
        return any(
            self.conditions(lookup, known, stored, entry.link, ValidatorKind.COMPUTED).unprovable
            for entry in known.entries
            if (stored := conditional.stored.get(entry.digest)) is not None
        )

    async def prove(self, lookup: Lookup, known: Known, conditions: LinkConditions) -> bool | None:
        """Return whether *conditions* hold; None where no response shows it."""
        return await self.proofs.prove(
            lookup.walk(known), conditions, lambda target: self._items_of(lookup, target)
        )

    async def _items_of(self, lookup: Lookup, target: bytes) -> int | None:
        """Return the number of items on another page; None where no response shows it."""
        assert self.request_page is not None
        fields = lookup.request.fields.without(PRECONDITIONS)
        try:
            response = await self.request_page(Request(b"GET", target, fields), lookup)
        except (UpstreamError, MirrorError, NoUpstreamResponseError, RateLimitedError):
            return None
        if response.incoming is not None:
            response.incoming.abort()
        if response.status == _NO_SUCH_PAGE:
            raise NoSuchPageError
        if response.status in _NO_PAGES:
            raise NoPagesError
        return response.body.items if isinstance(response.body, Representation) else None

    def note_proved(self, lookup: Lookup, known: Known) -> None:
        """Note that the client receives a page whose link was proved for it."""
        self.proofs.note_sent(lookup.walk(known))

    def note_items(self, lookup: Lookup, known: Known, stored: Representation) -> None:
        """Note how many items a page has that the client receives."""
        if stored.items is not None and self.request_page is not None:
            self.proofs.note_items(lookup.walk(known), stored.items)

    def note_new(self, lookup: Lookup, known: Known, stored: Representation, grant: Grant) -> None:
        """Note the items and the link of a page that a 200 brought."""
        if stored.items is None or self.request_page is None:
            return
        walk = lookup.walk(known)
        self.proofs.note_sent(walk)
        self.proofs.note_link(walk, grant.link, self.options.api_url)
        self.proofs.note_items(walk, stored.items)


def cancel_proof(proof: Deferred[bool | None]) -> None:
    """Cancel a proof that is not needed any more; its failure is dropped."""
    proof.addErrback(lambda failure: failure.trap(CancelledError) and None)
    proof.cancel()
