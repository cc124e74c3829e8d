"""Fetches stored representations and computes entity-tags, for the ladder in `caching.decision`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import define
from twisted.internet.defer import Deferred

from ghmirror_tw.caching import validators
from ghmirror_tw.caching.decision import ConditionalRequest, first_rung, shared_candidates
from ghmirror_tw.caching.records import Known, Representation
from ghmirror_tw.github.sharing_breakers import Sharing
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.lookup_and_exchange import Lookup
from ghmirror_tw.proxy.stored_responses import StoredResponses
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.runtime.restore_barrier import RestoreBarrier


@define(eq=False)
class ValidatorChoice:
    """Chooses the validators of a request; *login* returns that of a credential, where known."""

    stored: StoredResponses
    threads: ContentThreads
    sharing: Sharing
    barrier: RestoreBarrier
    login: Callable[[str], str | None]

    async def choose(self, lookup: Lookup, known: Known) -> ConditionalRequest:
        """Return the first conditional request that is sent for a look-up."""
        now, request, grant = self.stored.now(), lookup.request, known.grant
        accepted = self.stored.credentials.is_accepted(lookup.requester.token)
        facts = lookup.facts(accepted=accepted)
        entries = shared_candidates(
            facts, known, self.sharing, lambda: self.login(lookup.requester.credential), now
        )
        digests = (() if grant is None else (grant.digest,)) + tuple([e.digest for e in entries])
        stored = await self._fetch(lookup, known, digests) if digests else {}
        tags: dict[str, bytes] = {}
        for entry in entries:
            candidate = stored.get(entry.digest)
            if candidate is not None:
                tag = await self.threads.run(candidate.size, _computed, request, candidate)
                tags[entry.digest] = tag
        return first_rung(request, facts, known, stored, tags, self.sharing, now)

    def _fetch(
        self, lookup: Lookup, known: Known, digests: tuple[str, ...]
    ) -> Deferred[dict[str, Representation]]:
        """Return those of the representations that are in the store.

        While the store is being restored, a record may be there before its content.
        """
        grant = known.grant
        fetch = partial(self.stored.fetch, known, lookup.key, digests, lookup.store_deadline)

        def is_found(stored: dict[str, Representation]) -> bool:
            return lookup.internal or (bool(stored) if grant is None else grant.digest in stored)

        if self.barrier.is_shut:
            return Deferred.fromCoroutine(self.barrier.until_found(fetch, is_found))
        return fetch()


def _computed(request: Request, candidate: Representation) -> bytes:
    return validators.computed_tag(request, candidate, candidate.content())
