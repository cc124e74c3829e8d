"""Saves a store as a snapshot, in one of the replicas that share it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

from attrs import define
from twisted.logger import Logger

from ghmirror_tw.snapshots.lease import LEASE_S, SAVE, release, run_with_lease
from ghmirror_tw.snapshots.snapshot_errors import FullTargetError, StoreEmptiedError
from ghmirror_tw.snapshots.snapshot_format import Header, Pair
from ghmirror_tw.snapshots.snapshot_repository import SavedSnapshot, SnapshotRepository

#: A replica that has saved keeps the lease for this part of the interval, so that no other saves.
_LEASE_PART: Final = 0.9

_log: Final = Logger(namespace="ghmirror.snapshots")


@define(eq=False)
class Saver:
    """Saves the store of *archive*, of *kind*, under the name of *owner*.

    *keep* snapshots are kept. A store that is not restored yet is not saved: a snapshot of few
    records must not be newer than the one to restore from. *fill* is called instead. It is also
    called if the store was emptied during the copy, which is then discarded. *now* returns seconds
    since the epoch.
    """

    reactor: Any
    archive: Any
    repository: SnapshotRepository
    kind: str
    owner: str
    replica: str
    keep: int
    interval_s: float
    fill: Callable[[], None]
    now: Callable[[], float]
    #: Whether the last attempt found no records, so that nothing was written.
    is_empty: bool = False

    async def save(self) -> SavedSnapshot | None:
        """Make a snapshot; return None if another replica does, or if there are no records."""
        mark = await self.archive.mark()
        if mark is None:
            self.fill()
            return None
        if not await self.archive.acquire_lease(SAVE, self.replica, LEASE_S):
            return None
        try:
            fingerprint = self.repository.codec.fingerprint
            at_ms, api_url = round(self.now() * 1000), self.repository.api_url
            header = Header(self.owner, self.kind, at_ms, fingerprint, api_url)
            saving = self._copy(header, mark)
            saved = await run_with_lease(self.reactor, self.archive, SAVE, self.replica, saving)
        except BaseException as error:
            await release(self.archive, SAVE, self.replica)
            if isinstance(error, StoreEmptiedError):
                self.fill()
            raise
        self.is_empty = saved is None
        if saved is None:
            await release(self.archive, SAVE, self.replica)
            return None
        await self._prune()
        await self.archive.acquire_lease(
            SAVE, self.replica, max(_LEASE_PART * self.interval_s, 0.001)
        )
        return saved

    async def _copy(self, header: Header, mark: str) -> SavedSnapshot | None:
        """Write a snapshot; if the target is full, delete old ones and retry once."""
        try:
            return await self.repository.save(header, self._records(mark))
        except FullTargetError as error:
            count = await self.repository.make_room(self.owner)
            if not count:
                raise
            _log.warn("Old snapshots deleted: count={n} reason={why}", n=count, why=str(error))
        return await self.repository.save(header, self._records(mark))

    async def _records(self, mark: str) -> AsyncGenerator[list[Pair]]:
        """Yield all records. Raises `StoreEmptiedError` at the end if *mark* was lost meanwhile.

        Records of mirrors with another secret are omitted.
        """
        opens = self.repository.codec.opens
        async with aclosing(self.archive.dump()) as batches:
            async for pairs in batches:
                yield [pair for pair in pairs if opens(*pair)]
        if await self.archive.mark() != mark:
            raise StoreEmptiedError("the store was emptied during the copy")

    async def _prune(self) -> None:
        """Delete superseded snapshots; a failure does not affect the new snapshot."""
        try:
            await self.repository.prune(self.owner, self.keep)
        except Exception:  # noqa: BLE001 - the next save retries
            _log.failure("Old snapshots not deleted")
