"""Requests that wait for a restore go on when it is done, and never all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from ghmirror_tw.runtime.restore_barrier import RestoreBarrier

WAITING = 100
TURN_S = 0.001


class Turns(Clock):
    """A clock that calls no timer in the turn in which it was set."""

    def callLater(self, delay: float, *call: Any, **more: Any) -> Any:
        return super().callLater(max(delay, TURN_S), *call, **more)


def shut_barrier(clock: Clock) -> tuple[RestoreBarrier, list[int]]:
    """Return a barrier with many waiting calls, and the numbers of those that have continued."""
    barrier = RestoreBarrier(clock, 60.0)
    gone: list[int] = []
    barrier.shut("it")

    def passes(number: int) -> Callable[[None], None]:
        return lambda _: gone.append(number)

    for number in range(WAITING):
        barrier.opened(1000.0).addCallback(passes(number))
    return barrier, gone


def test_waiters_go_on_some_at_a_time() -> None:
    """A turn of the reactor lets few of them go on, in their order, until none waits."""
    clock = Turns()
    barrier, gone = shut_barrier(clock)
    barrier.open("it")
    turns = [len(gone)]
    while len(gone) < WAITING:
        clock.advance(TURN_S)
        turns.append(len(gone))
    assert gone == list(range(WAITING))
    assert max(now - before for before, now in zip([0, *turns], turns, strict=False)) <= 20
    assert not clock.getDelayedCalls()


def test_no_request_waits_at_an_open_barrier() -> None:
    """It is open at once, even while earlier waiters go on."""
    clock = Turns()
    barrier, _ = shut_barrier(clock)
    barrier.open("it")
    assert not barrier.is_shut
    assert barrier.opened(1000.0).called


def test_waiters_go_on_waiting_when_the_barrier_is_shut_again() -> None:
    """None continues during a restore; all do after it."""
    clock = Turns()
    barrier, gone = shut_barrier(clock)
    barrier.open("it")
    barrier.shut("again")
    before = len(gone)
    clock.advance(1)
    assert len(gone) == before < WAITING
    barrier.open("again")
    while clock.getDelayedCalls():
        clock.advance(TURN_S)
    assert len(gone) == WAITING


def test_a_record_is_returned_as_soon_as_it_is_found() -> None:
    """It is looked up repeatedly while the barrier is shut, and once more when it is opened."""
    clock = Clock()
    barrier = RestoreBarrier(clock, 60.0)
    barrier.shut("it")
    found: list[int] = []

    async def look_up() -> list[int]:
        return list(found)

    first = Deferred.fromCoroutine(barrier.until_found(look_up, lambda found: 1 in found))
    second = Deferred.fromCoroutine(barrier.until_found(look_up, lambda found: 2 in found))
    clock.pump([0.1] * 10)
    assert not first.called
    found.append(1)
    clock.pump([0.1] * 20)
    assert (first.result, second.called) == ([1], False)
    barrier.open("it")
    assert second.result == [1]
    assert not clock.getDelayedCalls()
