"""Leases for work that one replica does at a time; a lease is renewed while the work lasts."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ghmirror_tw.redis.servers_interface import RedisUnavailableError

R = TypeVar("R")

#: What leases are for.
SAVE: Final = "save"
RESTORE: Final = "restore"
#: How long a lease lasts, in seconds, if its replica does not renew it.
LEASE_S: Final = 15.0
_KEEP_ON_S: Final = LEASE_S / 3

_log: Final = Logger(namespace="ghmirror.snapshots")


class LeaseLostError(Exception):
    """Another replica has the lease: this one did not renew it in time."""


async def kept(
    reactor: Any, archive: Any, what: str, owner: str, work: Coroutine[Deferred[Any], Any, R]
) -> R:
    """Return the result of *work*, while the lease on *what* that *owner* has is renewed.

    Raises `LeaseLostError`, and cancels the work, when another replica has the lease by then.
    """
    working = Deferred.fromCoroutine(work)
    lost: list[bool] = []

    async def keep_on() -> None:
        try:
            has_it = await archive.acquire_lease(what, owner, LEASE_S)
        except RedisUnavailableError:
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
            raise LeaseLostError(f"another replica is at it now: {what}") from None
        raise
    finally:
        loop.stop()
        # A renewal under way must not take the lease after it was released.
        await ended
