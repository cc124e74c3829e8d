"""Waiting for something to end, or for the time to be up."""

from __future__ import annotations

from math import inf

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


def waiting(
    reactor: IReactorTime, waiters: list[Deferred[None]], timeout_s: float = inf
) -> Deferred[None]:
    """Return a Deferred that is among the *waiters* until it is called or has gone.

    It is called when *timeout_s* has passed, if nobody does so before. Without one it waits on.
    """

    def leave(gone: Deferred[None]) -> None:
        if gone in waiters:
            waiters.remove(gone)

    waiter: Deferred[None] = Deferred(leave)
    waiters.append(waiter)
    if timeout_s == inf:
        return waiter

    def give_up() -> None:
        leave(waiter)
        waiter.callback(None)

    timer = reactor.callLater(timeout_s, give_up)

    def stop_timer(result: None) -> None:
        if timer.active():
            timer.cancel()
        return result

    return waiter.addBoth(stop_timer)


def wake(waiters: list[Deferred[None]]) -> None:
    """Call all *waiters*; those who went away meanwhile were called by their cancellation."""
    woken = waiters[:]
    waiters.clear()
    for waiter in woken:
        if not waiter.called:
            waiter.callback(None)
