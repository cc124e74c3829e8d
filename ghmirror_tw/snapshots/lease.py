"""What only one replica does at a time: it has a lease, and keeps it on while it is at it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ghmirror_tw.store.redis.interfaces import Unavailable

R = TypeVar("R")

#: What leases are for.
SAVE: Final = "save"
RESTORE: Final = "restore"
#: How long who has one may be silent before another takes over, in seconds.
LEASE_S: Final = 15.0
_KEEP_ON_S: Final = LEASE_S / 3

_log: Final = Logger(namespace="ghmirror.snapshots")


class LostLease(Exception):  # noqa: N818 - it says what happened
    """Another replica goes on with it: this one was silent for too long."""


async def kept(
    reactor: Any, archive: Any, what: str, owner: str, work: Coroutine[Deferred[Any], Any, R]
) -> R:
    """Return what *work* does, while *owner* keeps on the lease on *what* that it has taken.

    However long one step of the work takes. Raises `LostLease`, with the work given up, when
    another has the lease by then.
    """
    working = Deferred.fromCoroutine(work)
    lost: list[bool] = []

    async def keep_on() -> None:
        try:
            has_it = await archive.take(what, owner, LEASE_S)
        except Unavailable:
            return  # the work will notice
        except Exception:  # noqa: BLE001 - the next time it may go better
            _log.failure("The lease to {what} was not kept on", what=what)
            return
        if not has_it:
            lost.append(True)
            working.cancel()

    loop = LoopingCall(lambda: Deferred.fromCoroutine(keep_on()))
    loop.clock = reactor
    ended = loop.start(_KEEP_ON_S, now=False)
    try:
        return await working
    except CancelledError:
        if lost:
            raise LostLease(f"another replica is at it now: {what}") from None
        raise
    finally:
        loop.stop()
        # What is on its way must not take the lease after it was let go of.
        await ended
