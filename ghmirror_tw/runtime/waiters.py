"""Lists of Deferreds that wait for the same event, each with a time limit of its own."""

from __future__ import annotations

from math import inf

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


def add_waiter(
    reactor: IReactorTime, waiters: list[Deferred[None]], timeout_s: float = inf
) -> Deferred[None]:
    """Return a new Deferred of *waiters*, which is removed when it fires or is cancelled.

    It fires at the next `wake`, or after *timeout_s* seconds.
    """

    def remove(waiter: Deferred[None]) -> None:
        if waiter in waiters:
            waiters.remove(waiter)

    waiter: Deferred[None] = Deferred(remove)
    waiters.append(waiter)
    if timeout_s == inf:
        return waiter

    def time_out() -> None:
        remove(waiter)
        waiter.callback(None)

    timer = reactor.callLater(timeout_s, time_out)

    def stop_timer(result: None) -> None:
        if timer.active():
            timer.cancel()
        return result

    return waiter.addBoth(stop_timer)


def wake(waiters: list[Deferred[None]]) -> None:
    """Fire all *waiters* but those that are cancelled meanwhile."""
    woken = waiters[:]
    waiters.clear()
    for waiter in woken:
        if not waiter.called:
            waiter.callback(None)
