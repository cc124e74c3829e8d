"""Storable requests: joined, looked up, decided (`caching.decision`), and validated with GitHub.

There are two of these: one for clients' requests, and one for the mirror's own, which are proofs of
`Link` and requests for logins. The first uses the second for its proofs.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from math import inf
from typing import Any, Final

from attrs import define, evolve
from twisted.internet.defer import Deferred

from ghmirror_tw.caching import decision
from ghmirror_tw.caching.decision import (
    AcquireLock,
    CheckCredential,
    ReadPrimary,
    Reject,
    RepeatNegative,
    ServeFresh,
    ServeStale,
    Step,
    Validate,
)
from ghmirror_tw.caching.freshness import requires_validation
from ghmirror_tw.caching.records import Known, Representation
from ghmirror_tw.http import error_responses
from ghmirror_tw.http.outcomes import Outcome
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.collapsed_requests import CollapsedRequests
from ghmirror_tw.proxy.credential_check import CredentialChecks
from ghmirror_tw.proxy.first_request_lock import FirstRequestLock
from ghmirror_tw.proxy.mirror_options import MirrorOptions
from ghmirror_tw.proxy.mirror_response import Response
from ghmirror_tw.proxy.negative_storage import repeated_response
from ghmirror_tw.proxy.request_context import Lookup
from ghmirror_tw.proxy.stale_fallback import StaleFallback
from ghmirror_tw.proxy.stored_responses import StoredResponses
from ghmirror_tw.proxy.whole_content import whole_content
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.runtime.restore_barrier import RestoreBarrier
from ghmirror_tw.store.store_interface import Deadline
from ghmirror_tw.upstream.login_responses import parse_login
from ghmirror_tw.upstream.request_to_send import Requester

_USER: Final = b"/user"


@define(eq=False)
class StorableRequests:
    """Responds to storable requests; *internal*: the requests are the mirror's own.

    *owner* returns a new name for each lock of the fleet.
    """

    stored: StoredResponses
    barrier: RestoreBarrier
    checks: CredentialChecks
    collapsed: CollapsedRequests
    fallback: StaleFallback
    threads: ContentThreads
    options: MirrorOptions
    owner: Callable[[], str]
    internal: bool = False

    def respond(
        self,
        request: Request,
        requester: Requester,
        deadline: float,
        store_deadline: Deadline,
        *,
        stale_at: float = inf,
    ) -> Coroutine[Deferred[Any], Any, Response]:
        """Return the response to a request, shared with concurrent requests of its identity.

        Raises `NoUpstreamResponseError` where GitHub sends no usable response, and `MirrorError`.
        """
        epochs = self.stored.epochs
        lookup = Lookup(
            request=request,
            key=self.stored.credentials.key(request),
            requester=requester,
            generation=epochs.generation(requester),
            deadline=deadline,
            requires_validation=requires_validation(request.fields),
            store_deadline=store_deadline,
            internal=self.internal,
            # A proof needs the exact number of items, which a date does not cover.
            by_date=not self.internal and self.options.validate_by_date.match(request.path),
            stale_at=stale_at,
            received_at=epochs.tick(),
        )
        return self.collapsed.run(lookup, self._process)

    async def respond_with_page(self, request: Request, lookup: Lookup) -> Response:
        """Return the response to a request for another page of the list of *lookup*."""
        return await self.respond(request, lookup.requester, lookup.deadline, lookup.store_deadline)

    async def _process(self, lookup: Lookup) -> Response:
        """Return the response to a request that has joined no flight."""
        known = await self.stored.look_up(lookup)
        if self.barrier.is_shut:
            lookup, known = await self._until_restored(lookup, known)
        if known.limits:
            self.stored.sender.limits.merge(lookup.requester.token, known.limits, self.stored.now())
        step = self._next_step(lookup, known, set())
        if isinstance(step, Validate):
            response = await self._validated(lookup, known, step)
        else:
            with FirstRequestLock(
                self.stored, lookup, self.options.collapse_wait, self.owner
            ) as first:
                response = await self._take_steps(lookup, known, step, first)
        if lookup.key.target == _USER:
            await self._learn_login(lookup, response)
        return response

    def _validated(
        self, lookup: Lookup, known: Known, step: Validate
    ) -> Coroutine[Deferred[Any], Any, Response]:
        lookup = self.stored.epochs.in_current_generation(lookup)
        return self.fallback.validate(lookup, known, step)

    async def _take_steps(
        self, lookup: Lookup, known: Known, step: Step, first: FirstRequestLock
    ) -> Response:
        """Take one step after the other, as `decision.next_step` returns them."""
        tried: set[type[Step]] = set()
        while True:
            tried.add(type(step))
            response: Response | None = None
            match step:
                case ServeFresh() | RepeatNegative():
                    response = await self._hit(lookup, known, step)
                case ReadPrimary():
                    latest = await self.stored.look_up(lookup, current=True)
                    known = latest if latest.current else known
                case CheckCredential():
                    response = await self.checks.refusal(
                        lookup.request, lookup.requester, lookup.deadline
                    )
                case AcquireLock():
                    # Freshness was decided before.
                    tried.add(ServeFresh)
                    known = await first.acquire(known)
                case ServeStale():
                    lookup = self.stored.epochs.in_current_generation(lookup)
                    response = await self.fallback.at_once(lookup, known, step)
                case Reject():
                    raise error_responses.backed_off(step.retry_after_s)
                case Validate():
                    return await self._validated(lookup, known, step)
            if response is not None:
                return response
            step = self._next_step(lookup, known, tried)

    async def _hit(
        self, lookup: Lookup, known: Known, step: ServeFresh | RepeatNegative
    ) -> Response | None:
        """Return the response that is sent without a request to GitHub; None: it is gone."""
        if isinstance(step, ServeFresh):
            return await self.stored.fresh(lookup, known)
        return repeated_response(known, self.stored.now())

    def _next_step(self, lookup: Lookup, known: Known, tried: set[type[Step]]) -> Step:
        now = self.stored.now()
        return decision.next_step(
            lookup.facts(accepted=self.stored.credentials.is_accepted(lookup.requester.token)),
            known,
            self.stored.sender.upstream_state(lookup.requester.token, lookup.key, now),
            now,
            fresh_for_s=self.options.fresh_for,
            negative_for_s=self.options.negative_for,
            tried=tried,
        )

    async def _until_restored(self, lookup: Lookup, known: Known) -> tuple[Lookup, Known]:
        """Wait for the records of a store that is being restored; return them.

        The wait does not count against GitHub's time for the response.
        """
        if not _is_cold(known):
            return lookup, known
        lookup = evolve(lookup, deadline=lookup.deadline + self.barrier.longest_s)
        if not lookup.internal:
            look_up = partial(self.stored.look_up, lookup, current=True)
            known = await self.barrier.until_found(look_up, lambda known: not _is_cold(known))
        return lookup, known

    async def _learn_login(self, lookup: Lookup, response: Response) -> None:
        """Note the login of a credential, from GitHub's response to `GET /user`."""
        users, now = self.stored.epochs.users, self.stored.now()
        if lookup.head or not isinstance(response.body, Representation):
            return
        # A response from the store alone does not show the login of today.
        if response.outcome in {Outcome.STALE, Outcome.FRESH}:
            return
        if response.outcome is Outcome.REVALIDATED and users.login(
            lookup.requester.credential, now
        ):
            return
        content = await whole_content(response, self.threads, self.options.max_stored_size)
        login = parse_login(content)
        if login is not None:
            for name in {lookup.requester.credential, lookup.requester.token}:
                users.note_login(name, login, self.stored.now())


def _is_cold(known: Known) -> bool:
    """Return whether nothing is known of a key."""
    return known.grant is None and not known.entries and not known.unstorable
