"""Many waiters, one question: requests that ask the same at the same time are asked once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

R = TypeVar("R")


@define(eq=False)
class _Flight(Generic[R]):
    """A question on its way, and who waits for its answer, in the order they came."""

    waiters: list[Deferred[tuple[R, bool]]] = field(factory=list)
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


@define(eq=False)
class Collapser(Generic[R]):
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

    def join(
        self, same: Hashable, ask: Callable[[], Coroutine[Deferred[Any], Any, R]]
    ) -> Deferred[tuple[R, bool]]:
        """Return the answer to *same*, and whether the caller is the first of those who get it.

        *ask* is called only if *same* isn't being asked already. Its failure is everybody's.
        """
        flight = self._flights.get(same)
        starts = flight is None
        if flight is None:
            flight = self._flights[same] = _Flight()
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
        """Let a *question* go on that is asked already; who comes meanwhile waits for it.

        Of two that ask the same, nobody else waits for the one that comes later.
        """
        flight: _Flight[R] = _Flight(question=question, kept=True)
        same = object() if same in self._flights else same
        self._flights[same] = flight
        question.addBoth(lambda result: self._land(same, flight, result))

    def keep(self, same: Hashable) -> None:
        """Let *same* go on, whoever leaves; who comes meanwhile waits for it."""
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
