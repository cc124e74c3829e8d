"""Stale responses in place of GitHub's: on failure, after a timeout, and at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final, cast

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.caching.decision import ServeStale, Validate
from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Known
from ghmirror_tw.http.error_responses import overloaded
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.outcomes import Outcome
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.collapsed_requests import new_flights
from ghmirror_tw.proxy.mirror_response import NoUpstreamResponseError, Response
from ghmirror_tw.proxy.request_context import Lookup
from ghmirror_tw.proxy.stale_fallback import StaleFallback
from ghmirror_tw.store.store_interface import Deadline
from ghmirror_tw.upstream.request_to_send import Requester

STALE_AFTER_S: Final = 5.0
CURRENT: Final = Response(200, Fields(), Outcome.REVALIDATED, None)
STALE: Final = Response(200, Fields(), Outcome.STALE, None)
ONLY: Final = Validate()
ON_ERROR: Final = Validate(stale_if_error=True)
IN_TIME: Final = Validate(stale_if_error=True, stale_while_waiting=True)
FAILED: Final = NoUpstreamResponseError("timeout", None, overloaded("of time", 1))


@define(eq=False)
class FakeStored:
    """Has one stale response, or none; notes the reasons for which it was looked up."""

    clock: Clock
    sender: Any
    response: Response | None = STALE
    reasons: list[str] = field(factory=list)
    #: What a look-up waits for, if set.
    looking: Deferred[None] | None = None

    def now(self) -> float:
        """Return the time."""
        return self.clock.seconds()

    async def stale(
        self, _lookup: Lookup, reason: str, status: int | None = None, *, sent: bool = True
    ) -> Response | None:
        """Return the stale response."""
        self.reasons.append(reason if sent else f"{reason}, not sent")
        assert status is None
        if self.looking is not None:
            await self.looking
        return self.response


@define(eq=False)
class FakeRevalidation:
    """Holds each request until the test responds."""

    responses: list[Deferred[Response]] = field(factory=list)

    async def run(self, _lookup: Lookup, _known: Known) -> Response:
        """Wait for the response."""
        self.responses.append(Deferred())
        return await self.responses[-1]


class Fallback(SynchronousTestCase):
    """One request at a time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.probes: list[bool] = []
        breaker = SimpleNamespace(acquire_probe=lambda _now: self.probes.pop())
        self.stored = FakeStored(self.clock, SimpleNamespace(github_breaker=breaker))
        self.revalidation = FakeRevalidation()
        self.flights = new_flights()
        self.fallback = StaleFallback(
            cast("Any", self.stored),
            cast("Any", self.revalidation),
            self.flights,
            self.clock.callLater,
        )

    def lookup(self) -> Lookup:
        request = Request(b"GET", b"/thing", Fields())
        return Lookup(
            request,
            CacheKey.of(request.target, request.fields, b""),
            Requester("alice", "alice"),
            generation=1,
            deadline=30.0,
            requires_validation=False,
            store_deadline=Deadline(),
            stale_at=self.clock.seconds() + STALE_AFTER_S,
        )

    def validate(self, step: Validate) -> Deferred[Response]:
        """Validate in a flight of its own."""
        lookup = self.lookup()
        joined = self.flights.join(
            object(), lambda: self.fallback.validate(lookup, Known(), step), lookup.flight
        )
        return joined.addCallback(lambda result: result[0])

    def at_once(self, step: ServeStale) -> Response | None:
        return self.successResultOf(
            Deferred.fromCoroutine(self.fallback.at_once(self.lookup(), Known(), step))
        )

    def test_response_in_time(self) -> None:
        """No stale response is looked up."""
        for step in (ONLY, ON_ERROR, IN_TIME):
            response = self.validate(step)
            self.revalidation.responses[-1].callback(CURRENT)
            assert self.successResultOf(response) is CURRENT
        assert not self.stored.reasons
        assert not self.clock.getDelayedCalls()

    def test_failure(self) -> None:
        """A stale response replaces it, where the step permits that and there is one."""
        for step, stored, result in (
            (ONLY, STALE, None),
            (ON_ERROR, STALE, STALE),
            (IN_TIME, STALE, STALE),
            (IN_TIME, None, None),
        ):
            self.stored.response = stored
            response = self.validate(step)
            self.revalidation.responses[-1].errback(FAILED)
            if result is None:
                error = self.failureResultOf(response, NoUpstreamResponseError).value
                assert error.reason == "timeout"
            else:
                assert self.successResultOf(response) is result

    def test_stale_response_after_a_while(self) -> None:
        """The exchange continues; a later request waits for its end, for as long as it may."""
        response = self.validate(IN_TIME)
        self.clock.advance(STALE_AFTER_S)
        assert self.successResultOf(response) is STALE
        assert (self.flights.detached, self.stored.reasons) == (1, ["timeout"])
        later = self.validate(IN_TIME)
        self.clock.advance(STALE_AFTER_S)
        assert self.successResultOf(later) is STALE
        assert len(self.revalidation.responses) == 1
        next_one = self.validate(IN_TIME)
        self.revalidation.responses[0].callback(CURRENT)
        assert len(self.revalidation.responses) == 2
        self.revalidation.responses[1].callback(CURRENT)
        assert self.successResultOf(next_one) is CURRENT
        assert not len(self.flights)

    def test_without_a_stale_response_it_waits(self) -> None:
        """An error would not be faster."""
        self.stored.response = None
        response = self.validate(IN_TIME)
        self.clock.advance(STALE_AFTER_S)
        self.assertNoResult(response)
        self.revalidation.responses[0].callback(CURRENT)
        assert self.successResultOf(response) is CURRENT

    def test_github_responds_before_the_stale_response_is_found(self) -> None:
        """The client receives GitHub's response."""
        looking = self.stored.looking = Deferred()
        response = self.validate(IN_TIME)
        self.clock.advance(STALE_AFTER_S)
        self.assertNoResult(response)
        self.revalidation.responses[0].callback(CURRENT)
        assert self.successResultOf(response) is CURRENT
        assert looking.called
        assert not len(self.flights)

    def test_without_room_for_a_stale_response_it_waits(self) -> None:
        """As for any other reason why there is none; a fault of the mirror is logged."""
        for error, logged in ((overloaded("of memory", 1), 0), (ValueError(), 1)):
            looking = self.stored.looking = Deferred()
            response = self.validate(IN_TIME)
            self.clock.advance(STALE_AFTER_S)
            looking.errback(error)
            self.assertNoResult(response)
            self.revalidation.responses[-1].callback(CURRENT)
            assert self.successResultOf(response) is CURRENT
            assert len(self.flushLoggedErrors(ValueError)) == logged

    def test_failure_after_the_stale_response(self) -> None:
        """No client waits for another stale response."""
        response = self.validate(IN_TIME)
        self.clock.advance(STALE_AFTER_S)
        assert self.successResultOf(response) is STALE
        self.revalidation.responses[0].errback(FAILED)
        assert self.stored.reasons == ["timeout"]
        assert not len(self.flights)

    def test_a_client_that_leaves_ends_the_exchange(self) -> None:
        """While it still waits for it."""
        response = self.validate(IN_TIME)
        response.cancel()
        self.failureResultOf(response, CancelledError)
        assert not len(self.flights)
        assert not self.clock.getDelayedCalls()

    def test_at_once(self) -> None:
        """Nothing is sent."""
        assert self.at_once(ServeStale("primary-limit")) is STALE
        assert self.stored.reasons == ["primary-limit, not sent"]
        assert not self.revalidation.responses

    def test_probe_while_offline(self) -> None:
        """It is validated in the background, one at a time, where there is a stale response."""
        offline = ServeStale("offline", may_probe=True)
        self.probes = [False, True]
        assert self.at_once(offline) is STALE
        assert len(self.revalidation.responses) == self.flights.detached == 1
        assert self.at_once(offline) is STALE
        assert len(self.revalidation.responses) == 1
        self.stored.response = None
        assert self.at_once(offline) is None
        self.revalidation.responses[0].errback(FAILED)
        assert not len(self.flights)
