"""Restores a store from its newest usable snapshot while the mirror serves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ghmirror_tw.redis import RedisUnavailableError
from ghmirror_tw.runtime.restore_barrier import RestoreBarrier
from ghmirror_tw.snapshots.lease import LEASE_S, RESTORE, LeaseLostError, release, run_with_lease
from ghmirror_tw.snapshots.schedule import SnapshotMetrics
from ghmirror_tw.snapshots.snapshot_errors import PermanentTargetError, SnapshotError, TargetError
from ghmirror_tw.snapshots.snapshot_repository import CheckedSnapshot, SnapshotRepository

#: The interval of checks whether another replica has restored the store, in seconds.
_CHECK_S: Final = 0.5
#: The time without progress after which requests no longer wait, in seconds.
_STALLED_S: Final = 5.0
#: Exponential backoff after failures, in seconds.
_FIRST_BACKOFF_S: Final = 2.0
_LAST_BACKOFF_S: Final = 60.0

_log: Final = Logger(namespace="ghmirror.snapshots")


async def restore_records(
    archive: Any, repository: SnapshotRepository, whole: CheckedSnapshot
) -> int:
    """Store the records of *whole* in *archive*; return the number of new records.

    The caller must have the lease.
    """
    admitted = 0
    async with aclosing(repository.pairs(whole)) as batches:
        async for pairs in batches:
            admitted += await archive.admit(pairs)
            if archive.is_full():
                break
    return admitted


@define(eq=False)
class Restorer:
    """Restores the store of *archive* from a snapshot; *barrier* is closed until then.

    Snapshots of *owner* are preferred. Without any, the newest of another owner is used, since
    records are bound to their secret and to their names. *replica* is the name of this replica.
    *metrics* count restores, at *now*.
    """

    reactor: Any
    archive: Any
    repository: SnapshotRepository
    barrier: RestoreBarrier
    owner: str
    replica: str
    metrics: SnapshotMetrics
    now: Callable[[], float]
    #: Whether records are restored, or the store counts as restored as it is.
    restores: bool = True
    #: Whether the store has a mark; the memory store that replaces Redis has none.
    marks: bool = True
    _running: Deferred[None] | None = field(init=False, default=None)
    #: The time of the last progress in this or another replica, and the timer of the next check.
    _active_at: float = field(init=False, default=0.0)
    _progress_timer: IDelayedCall | None = field(init=False, default=None)
    #: Whether the warning about records of other mirrors was logged.
    _reported: bool = field(init=False, default=False)
    #: Whether the attempt in progress is being cancelled, and whether another one must follow.
    _stopping: bool = field(init=False, default=False)
    _again: bool = field(init=False, default=False)
    _closed: bool = field(init=False, default=False)

    @property
    def is_running(self) -> bool:
        """Whether the store is being restored, or a failed restore is retried."""
        return self._running is not None

    def fill(self) -> None:
        """Restore the store, unless that is in progress; the barrier is closed meanwhile."""
        if self._running is not None or self._closed:
            self._again = self._stopping
            return
        self.barrier.shut(id(self))
        self._active_at = self.reactor.seconds()
        self._progress_timer = self.reactor.callLater(_STALLED_S, self._check_progress)
        self._running = Deferred.fromCoroutine(self._run())
        if not self._running.called:
            self._running.addBoth(self._ran)
        else:
            self._ran(None)

    async def check_mark(self) -> None:
        """Restore the store if it has lost its mark, because it was emptied."""
        if self._running is not None or self._closed:
            return
        try:
            mark = await self.archive.mark()
        except RedisUnavailableError:
            return
        if mark is None:
            self.fill()

    def _check_progress(self) -> None:
        """Open the barrier if there is no progress; the attempt continues."""
        self._progress_timer = None
        active_at = max(self._active_at, self.repository.read_at)
        stalled_s = self.reactor.seconds() - active_at
        if stalled_s < _STALLED_S:
            self._progress_timer = self.reactor.callLater(
                _STALLED_S - stalled_s, self._check_progress
            )
        elif self.barrier.is_shut:
            text = "Restore stalled, requests wait no longer: stalled={seconds}s"
            _log.warn(text, seconds=round(stalled_s, 1))
            self.barrier.open(id(self))

    def _ran(self, _: object) -> None:
        self._running = None
        timer, self._progress_timer = self._progress_timer, None
        if timer is not None:
            timer.cancel()
        self.barrier.open(id(self))
        again, self._again, self._stopping = self._again, False, False
        if again:
            self.fill()

    def stop(self) -> None:
        """Cancel the attempt in progress."""
        self._again = False
        if self._running is not None:
            self._stopping = True
            self._running.cancel()

    async def close(self) -> None:
        """Cancel the attempt and start no other."""
        self._closed = True
        self.stop()

    async def _run(self) -> None:
        failures = 0
        while True:
            pause_s = _CHECK_S
            try:
                if await self._attempt():
                    self.metrics.snapshot_recovered(RESTORE)
                    return
            except CancelledError:
                return
            except RedisUnavailableError:
                pass  # the store logs it
            except (TargetError, SnapshotError) as error:
                self._failed(str(error))
                if isinstance(error, PermanentTargetError):
                    # The failure is permanent, so requests wait no longer; attempts continue.
                    self.barrier.open(id(self))
                pause_s = min(_FIRST_BACKOFF_S * 2**failures, _LAST_BACKOFF_S)
                failures += 1
            except Exception as error:  # noqa: BLE001 - the mirror serves without a restore
                self.metrics.snapshot_failed(RESTORE, str(error))
                _log.failure("Restore failed")
                return
            try:
                await deferLater(self.reactor, pause_s)
            except CancelledError:
                return

    def _failed(self, why: str) -> None:
        self.metrics.snapshot_failed(RESTORE, why)
        _log.error("Restore failed, will be retried: error={why}", why=why)

    async def _attempt(self) -> bool:
        """Return whether the store is restored; False if another replica restores it."""
        if self.marks and await self.archive.mark() is not None:
            return True
        if not await self.archive.acquire_lease(RESTORE, self.replica, LEASE_S):
            self._active_at = self.reactor.seconds()
            return False
        try:
            await run_with_lease(self.reactor, self.archive, RESTORE, self.replica, self._fill())
        except LeaseLostError:
            return False
        finally:
            await release(self.archive, RESTORE, self.replica)
        return True

    async def _fill(self) -> None:
        # The previous owner of the lease may have restored the store meanwhile.
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
        """Warn once if mirrors of another server or secret have restored the store."""
        others = None if self._reported else await self.archive.filled_by_others()
        if others is not None:
            self._reported = True
            _log.warn(
                "Records of other mirrors in the store are not used: {others};"
                " [redis] key_prefix separates mirrors",
                others=others,
            )

    async def _newest(self) -> CheckedSnapshot | None:
        await self.repository.clean()
        return await self.repository.newest_usable(self.owner)

    async def _restore(self, whole: CheckedSnapshot) -> None:
        began = self.reactor.seconds()
        admitted = await restore_records(self.archive, self.repository, whole)
        seconds = self.reactor.seconds() - began
        size = whole.stored.size_bytes
        self.metrics.snapshot(
            RESTORE, at=self.now(), seconds=seconds, size_bytes=size, records=admitted
        )
        _log.info(
            "Restored: name={name} records={records} of={all} seconds={seconds}",
            records=admitted,
            all=whole.summary.records,
            name=whole.stored.name.text,
            seconds=round(seconds, 3),
        )
