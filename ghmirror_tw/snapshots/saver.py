"""Making a snapshot of a store, by one of the replicas that share it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

from attrs import define
from twisted.logger import Logger

from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.snapshots.copies import Copies, Saved
from ghmirror_tw.snapshots.lease import LEASE_S, SAVE, kept
from ghmirror_tw.snapshots.snapshot_errors import FullTargetError, StoreEmptiedError
from ghmirror_tw.snapshots.snapshot_format import Header, Pair

#: A replica that has saved has the lease for most of the interval, so that no other saves as well.
_MOST: Final = 0.9

_log: Final = Logger(namespace="ghmirror.snapshots")


@define(eq=False)
class Saver:
    """Saves the store of *archive*, of *kind*, under the name of *owner*.

    *keep* snapshots are kept. A store that has not been filled yet is not saved, so that a copy
    of few records is never newer than the one that it has to be filled from; *fill* is called
    instead. If the store is emptied while it is copied, nothing is published, and *fill* is called.
    *now* is in seconds since the epoch.
    """

    reactor: Any
    archive: Any
    copies: Copies
    kind: str
    owner: str
    replica: str
    keep: int
    interval_s: float
    fill: Callable[[], None]
    now: Callable[[], float]
    #: Whether the last attempt found no records, so that nothing was written.
    is_empty: bool = False

    async def save(self) -> Saved | None:
        """Make a snapshot; None where another replica does, or where there are no records yet."""
        mark = await self.archive.mark()
        if mark is None:
            self.fill()
            return None
        if not await self.archive.acquire_lease(SAVE, self.replica, LEASE_S):
            return None
        try:
            fingerprint = self.copies.codec.fingerprint
            at_ms, api_url = round(self.now() * 1000), self.copies.api_url
            header = Header(self.owner, self.kind, at_ms, fingerprint, api_url)
            saving = self._copied(header, mark)
            saved = await kept(self.reactor, self.archive, SAVE, self.replica, saving)
        except BaseException as error:
            await self._let_go()
            if isinstance(error, StoreEmptiedError):
                self.fill()
            raise
        self.is_empty = saved is None
        if saved is None:
            await self._let_go()
            return None
        await self._pruned()
        await self.archive.acquire_lease(SAVE, self.replica, max(_MOST * self.interval_s, 0.001))
        return saved

    async def _copied(self, header: Header, mark: str) -> Saved | None:
        """Write a snapshot. If the target is full, delete old ones and try once more."""
        try:
            return await self.copies.save(header, self._records(mark))
        except FullTargetError as error:
            count = await self.copies.make_room(self.owner)
            if not count:
                raise
            _log.warn("Old snapshots deleted: count={n} reason={why}", n=count, why=str(error))
        return await self.copies.save(header, self._records(mark))

    async def _records(self, mark: str) -> AsyncGenerator[list[Pair]]:
        """Yield all records. Raises `StoreEmptiedError` at the end if *mark* was lost meanwhile.

        Records that mirrors with another secret have in the same store are left out.
        """
        opens = self.copies.codec.opens
        async with aclosing(self.archive.dump()) as batches:
            async for pairs in batches:
                yield [pair for pair in pairs if opens(*pair)]
        if await self.archive.mark() != mark:
            raise StoreEmptiedError("the store was emptied while it was copied")

    async def _pruned(self) -> None:
        """Delete superseded snapshots. If that fails, the new one is still good."""
        try:
            await self.copies.prune(self.owner, self.keep)
        except Exception:  # noqa: BLE001 - the next one will
            _log.failure("Old snapshots were not deleted")

    async def _let_go(self) -> None:
        try:
            await self.archive.release_lease(SAVE, self.replica)
        except RedisUnavailableError:
            return
