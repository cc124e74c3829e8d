"""Collapsed requests (RFC 9111, section 4): concurrent requests share one flight and its response.

A flight that began after a request was received may be joined. An earlier one may be joined under
two conditions. It knows of all writes of the credential: a look-up in the store shows that, and
begins a new generation, with flights of its own, if another replica has forwarded a write. And its
request was sent `JOIN_WINDOW_S` ago at most. All requests that wait for a flight to end share the
next one.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Final

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ghmirror_tw.caching.vary import fields_beyond_key
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.preconditions import is_not_modified
from ghmirror_tw.proxy.mirror_response import NoUpstreamResponseError, Response
from ghmirror_tw.proxy.request_context import Lookup
from ghmirror_tw.proxy.stored_responses import StoredResponses
from ghmirror_tw.runtime.single_flight import SingleFlight
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.upstream.limits_in_force import RateLimitedError
from ghmirror_tw.upstream.upstream_interface import UpstreamError

#: How long after its request was sent a flight may be joined, in seconds.
JOIN_WINDOW_S: Final = 0.1
_NOT_MODIFIED: Final = 304
#: Failures of a flight that are no faults of the mirror.
_EXPECTED: Final = (
    CancelledError,
    MirrorError,
    NoUpstreamResponseError,
    RateLimitedError,
    UpstreamError,
)

_log: Final = Logger(namespace="ghmirror.mirror")

#: Processes a request.
Process = Callable[[Lookup], Coroutine[Deferred[Any], Any, Response]]


def _drop_unwanted(result: Response | Failure) -> None:
    """Drop a response that no request waits for; a fault of the mirror is logged."""
    if isinstance(result, Failure):
        if not result.check(*_EXPECTED):
            _log.failure("Background revalidation failed", failure=result)
    elif result.incoming is not None:
        result.incoming.abort()


def new_flights() -> SingleFlight[Response]:
    """Return an empty register of flights."""
    return SingleFlight(_drop_unwanted)


@define(eq=False)
class CollapsedRequests:
    """Lets requests with the same identity share a flight."""

    stored: StoredResponses
    metrics: Metrics
    flights: SingleFlight[Response] = field(factory=new_flights)

    async def run(self, lookup: Lookup, process: Process) -> Response:
        """Return the response to a request: of a flight that it joins or starts, or of its own.

        Where a response cannot be shared, each request is sent by itself.
        """
        for last in (False, True):
            current, name = lookup, self._flight_of(lookup)
            if not self.flights.under_way(name):
                break
            current = await self._until_joinable(lookup)
            name = self._flight_of(current)
            if not self.flights.under_way(name):
                break
            shared = await self._shared(current, name, process, last=last)
            if shared is not None:
                return shared
        else:
            current, name = lookup, object()
        current.flight.began_at = self.stored.epochs.tick()
        response, _ = await self.flights.join(name, partial(process, current), current.flight)
        return response

    async def _shared(
        self, lookup: Lookup, name: Hashable, process: Process, *, last: bool
    ) -> Response | None:
        """Return the response of a flight under way; None where the request has to be sent again.

        After the flight broke off, it is sent again, unless this is the *last* attempt.
        """
        self.metrics.collapsed()
        try:
            response, first = await self.flights.join(name, partial(process, lookup), lookup.flight)
        except NoUpstreamResponseError as error:
            if not last and error.reason == "broken-answer":
                return None
            if isinstance(error.fallback, Response):
                shared = evolve(error.fallback, collapsed=True)
                raise NoUpstreamResponseError(error.reason, error.status, shared) from error
            raise
        if not first and response.incoming is not None:
            return None
        return None if _must_not_share(lookup, response) else evolve(response, collapsed=True)

    def _flight_of(self, lookup: Lookup) -> Hashable:
        """Return the name of the flight of a request; HEAD joins that of a GET."""
        identity = lookup.identity
        return identity, lookup.head and not self.flights.under_way((identity, False))

    async def _until_joinable(self, lookup: Lookup) -> Lookup:
        """Wait while there is a flight that must not be joined; return the updated request."""
        looked_up = is_current = False
        while (flight := self.flights.flight(self._flight_of(lookup))) is not None:
            if flight.began_at > lookup.received_at:
                break
            if not looked_up:
                known = await self.stored.look_up(lookup, current=True)
                looked_up, is_current = True, known.current
                lookup = self.stored.epochs.in_current_generation(lookup)
                continue
            sent_at = flight.sent_at
            if is_current and (sent_at is None or lookup.received_at - sent_at <= JOIN_WINDOW_S):
                break
            await self.flights.ended(self._flight_of(lookup))
        return lookup


def _must_not_share(lookup: Lookup, response: Response) -> bool:
    """Return whether the response to another request must not be used for this one.

    It varies by a field in which the two may differ. Or it is a 304 for an entity-tag that the
    client has not sent.
    """
    if fields_beyond_key(response.fields):
        return True
    if response.body is not None or response.status != _NOT_MODIFIED:
        return False
    return not is_not_modified(lookup.request.fields, response.fields.get(b"etag"), None)
