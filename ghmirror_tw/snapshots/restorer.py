"""Filling a store from its newest usable snapshot, while the mirror serves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.snapshots.copies import Copies, Whole
from ghmirror_tw.snapshots.lease import LEASE_S, RESTORE, LeaseLostError, kept
from ghmirror_tw.snapshots.schedule import Report
from ghmirror_tw.snapshots.snapshot_errors import PermanentTargetError, SnapshotError, TargetError
from ghmirror_tw.store.restore_barrier import RestoreBarrier

#: How often it is checked whether another replica has filled the store, in seconds.
_LOOK_S: Final = 0.5
#: Requests wait no longer once nothing has been read from the target for so long, in seconds.
_SILENT_S: Final = 5.0
#: After a failure it is tried again: soon, then ever less often, in seconds.
_FIRST_S: Final = 2.0
_LAST_S: Final = 60.0

_log: Final = Logger(namespace="ghmirror.snapshots")


async def put_back(archive: Any, copies: Copies, whole: Whole) -> int:
    """Put the records of *whole* into the store of *archive*; return how many are new.

    The caller must have the lease for it.
    """
    admitted = 0
    async with aclosing(copies.pairs(whole)) as batches:
        async for pairs in batches:
            admitted += await archive.admit(pairs)
            if archive.is_full():
                break
    return admitted


@define(eq=False)
class Restorer:
    """Fills the store of *archive* from a snapshot; *barrier* is shut while it is not filled.

    Snapshots of *owner* are preferred. Without any, the newest of another owner will do, since
    records are bound to their secret and to their names. *replica* is the name of this replica.
    *report* takes what was done, at *now*.
    """

    reactor: Any
    archive: Any
    copies: Copies
    barrier: RestoreBarrier
    owner: str
    replica: str
    report: Report
    now: Callable[[], float]
    #: Whether anything is restored at all, or the store counts as filled as it is.
    restores: bool = True
    #: Whether the store has a mark; the memory store that stands in for Redis has none.
    marks: bool = True
    _running: Deferred[None] | None = field(init=False, default=None)
    #: When records last came in, here or in another replica, as far as known; and the next check.
    _active_at: float = field(init=False, default=0.0)
    _looking: IDelayedCall | None = field(init=False, default=None)
    #: Whether records of other mirrors in the store have been logged.
    _reported: bool = field(init=False, default=False)
    #: The attempt under way is being cancelled; another one has to follow it.
    _stopping: bool = field(init=False, default=False)
    _again: bool = field(init=False, default=False)
    _closed: bool = field(init=False, default=False)

    def fill(self) -> None:
        """Fill the store, unless that is under way here; the gate is shut meanwhile."""
        if self._running is not None or self._closed:
            self._again = self._stopping
            return
        self.barrier.shut(id(self))
        self._active_at = self.reactor.seconds()
        self._looking = self.reactor.callLater(_SILENT_S, self._look_for_progress)
        self._running = Deferred.fromCoroutine(self._run())
        if not self._running.called:
            self._running.addBoth(self._ran)
        else:
            self._ran(None)

    async def look(self) -> None:
        """Fill the store if it has lost its mark: it may have been emptied."""
        if self._running is not None or self._closed:
            return
        try:
            mark = await self.archive.mark()
        except RedisUnavailableError:
            return
        if mark is None:
            self.fill()

    def _look_for_progress(self) -> None:
        """Open the gate if no records come in; the attempt continues."""
        self._looking = None
        active_at = max(self._active_at, self.copies.read_at)
        silent_s = self.reactor.seconds() - active_at
        if silent_s < _SILENT_S:
            self._looking = self.reactor.callLater(_SILENT_S - silent_s, self._look_for_progress)
        elif self.barrier.is_shut:
            what = "Requests wait no longer for a restore without progress: silent={silent}s"
            _log.warn(what, silent=round(silent_s, 1))
            self.barrier.open(id(self))

    def _ran(self, _: object) -> None:
        self._running = None
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
        self.barrier.open(id(self))
        again, self._again, self._stopping = self._again, False, False
        if again:
            self.fill()

    def stop(self) -> None:
        """Cancel the attempt under way."""
        self._again = False
        if self._running is not None:
            self._stopping = True
            self._running.cancel()

    async def close(self) -> None:
        """End it for good."""
        self._closed = True
        self.stop()

    async def _run(self) -> None:
        failures = 0
        while True:
            pause_s = _LOOK_S
            try:
                if await self._once():
                    return
            except CancelledError:
                return
            except RedisUnavailableError:
                pass  # the store logs it
            except (TargetError, SnapshotError) as error:
                self._failed(str(error))
                if isinstance(error, PermanentTargetError):
                    # It is permanent, so requests wait no longer; attempts continue.
                    self.barrier.open(id(self))
                pause_s = min(_FIRST_S * 2**failures, _LAST_S)
                failures += 1
            except Exception:  # noqa: BLE001 - whatever it is, the mirror serves without it
                self.report.snapshot_failed(RESTORE)
                _log.failure("Restoring failed")
                return
            try:
                await deferLater(self.reactor, pause_s)
            except CancelledError:
                return

    def _failed(self, why: str) -> None:
        self.report.snapshot_failed(RESTORE)
        _log.error("The store can't be filled from a snapshot yet: {why}", why=why)

    async def _once(self) -> bool:
        """Return whether the store is filled by now; False: another replica fills it."""
        if self.marks and await self.archive.mark() is not None:
            return True
        if not await self.archive.acquire_lease(RESTORE, self.replica, LEASE_S):
            self._active_at = self.reactor.seconds()
            return False
        try:
            await kept(self.reactor, self.archive, RESTORE, self.replica, self._fill())
        except LeaseLostError:
            return False
        finally:
            await self._let_go()
        return True

    async def _fill(self) -> None:
        # The replica that had the lease before may just have finished.
        if self.marks and await self.archive.mark() is not None:
            return
        if self.marks:
            await self._report_others()
        whole = await self._newest() if self.restores else None
        if whole is not None:
            await self._restore(whole)
        if self.marks:
            await self.archive.mark_filled()

    async def _report_others(self) -> None:
        """Warn once where the store was filled by mirrors of another server or secret."""
        others = None if self._reported else await self.archive.filled_by_others()
        if others is not None:
            self._reported = True
            _log.warn(
                "The store was filled by other mirrors, whose records are not used: {others};"
                " [redis] key_prefix keeps them apart",
                others=others,
            )

    async def _let_go(self) -> None:
        try:
            await self.archive.release_lease(RESTORE, self.replica)
        except RedisUnavailableError:
            return

    async def _newest(self) -> Whole | None:
        await self.copies.clean()
        return await self.copies.newest_usable(self.owner)

    async def _restore(self, whole: Whole) -> None:
        began = self.reactor.seconds()
        admitted = await put_back(self.archive, self.copies, whole)
        seconds = self.reactor.seconds() - began
        size = whole.stored.size_bytes
        self.report.snapshot(
            RESTORE, at=self.now(), seconds=seconds, size_bytes=size, records=admitted
        )
        _log.info(
            "{records} of {all} records were restored from {name} in {seconds} s",
            records=admitted,
            all=whole.summary.records,
            name=whole.stored.name.text,
            seconds=round(seconds, 3),
        )
