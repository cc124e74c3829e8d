"""A time limit on a Deferred, with an error of the caller's own."""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

R = TypeVar("R")


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
