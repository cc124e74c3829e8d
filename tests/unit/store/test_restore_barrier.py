"""Whoever waits for a store to be filled goes on when it is, and never all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from ghmirror_tw.store.restore_barrier import RestoreBarrier

WAITING = 100
TURN_S = 0.001


class Turns(Clock):
    """A clock by which nothing happens in the turn in which it was asked for."""

    def callLater(self, delay: float, *call: Any, **more: Any) -> Any:
        return super().callLater(max(delay, TURN_S), *call, **more)


def shut_gate(clock: Clock) -> tuple[RestoreBarrier, list[int]]:
    """Return a gate that many wait for, and those who have gone on."""
    barrier = RestoreBarrier(clock, 60.0)
    gone: list[int] = []
    barrier.shut("it")

    def goes(number: int) -> Callable[[None], None]:
        return lambda _: gone.append(number)

    for number in range(WAITING):
        barrier.opened(1000.0).addCallback(goes(number))
    return barrier, gone


def test_those_who_wait_go_on_some_at_a_time() -> None:
    """A turn of the reactor lets few of them go on, in their order; in the end nobody waits."""
    clock = Turns()
    barrier, gone = shut_gate(clock)
    barrier.open("it")
    turns = [len(gone)]
    while len(gone) < WAITING:
        clock.advance(TURN_S)
        turns.append(len(gone))
    assert gone == list(range(WAITING))
    assert max(now - before for before, now in zip([0, *turns], turns, strict=False)) <= 20
    assert not clock.getDelayedCalls()


def test_who_comes_while_they_go_on_need_not_wait() -> None:
    """It is open from the first moment."""
    clock = Turns()
    barrier, _ = shut_gate(clock)
    barrier.open("it")
    assert not barrier.is_shut
    assert barrier.opened(1000.0).called


def test_who_still_waits_when_it_is_shut_again_goes_on_waiting() -> None:
    """Nobody goes on while somebody fills the store; all do when that is over."""
    clock = Turns()
    barrier, gone = shut_gate(clock)
    barrier.open("it")
    barrier.shut("again")
    before = len(gone)
    clock.advance(1)
    assert len(gone) == before < WAITING
    barrier.open("again")
    while clock.getDelayedCalls():
        clock.advance(TURN_S)
    assert len(gone) == WAITING
