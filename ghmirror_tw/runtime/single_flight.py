"""Single flight: concurrent calls for the same thing share one call, and all receive its result.

(The name is that of Go's package; RFC 9111, section 4, calls such requests collapsed.) A flight
ends when its last caller leaves, unless it is detached: then it continues without callers.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from ghmirror_tw.runtime.deferreds import do_nothing

R = TypeVar("R")


class StoppableTimer(Protocol):
    """A timer that is running, or was."""

    def active(self) -> bool:
        """Return whether the timer is running."""

    def cancel(self) -> None:
        """Stop the timer."""


#: Starts a timer that calls a function once.
CallLate: TypeAlias = Callable[[Callable[[], object]], StoppableTimer]
#: What a flight does.
Run: TypeAlias = Callable[[], Coroutine[Deferred[Any], Any, R]]


@define(eq=False)
class Flight(Generic[R]):
    """A call in progress, with the callers that wait for its result, in order.

    *began_at*: when it began; *sent_at*: when its request was sent (None: not yet). Times are in
    seconds. *watchers* wait for its end, and do not receive the result. A *detached* one continues
    without callers.
    """

    began_at: float = 0.0
    sent_at: float | None = None
    name: Hashable = None
    callers: list[Deferred[tuple[R, bool]]] = field(factory=list)
    watchers: list[Deferred[bool]] = field(factory=list)
    task: Deferred[R] | None = None
    detached: bool = False

    def note_sent(self, now: float) -> None:
        """Note that a request is sent now; only the first time counts."""
        if self.sent_at is None:
            self.sent_at = now

    def end(self, result: R | Failure) -> None:
        """Pass the result to all callers, and mark the first of them as the first."""
        callers, self.callers = self.callers, []
        for position, caller in enumerate(callers):
            if caller.called:
                continue
            if isinstance(result, Failure):
                caller.errback(result)
            else:
                caller.callback((result, position == 0))
        watchers, self.watchers = self.watchers, []
        for watcher in watchers:
            if not watcher.called:
                watcher.callback(True)


@define(eq=False)
class SingleFlight(Generic[R]):
    """Flights by name.

    A caller whose Deferred is cancelled leaves its flight, without effect on other callers.
    *unwanted* receives each result, value or failure, that no caller receives.
    """

    unwanted: Callable[[R | Failure], object]
    _flights: dict[Hashable, Flight[R]] = field(init=False, factory=dict)

    def __len__(self) -> int:
        """Return the number of flights."""
        return len(self._flights)

    @property
    def detached(self) -> int:
        """The number of detached flights."""
        return sum(flight.detached for flight in self._flights.values())

    def under_way(self, name: Hashable) -> bool:
        """Return whether there is a flight of this name."""
        return bool(self._flights) and name in self._flights

    def flight(self, name: Hashable) -> Flight[R] | None:
        """Return the flight of this name, or None."""
        return self._flights.get(name) if self._flights else None

    def ended(self, name: Hashable) -> Deferred[bool]:
        """Fire with True when the flight has ended, in success or failure."""
        flight = self._flights.get(name)
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
        self, name: Hashable, run: Run[R], flight: Flight[R] | None = None
    ) -> Deferred[tuple[R, bool]]:
        """Fire with the result of a flight, and whether the caller is the first to receive it.

        Where there is no flight of this name, *run* starts one, which is *flight* if given.
        """
        new = Flight() if flight is None else flight
        joined = self._flights.setdefault(name, new)
        caller: Deferred[tuple[R, bool]] = Deferred(partial(self._leave, joined))
        joined.callers.append(caller)
        if joined is new:
            self._start(new, name, run)
        return caller

    def respond(self, flight: Flight[R], result: R, name: Hashable) -> None:
        """Pass *result* to the callers of a flight now; it continues without them, as *name*.

        If there is a flight of that name, it continues under a name of its own.
        """
        flight.detached = True
        if flight.name is not None:
            del self._flights[flight.name]
            flight.name = object() if name in self._flights else name
            self._flights[flight.name] = flight
        flight.end(result)

    def detach(self, name: Hashable, run: Run[R] | None = None) -> None:
        """Let a flight continue without callers; *run* starts one where there is none."""
        flight = self._flights.get(name)
        if flight is not None:
            flight.detached = True
        elif run is not None:
            flight = self._flights[name] = Flight(detached=True)
            self._start(flight, name, run)

    def cancel_detached(self) -> None:
        """Cancel the flights that no caller needs."""
        for flight in list(self._flights.values()):
            if flight.detached and flight.task is not None:
                flight.task.cancel()

    def close(self) -> None:
        """Cancel all flights."""
        for flight in list(self._flights.values()):
            if flight.task is not None:
                flight.task.cancel()

    def _start(self, flight: Flight[R], name: Hashable, run: Run[R]) -> None:
        flight.name = name
        flight.task = Deferred.fromCoroutine(run())
        flight.task.addBoth(self._end, flight)

    def _leave(self, flight: Flight[R], caller: Deferred[tuple[R, bool]]) -> None:
        if caller in flight.callers:
            flight.callers.remove(caller)
        if not flight.callers and not flight.detached:
            self._remove(flight)
            if flight.task is not None:
                flight.task.cancel()

    def _remove(self, flight: Flight[R]) -> None:
        """Let no other caller join a flight."""
        if flight.name is not None:
            del self._flights[flight.name]
            flight.name = None

    def _end(self, result: R | Failure, flight: Flight[R]) -> None:
        self._remove(flight)
        if not flight.callers:
            self.unwanted(result)
        flight.end(result)


@define(eq=False)
class Wait(Generic[R]):
    """Lets one Deferred be awaited several times, each with its own timeout; used by `with`.

    A timeout does not cancel the Deferred. The end of the `with` block does. A value that was not
    taken until then is passed to *unwanted*.
    """

    _waited: Deferred[R]
    unwanted: Callable[[R], object] = do_nothing
    #: The value or failure, once the Deferred has fired.
    _outcome: list[R | Failure] = field(init=False, factory=list)
    #: What the caller waits for at the moment: the Deferred or a timeout.
    _event: Deferred[None] | None = field(init=False, default=None)
    _is_taken: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._waited.addBoth(self._end)

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Cancel the Deferred, or drop its value."""
        self._waited.cancel()
        for outcome in self._outcome:
            if not self._is_taken and not isinstance(outcome, Failure):
                self.unwanted(outcome)

    def _end(self, outcome: R | Failure) -> None:
        self._outcome.append(outcome)
        self._ring()

    def _ring(self) -> None:
        event, self._event = self._event, None
        if event is not None and not event.called:
            event.callback(None)

    async def within(self, call_late: CallLate) -> bool:
        """Return whether the Deferred has fired before *call_late* calls."""
        if not self._outcome:
            event = self._event = Deferred()
            timer = call_late(self._ring)
            try:
                await event
            finally:
                if timer.active():
                    timer.cancel()
        return bool(self._outcome)

    async def result(self) -> R:
        """Return the value once the Deferred has fired, or raise its failure."""
        if not self._outcome:
            event = self._event = Deferred()
            await event
        return self.taken()

    def taken(self) -> R:
        """Return the value of a Deferred that has fired, or raise its failure."""
        self._is_taken = True
        (outcome,) = self._outcome
        if isinstance(outcome, Failure):
            outcome.raiseException()
        return outcome
