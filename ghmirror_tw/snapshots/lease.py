"""Leases in the store for work of one replica at a time, renewed while the work lasts."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ghmirror_tw.redis import RedisUnavailableError

R = TypeVar("R")

#: The names of the leases.
SAVE: Final = "save"
RESTORE: Final = "restore"
#: How long a lease lasts, in seconds, if its replica does not renew it.
LEASE_S: Final = 15.0
_RENEW_S: Final = LEASE_S / 3

_log: Final = Logger(namespace="ghmirror.snapshots")


class LeaseLostError(Exception):
    """Another replica has the lease: this one did not renew it in time."""


async def run_with_lease(
    reactor: Any, archive: Any, name: str, owner: str, work: Coroutine[Deferred[Any], Any, R]
) -> R:
    """Return the result of *work*, during which *owner* renews its lease on *name*.

    If another replica has acquired the lease, the work is cancelled. Raises `LeaseLostError`.
    """
    working = Deferred.fromCoroutine(work)
    lost: list[bool] = []

    async def renew() -> None:
        try:
            has_lease = await archive.acquire_lease(name, owner, LEASE_S)
        except RedisUnavailableError:
            return  # the work fails by itself
        except Exception:  # noqa: BLE001 - the next renewal may succeed
            _log.failure("Lease not renewed: lease={name}", name=name)
            return
        if not has_lease:
            lost.append(True)
            working.cancel()

    loop = LoopingCall(lambda: Deferred.fromCoroutine(renew()))
    loop.clock = reactor
    ended = loop.start(_RENEW_S, now=False)
    try:
        return await working
    except CancelledError:
        if lost:
            raise LeaseLostError(f"another replica has the lease: {name}") from None
        raise
    finally:
        loop.stop()
        # A renewal in progress must not acquire the lease after its release.
        await ended


async def release(archive: Any, name: str, owner: str) -> None:
    """Release the lease on *name*; if the store is unavailable, the lease expires by itself."""
    try:
        await archive.release_lease(name, owner)
    except RedisUnavailableError:
        return
