"""Stale responses in place of GitHub's (RFC 9111, section 4.2.4; RFC 5861).

When an exchange takes longer than `stale_after`, the clients of its flight receive a stale
response. The flight continues without them, so that its response is stored. A later request for the
same waits for its end before it is sent itself, since the earlier response would be too old for it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

from attrs import define, evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ghmirror_tw.caching.decision import ServeStale, Validate
from ghmirror_tw.caching.records import Known
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.proxy.mirror_response import NoUpstreamResponseError, Response
from ghmirror_tw.proxy.request_context import Lookup
from ghmirror_tw.proxy.revalidation import Revalidation
from ghmirror_tw.proxy.stored_responses import StoredResponses
from ghmirror_tw.runtime.read_before_timeout import ReadBeforeTimeout
from ghmirror_tw.runtime.single_flight import SingleFlight

_log: Final = Logger(namespace="ghmirror.mirror")


def _stop(timer: ReadBeforeTimeout, late: list[Deferred[None]]) -> None:
    """Stop the task in *late*, or the *timer* that has not begun it."""
    if late:
        late[0].cancel()
    else:
        timer.cancel()


def _with_metadata(stale: Response, failed: Response | MirrorError) -> Response:
    """Return a stale response, with the metadata of the failed one that it replaces."""
    if not isinstance(failed, Response):
        return stale
    return evolve(
        stale,
        upstream_seconds=failed.upstream_seconds,
        request_id=failed.fields.get(b"x-github-request-id"),
    )


def _detached(lookup: Lookup) -> Hashable:
    """Return the name of the detached flight for a request."""
    return "detached", lookup.identity, lookup.head


@define(eq=False)
class StaleFallback:
    """Validates stored responses; sends them stale when that fails or lasts too long."""

    stored: StoredResponses
    revalidation: Revalidation
    flights: SingleFlight[Response]
    call_later: Callable[[float, Callable[[], object]], IDelayedCall]

    async def validate(self, lookup: Lookup, known: Known, step: Validate) -> Response:
        """Return GitHub's response, or a stale one as *step* permits.

        Raises `NoUpstreamResponseError` where there is neither.
        """
        if step.probes_backoff:
            self.stored.sender.backoffs.begin_probe(lookup.key.name, self.stored.now())
        late: list[Deferred[None]] = []
        timer = self._stale_timer(lookup, late) if step.stale_while_waiting else None
        try:
            name = _detached(lookup)
            if timer is not None and self.flights.under_way(name):
                await self.flights.ended(name)
                if lookup.flight.detached:
                    raise CancelledError  # no caller is left
            return await self.revalidation.run(lookup, known)
        except NoUpstreamResponseError as error:
            if timer is not None:
                _stop(timer, late)
                timer = None
            if not step.stale_if_error or lookup.flight.detached:
                raise
            # Even without a grant in *known*: a lagging reader may not have had it.
            stale = await self.stored.stale(lookup, error.reason, error.status)
            if stale is None:
                raise
            return _with_metadata(stale, error.fallback)
        finally:
            if timer is not None:
                _stop(timer, late)

    async def at_once(self, lookup: Lookup, known: Known, step: ServeStale) -> Response | None:
        """Return a stale response without waiting for GitHub; None: there is none.

        While GitHub is offline, some requests are probes: they are validated in the background.
        """
        stale = await self.stored.stale(lookup, step.reason, sent=False)
        if stale is not None and step.may_probe:
            github_breaker = self.stored.sender.github_breaker
            if github_breaker.acquire_probe(self.stored.now()):
                self.flights.detach(_detached(lookup), lambda: self.revalidation.run(lookup, known))
        return stale

    def _stale_timer(self, lookup: Lookup, late: list[Deferred[None]]) -> ReadBeforeTimeout:
        """After `stale_after`, begin to send the callers a stale response, by a task in *late*."""
        return ReadBeforeTimeout(
            self.call_later,
            max(lookup.stale_at - self.stored.now(), 0.0),
            lambda: late.append(Deferred.fromCoroutine(self._respond_stale(lookup))),
        )

    async def _respond_stale(self, lookup: Lookup) -> None:
        """Send a stale response to the callers of the flight; without one, they wait for GitHub."""
        try:
            stale = await self.stored.stale(lookup, "timeout")
        except (CancelledError, MirrorError):
            return
        except Exception:  # noqa: BLE001 - the callers still receive GitHub's response
            _log.failure("Looking up a stale response failed")
            return
        if stale is not None:
            self.flights.respond(lookup.flight, stale, _detached(lookup))
