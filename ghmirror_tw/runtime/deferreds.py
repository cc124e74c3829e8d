"""Small functions over Deferreds: all of several, a time limit, lists of waiters."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime

R = TypeVar("R")


def do_nothing(*_: object) -> None:
    """Serve as a callback that has no effect."""


async def gather(deferreds: Sequence[Deferred[R]]) -> list[R]:
    """Return all results. If one fails, cancel the others and raise its exception."""
    try:
        return list(await gatherResults(deferreds, consumeErrors=True))
    except FirstError as error:
        for each in deferreds:
            each.cancel()
        error.subFailure.raiseException()
        raise


def fail_after(
    deferred: Deferred[R], reactor: IReactorTime, timeout_s: float, error: Exception
) -> Deferred[R]:
    """Cancel *deferred* after *timeout_s* seconds, and have it fail with *error* then.

    The result of that cancellation is dropped. If *deferred* is cancelled earlier, it fails as it
    would without a time limit.
    """

    def fail(_result: object, _timeout_s: float) -> R:
        raise error

    return deferred.addTimeout(timeout_s, reactor, onTimeoutCancel=fail)


# Lists of Deferreds that wait for the same event, each with a time limit of its own.


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
