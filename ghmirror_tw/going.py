"""A question that goes on although nobody waits for its answer any more."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

R = TypeVar("R")


@define(eq=False)
class Patient(Generic[R]):
    """Waits for *going*, for a while and then again."""

    going: Deferred[R]
    _told: Deferred[R | None] = field(init=False, factory=Deferred)

    def __attrs_post_init__(self) -> None:
        self.going.addBoth(self._tell)

    def _tell(self, result: R | Failure) -> None:
        if self._told.called:
            return
        if isinstance(result, Failure):
            self._told.errback(result)
        else:
            self._told.callback(result)

    @property
    def has_come(self) -> bool:
        """Whether it has ended, well or not."""
        return bool(self._told.called)

    async def within(
        self, seconds: float, call_later: Callable[[float, Callable[[], object]], IDelayedCall]
    ) -> R | None:
        """Return what comes within *seconds*, or None; then it can be waited for again."""
        timer = call_later(seconds, self._late)
        try:
            return await self._told
        finally:
            if timer.active():
                timer.cancel()

    def _late(self) -> None:
        told, self._told = self._told, Deferred()
        told.callback(None)

    async def end(self) -> R:
        """Return what comes."""
        told = await self._told
        assert told is not None
        return told

    def leave(self) -> None:
        """Wait no more."""
        self._told.addErrback(lambda _: None)
        self.going.cancel()


@define(eq=False)
class _Going(Generic[R]):
    waiters: list[Deferred[tuple[R, bool]]] = field(factory=list)
    question: Deferred[R] | None = None
    kept: bool = False


@define(eq=False)
class GoingOn(Generic[R]):
    """Questions by what makes them the same; who comes next waits for the one that is under way.

    *unwanted* gets answers that came when nobody waited.
    """

    unwanted: Callable[[R], object]
    _going: dict[Hashable, _Going[R]] = field(init=False, factory=dict)

    def under_way(self, same: Hashable) -> bool:
        """Tell whether *same* is being asked."""
        return same in self._going

    def wait(
        self, same: Hashable, ask: Callable[[], Coroutine[Deferred[Any], Any, R]]
    ) -> Deferred[tuple[R, bool]]:
        """Return the answer to *same*, and whether the caller is the first of those who get it.

        It is asked by *ask* unless it is under way.

        Cancelling gives up waiting; with nobody left the question is given up too, unless it is
        kept (see `keep`).
        """
        going = self._going.get(same)
        starts = going is None
        if going is None:
            going = self._going[same] = _Going()
        joined = going

        def leave(waiter: Deferred[tuple[R, bool]]) -> None:
            if waiter in joined.waiters:
                joined.waiters.remove(waiter)
            if not joined.waiters and not joined.kept and joined.question is not None:
                joined.question.cancel()

        waiter: Deferred[tuple[R, bool]] = Deferred(leave)
        joined.waiters.append(waiter)
        if starts:
            joined.question = Deferred.fromCoroutine(ask())
            joined.question.addBoth(lambda result: self._end(same, joined, result))
        return waiter

    def keep(self, same: Hashable) -> None:
        """Let *same* go on, whoever leaves."""
        going = self._going.get(same)
        if going is not None:
            going.kept = True

    def _end(self, same: Hashable, going: _Going[R], result: R | Failure) -> None:
        if self._going.get(same) is going:
            del self._going[same]
        waiters, going.waiters = going.waiters, []
        if not waiters:
            # Nobody is there to hear of a failure.
            if not isinstance(result, Failure):
                self.unwanted(result)
            return
        for position, waiter in enumerate(waiters):
            if waiter.called:
                continue
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback((result, position == 0))

    def close(self) -> None:
        """Give up all questions."""
        for going in list(self._going.values()):
            if going.question is not None:
                going.question.addErrback(lambda failure: failure.trap(CancelledError))
                going.question.cancel()
