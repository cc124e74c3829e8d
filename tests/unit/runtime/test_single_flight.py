"""Single flight: concurrent callers share one call, which may continue without them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.proxy.first_request_lock import unique_names
from ghmirror_tw.runtime.single_flight import Flight, SingleFlight, Wait

NAME = "name"


class Flights(SynchronousTestCase):
    """Flights with callers that join them."""

    def setUp(self) -> None:
        self.unwanted: list[str | Failure] = []
        self.flights: SingleFlight[str] = SingleFlight(self.unwanted.append)
        self.calls: list[Deferred[str]] = []

    async def call(self) -> str:
        """Return the result of the test."""
        self.calls.append(Deferred())
        return await self.calls[-1]

    def join(self) -> Deferred[tuple[str, bool]]:
        return self.flights.join(NAME, self.call)

    def cancel(self, *callers: Deferred[tuple[str, bool]]) -> None:
        for caller in callers:
            caller.cancel()
            self.failureResultOf(caller, CancelledError)

    def test_concurrent_callers_share_one_call(self) -> None:
        """All receive its result; the next caller starts another call."""
        callers = [self.join(), self.join()]
        assert self.flights.under_way(NAME)
        self.calls[0].callback("result")
        assert [self.successResultOf(each) for each in callers] == [
            ("result", True),
            ("result", False),
        ]
        assert not self.flights.under_way(NAME)
        self.join()
        assert len(self.calls) == 2

    def test_a_failure_reaches_all_callers(self) -> None:
        """Each receives it."""
        callers = [self.join(), self.join()]
        self.calls[0].errback(ValueError())
        for each in callers:
            self.failureResultOf(each, ValueError)

    def test_the_call_is_cancelled_with_its_last_caller(self) -> None:
        """Not with the first one."""
        first, second = self.join(), self.join()
        self.cancel(first)
        assert self.flights.under_way(NAME)
        self.cancel(second)
        assert not self.flights.under_way(NAME)

    def test_a_detached_flight_continues_without_callers(self) -> None:
        """A later caller may join it; without callers its result is unwanted."""
        caller = self.join()
        self.flights.detach(NAME)
        self.cancel(caller)
        assert self.flights.detached == len(self.flights) == 1
        later = self.join()
        self.calls[0].callback("late")
        assert self.successResultOf(later) == ("late", True)
        assert not self.unwanted
        caller = self.join()
        self.flights.detach(NAME)
        self.cancel(caller)
        self.calls[1].callback("too late")
        assert self.unwanted == ["too late"]
        self.flights.detach(NAME)
        assert not len(self.flights)

    def test_a_flight_may_be_detached_from_the_start(self) -> None:
        """Where there is one of its name, that one continues."""
        self.flights.detach(NAME, self.call)
        self.flights.detach(NAME, self.call)
        (call,) = self.calls
        call.callback("result")
        assert self.unwanted == ["result"]

    def test_a_cancelled_flight_is_not_joined(self) -> None:
        """Its call may still have something to do before it ends."""
        cleanup: Deferred[None] = Deferred()

        async def call() -> str:
            try:
                return await Deferred()
            finally:
                await cleanup

        self.cancel(self.flights.join(NAME, call))
        caller = self.join()
        cleanup.callback(None)
        self.calls[0].callback("result")
        assert self.successResultOf(caller) == ("result", True)

    def test_a_failure_without_callers_is_unwanted(self) -> None:
        """As a value is."""
        caller = self.join()
        self.flights.detach(NAME)
        self.cancel(caller)
        self.calls[0].errback(ValueError())
        (failure,) = self.unwanted
        assert isinstance(failure, Failure)
        assert failure.check(ValueError)

    def test_a_caller_may_cancel_the_next_one(self) -> None:
        """While the result is passed to them."""
        for fails in (False, True):
            first, second = self.join(), self.join()
            first.addBoth(self.cancels(second))
            if fails:
                self.calls[-1].errback(ValueError())
            else:
                self.calls[-1].callback("result")
            self.failureResultOf(second, CancelledError)

    @staticmethod
    def cancels(other: Deferred[tuple[str, bool]]) -> Any:
        return lambda _: other.cancel()

    def test_watchers_learn_of_the_end(self) -> None:
        """In success, failure and cancellation; a watcher that leaves has no effect."""
        assert self.successResultOf(self.flights.ended(NAME))
        for how in ("callback", "errback", "cancel"):
            caller = self.join()
            watcher, gone = self.flights.ended(NAME), self.flights.ended(NAME)
            gone.cancel()
            self.failureResultOf(gone, CancelledError)
            self.assertNoResult(watcher)
            if how == "cancel":
                caller.cancel()
            else:
                getattr(self.calls[-1], how)(ValueError() if how == "errback" else "result")
            caller.addErrback(lambda _: None)
            assert self.successResultOf(watcher)

    def test_a_watcher_may_start_the_next_flight(self) -> None:
        """It finds none under way, and the watcher after it finds that one."""
        self.join()
        found: list[Flight[str] | None] = []
        for _ in range(2):
            watcher = self.flights.ended(NAME)
            watcher.addCallback(lambda _: self.start_next(found))
        self.calls[0].callback("result")
        assert found[0] is None
        assert found[1] is not None
        assert len(self.calls) == 2

    def start_next(self, found: list[Flight[str] | None]) -> None:
        found.append(self.flights.flight(NAME))
        self.join()

    def test_sending_is_noted_once(self) -> None:
        """The time of the first request counts."""
        flight: Flight[str] = Flight(1.0)
        assert self.flights.flight("other") is None
        self.flights.join("other", self.call, flight).addErrback(lambda _: None)
        assert self.flights.flight("other") is flight
        flight.note_sent(2.0)
        flight.note_sent(3.0)
        assert (flight.began_at, flight.sent_at) == (1.0, 2.0)
        self.flights.close()

    def test_callers_may_receive_a_response_before_the_end(self) -> None:
        """Their flight continues without them, and is not joined; its own result is unwanted."""
        flight: Flight[str] = Flight()
        callers = [self.flights.join(NAME, self.call, flight), self.join()]
        watcher = self.flights.ended(NAME)
        self.flights.respond(flight, "early", "other")
        assert [self.successResultOf(each) for each in callers] == [
            ("early", True),
            ("early", False),
        ]
        assert self.successResultOf(watcher)
        assert self.flights.flight("other") is flight
        assert not self.flights.under_way(NAME)
        self.calls[0].callback("late")
        assert self.unwanted == ["late"]
        assert not len(self.flights)

    def test_a_name_in_use_belongs_to_its_flight(self) -> None:
        """Both flights continue."""
        self.flights.detach("other", self.call)
        before, flight = self.flights.flight("other"), Flight[str]()
        caller = self.flights.join(NAME, self.call, flight)
        self.flights.respond(flight, "early", "other")
        self.successResultOf(caller)
        assert self.flights.flight("other") is before
        assert self.flights.detached == 2
        for call in self.calls:
            call.callback("late")
        assert not len(self.flights)

    def test_a_response_after_the_last_caller_has_left(self) -> None:
        """The flight was cancelled with it, and does not continue."""
        flight: Flight[str] = Flight()
        self.cancel(self.flights.join(NAME, self.call, flight))
        self.flights.respond(flight, "early", "other")
        assert not len(self.flights)

    def test_only_detached_flights_are_cancelled(self) -> None:
        """At shutdown the others end with their callers; `close` cancels all."""
        caller = self.join()
        self.flights.detach("other", self.call)
        self.flights.cancel_detached()
        assert not self.flights.under_way("other")
        self.assertNoResult(caller)
        self.flights.close()
        self.failureResultOf(caller, CancelledError)
        assert not len(self.flights)


class Waiting(SynchronousTestCase):
    """Waiting for some time, and then again."""

    def setUp(self) -> None:
        self.unwanted: list[str] = []
        self.waited: Deferred[str] = Deferred()
        self.clock = Clock()
        self.seen: list[object] = []

    def call_late(self, late: Any) -> Any:
        return self.clock.callLater(1.0, late)

    async def wait(self, *, takes: bool) -> None:
        """Wait for a second, and then for the result, or leave."""
        with Wait(self.waited, self.unwanted.append) as waiting:
            self.seen.append(await waiting.within(self.call_late))
            if takes:
                self.seen.append(await waiting.result())

    def start(self, *, takes: bool = True) -> Deferred[None]:
        return Deferred.fromCoroutine(self.wait(takes=takes))

    def test_result_in_time(self) -> None:
        """The timer is cancelled."""
        waiting = self.start()
        self.waited.callback("result")
        self.successResultOf(waiting)
        assert self.seen == [True, "result"]
        assert not self.clock.getDelayedCalls()
        assert not self.unwanted

    def test_result_after_the_timeout(self) -> None:
        """The timeout does not cancel the Deferred."""
        waiting = self.start()
        self.clock.advance(1.0)
        assert self.seen == [False]
        self.waited.callback("result")
        self.successResultOf(waiting)
        assert self.seen == [False, "result"]

    def test_failure(self) -> None:
        """The caller of `result` raises it; it is no result that could be unwanted."""
        waiting = self.start()
        self.waited.errback(ValueError())
        self.failureResultOf(waiting, ValueError)
        self.waited = Deferred()
        waiting = self.start(takes=False)
        self.waited.errback(ValueError())
        self.successResultOf(waiting)
        assert not self.unwanted

    def test_leaving_cancels_the_deferred(self) -> None:
        """At the end of the block, and when the caller is cancelled."""
        waiting = self.start(takes=False)
        self.clock.advance(1.0)
        self.successResultOf(waiting)
        assert self.waited.called
        self.waited = Deferred()
        waiting = self.start(takes=False)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        assert self.waited.called
        assert not self.clock.getDelayedCalls()

    def test_a_result_without_a_caller_is_unwanted(self) -> None:
        """It is simultaneous with the end of the wait."""
        waiting = self.start(takes=False)
        self.waited.callback("result")
        self.successResultOf(waiting)
        assert (self.seen, self.unwanted) == ([True], ["result"])

    def test_any_deferred_can_be_waited_for(self) -> None:
        """One that has fired before needs no timer."""
        fired: Deferred[str] = Deferred()
        fired.callback("result")

        async def wait() -> str:
            with Wait(fired) as waiting:
                assert await waiting.within(self.call_late)
                return await waiting.result()

        assert self.successResultOf(Deferred.fromCoroutine(wait())) == "result"
        assert not self.clock.getDelayedCalls()


def test_unique_names_differ() -> None:
    """Each call has another one, also of another function."""
    one, other = unique_names(), unique_names()
    assert len({one(), one(), other(), other()}) == 4
