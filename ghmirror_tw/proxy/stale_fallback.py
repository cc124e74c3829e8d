"""Stale responses in place of GitHub's (RFC 9111, section 4.2.4; RFC 5861).

An exchange that takes longer than `stale_after` continues without its client, so that its response
is stored: its flight is detached. A later request for the same waits for its end before it is sent
itself, since the response of the earlier one would be too old for it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from attrs import define, evolve
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.caching.decision import ServeStale, Validate
from ghmirror_tw.caching.records import Known
from ghmirror_tw.proxy.mirror_options import MirrorOptions
from ghmirror_tw.proxy.mirror_response import NoUpstreamResponseError, Response
from ghmirror_tw.proxy.request_context import Lookup
from ghmirror_tw.proxy.revalidation import Revalidation
from ghmirror_tw.proxy.stored_responses import StoredResponses
from ghmirror_tw.proxy.unstored_responses import usual_limit_response
from ghmirror_tw.proxy.upstream_failures import error_response
from ghmirror_tw.runtime.read_before_timeout import ReadBeforeTimeout
from ghmirror_tw.runtime.single_flight import SingleFlight
from ghmirror_tw.upstream.rate_limit_table import RateLimitedError
from ghmirror_tw.upstream.upstream_interface import UpstreamError


def _detached(lookup: Lookup) -> Hashable:
    """Return the name of the detached flight for a request."""
    return "detached", lookup.identity, lookup.head


@define(eq=False)
class StaleFallback:
    """Validates stored responses; sends them stale when that fails or lasts too long."""

    stored: StoredResponses
    revalidation: Revalidation
    flights: SingleFlight[Response]
    options: MirrorOptions
    call_later: Callable[[float, Callable[[], object]], IDelayedCall]

    async def validate(self, lookup: Lookup, known: Known, step: Validate) -> Response:
        """Return GitHub's response, or a stale one as *step* permits.

        Raises `NoUpstreamResponseError` where there is neither.
        """
        if step.probes_backoff:
            self.stored.sender.backoffs.begin_probe(lookup.key.name, self.stored.now())
        if not step.stale_if_error:
            return await self._validated(lookup, known)
        try:
            if step.stale_while_waiting:
                return await self._validated_in_time(lookup, known)
            return await self._validated(lookup, known)
        except NoUpstreamResponseError as error:
            # Even without a grant in *known*: a lagging reader may not have had it.
            stale = await self.stored.stale(lookup, error.reason, error.status)
            if stale is None:
                raise
            failed = error.fallback
            if not isinstance(failed, Response):
                return stale
            return evolve(
                stale,
                upstream_seconds=failed.upstream_seconds,
                request_id=failed.fields.get(b"x-github-request-id"),
            )

    async def at_once(self, lookup: Lookup, known: Known, step: ServeStale) -> Response | None:
        """Return a stale response without waiting for GitHub; None: there is none.

        While GitHub is offline, some requests are probes: they are validated in the background.
        """
        stale = await self.stored.stale(lookup, step.reason, sent=False)
        if stale is not None and step.may_probe:
            github_breaker = self.stored.sender.github_breaker
            if github_breaker.acquire_probe(self.stored.now()):
                self.flights.detach(_detached(lookup), lambda: self._validated(lookup, known))
        return stale

    async def _validated(self, lookup: Lookup, known: Known) -> Response:
        """Return GitHub's response, or raise `NoUpstreamResponseError`."""
        try:
            return await self.revalidation.run(lookup, known)
        except UpstreamError as error:
            instead = error_response(error, self.options.timeout)
            raise NoUpstreamResponseError(error.reason, error.status, instead) from error
        except RateLimitedError as error:
            limit = error.active.limit
            reason, again = limit.kind.reason, usual_limit_response(limit, self.stored.now())
            raise NoUpstreamResponseError(reason, None, again) from error

    async def _validated_in_time(self, lookup: Lookup, known: Known) -> Response:
        """Return GitHub's response, or a stale one after `stale_after`."""

        def call_late(call: Callable[[], object]) -> ReadBeforeTimeout:
            delay_s = max(lookup.stale_at - self.stored.now(), 0.0)
            return ReadBeforeTimeout(self.call_later, delay_s, call)

        name = _detached(lookup)
        if self.flights.under_way(name) and not await self.flights.has_ended(name, call_late):
            stale = await self.stored.stale(lookup, "timeout")
            if stale is not None:
                return stale
        with self.flights.wait(lambda: self._validated(lookup, known)) as flight:
            if await flight.within(call_late):
                return flight.taken()
            stale = await self.stored.stale(lookup, "timeout")
            if stale is None or flight.has_ended:
                return await flight.result()
            flight.detach(name)
            return stale
