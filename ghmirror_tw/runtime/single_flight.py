"""Many waiters, one question: requests that ask the same at the same time are asked once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

R = TypeVar("R")


@define(eq=False)
class Departure:
    """When a flight began, and when its request was sent (None: not yet). Times in seconds."""

    began_at: float = 0.0
    sent_at: float | None = None

    def note(self, now: float) -> None:
        """Note that a request is sent now; only the first time counts."""
        if self.sent_at is None:
            self.sent_at = now


@define(eq=False)
class _Flight(Generic[R]):
    """A request under way, with the callers that wait for its response, in order.

    *watchers* wait for its end, and do not receive the response.
    """

    departure: Departure = field(factory=Departure)
    waiters: list[Deferred[tuple[R, bool]]] = field(factory=list)
    watchers: list[Deferred[bool]] = field(factory=list)
    question: Deferred[R] | None = None
    kept: bool = False

    def end(self, result: R | Failure) -> None:
        """Give everybody the same; only the first one is told to be the first."""
        waiters, self.waiters = self.waiters, []
        for position, waiter in enumerate(waiters):
            if waiter.called:
                continue
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback((result, position == 0))
        watchers, self.watchers = self.watchers, []
        for watcher in watchers:
            if not watcher.called:
                watcher.callback(True)


@define(eq=False)
class SingleFlight(Generic[R]):
    """Collapsed requests (RFC 9111, section 4): questions by what makes them the same.

    A waiter that goes away (its Deferred is cancelled) takes nothing from the others; when the
    last one has gone, the question is cancelled too, unless it is kept (see `keep`).

    *unwanted* gets what came, answer or failure, when nobody waited.
    """

    unwanted: Callable[[R | Failure], object]
    _flights: dict[Hashable, _Flight[R]] = field(init=False, factory=dict)

    def under_way(self, same: Hashable) -> bool:
        """Tell whether *same* is being asked now."""
        return bool(self._flights) and same in self._flights

    def departure(self, same: Hashable) -> Departure | None:
        """Return when the flight of *same* began and was sent, or None where there is none."""
        flight = self._flights.get(same) if self._flights else None
        return None if flight is None else flight.departure

    def landed(self, same: Hashable) -> Deferred[bool]:
        """Fire with True when the flight of *same* has ended, whether it succeeded or failed."""
        flight = self._flights.get(same)
        if flight is None:
            return succeed(True)
        watchers = flight.watchers

        def leave(watcher: Deferred[bool]) -> None:
            if watcher in watchers:
                watchers.remove(watcher)

        watcher: Deferred[bool] = Deferred(leave)
        watchers.append(watcher)
        return watcher

    def join(
        self,
        same: Hashable,
        ask: Callable[[], Coroutine[Deferred[Any], Any, R]],
        departure: Departure | None = None,
    ) -> Deferred[tuple[R, bool]]:
        """Return the answer to *same*, and whether the caller is the first of those who get it.

        *ask* is called only if *same* isn't being asked already. Its failure is everybody's.
        *departure* is then where the caller notes when the request is sent.
        """
        flight = self._flights.get(same)
        starts = flight is None
        if flight is None:
            flight = self._flights[same] = _Flight(departure or Departure())
        joined = flight

        def leave(waiter: Deferred[tuple[R, bool]]) -> None:
            if waiter in joined.waiters:
                joined.waiters.remove(waiter)
            if joined.waiters or joined.kept:
                return
            if self._flights.get(same) is joined:
                del self._flights[same]
                if joined.question is not None:
                    joined.question.cancel()

        waiter: Deferred[tuple[R, bool]] = Deferred(leave)
        joined.waiters.append(waiter)
        if starts:
            joined.question = Deferred.fromCoroutine(ask())
            joined.question.addBoth(lambda result: self._land(same, joined, result))
        return waiter

    def adopt(self, same: Hashable, question: Deferred[R]) -> None:
        """Add a request that is under way already as a flight of its own, which is kept."""
        flight: _Flight[R] = _Flight(question=question, kept=True)
        same = object() if same in self._flights else same
        self._flights[same] = flight
        question.addBoth(lambda result: self._land(same, flight, result))

    def keep(self, same: Hashable) -> None:
        """Keep the flight of *same* going, even if all waiting callers leave."""
        flight = self._flights.get(same)
        if flight is not None:
            flight.kept = True

    def close(self) -> None:
        """Give up all questions."""
        for flight in list(self._flights.values()):
            if flight.question is not None:
                flight.question.cancel()

    def _land(self, same: Hashable, flight: _Flight[R], result: R | Failure) -> None:
        if self._flights.get(same) is flight:
            del self._flights[same]
        if not flight.waiters:
            self.unwanted(result)
        flight.end(result)
