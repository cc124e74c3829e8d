"""Waiting for a while, and then again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

R = TypeVar("R")

#: Calls something when it has taken too long.
CallLate: TypeAlias = Callable[[Callable[[], object]], IDelayedCall]


@define(eq=False)
class Patient(Generic[R]):
    """Waits for *going*, for a while and then again."""

    going: Deferred[R]
    _told: Deferred[R | None] = field(init=False, factory=Deferred)
    #: What has come, until somebody takes it.
    _come: list[R] = field(init=False, factory=list)

    _left_to_others: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.going.addBoth(self._tell)

    def _tell(self, result: R | Failure) -> R | Failure | None:
        if self._left_to_others:
            return result
        if self._told.called:
            return None
        if isinstance(result, Failure):
            self._told.errback(result)
        else:
            self._come.append(result)
            self._told.callback(result)
        return None

    @property
    def has_come(self) -> bool:
        """Whether it has ended, well or not."""
        return bool(self._told.called)

    async def within(self, call_late: CallLate) -> R | None:
        """Return what comes before *call_late* calls, or None; it can be waited for again then."""
        timer = call_late(self._late)
        try:
            return self._taken(await self._told)
        finally:
            if timer.active():
                timer.cancel()

    def _late(self) -> None:
        told, self._told = self._told, Deferred()
        told.callback(None)

    async def end(self) -> R:
        """Return what comes."""
        told = self._taken(await self._told)
        assert told is not None
        return told

    def _taken(self, told: R | None) -> R | None:
        if told is not None:
            self._come.clear()
        return told

    def leave_to_others(self) -> Deferred[R]:
        """Wait no more, and return what others may wait for; nothing has come yet."""
        self._left_to_others = True
        return self.going

    def leave(self, unwanted: Callable[[R], object] = bool) -> None:
        """Wait no more; *unwanted* gets what has come and was not taken."""
        if self._left_to_others:
            return
        self._told.addErrback(lambda _: None)
        if not self.going.called:
            self.going.cancel()
        while self._come:
            unwanted(self._come.pop())
