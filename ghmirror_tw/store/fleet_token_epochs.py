"""Epochs of tokens, written for the whole fleet (see `caching.epochs`)."""

from __future__ import annotations

from typing import Any, cast

from attrs import define
from twisted.internet.defer import Deferred, succeed

from ghmirror_tw.caching.epochs import epoch_shows_acceptance, new_epoch
from ghmirror_tw.runtime.deferreds import add_waiter, wake
from ghmirror_tw.store.memory_store import MemoryStore
from ghmirror_tw.store.remote_interface import EpochWrite, IRemoteHistory, IRemoteRecords
from ghmirror_tw.store.remote_writes import RemoteWrites, epoch_name, size_of_write
from ghmirror_tw.store.write_behind_queue import Write, WriteKind


@define(eq=False)
class FleetEpochs:
    """Writes epochs to *memory* at once, and to *redis* by *writes*."""

    reactor: Any
    redis: IRemoteRecords
    memory: MemoryStore
    writes: RemoteWrites
    history: IRemoteHistory

    def begin(self, token: str, epoch: bytes, since: float) -> bytes | None:
        """Begin an epoch, unless there is one; see `IStore.begin_epoch`."""
        if self.redis.history is None:
            return None
        began = self.memory.begin_epoch(token, epoch, since)
        if began == epoch:
            self._write(token, epoch, EpochWrite.IF_ABSENT)
        return began

    def revoke(self, token: str, epoch: bytes) -> None:
        """Replace the epoch of a token, if any; the write must not be lost."""
        self.memory.revoke(token, epoch)
        self._write(token, epoch, EpochWrite.IF_PRESENT)

    def replace(
        self, token: str, epoch: bytes, timeout_s: float, *, if_present: bool = False
    ) -> Deferred[None]:
        """Replace any epoch; fire when Redis has it, or after *timeout_s*."""
        self.memory.replace_epoch(token, epoch, if_present=if_present)
        over = EpochWrite.IF_PRESENT if if_present else EpochWrite.ALWAYS
        self._write(token, epoch, over)
        sent = self.writes.latest(token)
        if sent is None:
            return succeed(None)
        waiters: list[Deferred[None]] = []
        sent.addCallback(lambda _: wake(waiters))
        return add_waiter(self.reactor, waiters, timeout_s)

    def note_lost(self, write: Write) -> None:
        """End the permissions that a write would have ended, which was dropped from a full queue.

        In place of a refusal, all permissions of its token end; in place of an epoch, those of all
        tokens.
        """
        if write.kind is WriteKind.EPOCH:
            self.history.renew()
            return
        *_, token = cast("tuple[str, ...]", write.name)
        known = self.memory.epoch(token)
        accepted = known is not None and epoch_shows_acceptance(known)
        self.revoke(token, new_epoch(accepted=accepted))

    def _write(self, token: str, epoch: bytes, over: EpochWrite) -> None:
        """Write an epoch; a write from the queue stores another one in its place.

        A late write may follow writes of other replicas, and must not permit grants from before
        those.
        """
        at_once = [epoch]

        async def put() -> None:
            if self.redis.history is None and self.redis.servers.writing:
                await self.history.looked_up(self.writes.timeout_s)
            own = at_once.pop() if at_once else new_epoch(accepted=epoch_shows_acceptance(epoch))
            if own != epoch and self.memory.epoch(token) is not None:
                self.memory.set_epoch(token, own)
            stored = await self.redis.put_epoch(token, own, self.writes.timeout_s, over)
            if stored != own and self.memory.epoch(token) == own:
                self.memory.set_epoch(token, stored)

        kind = WriteKind.RECORD if over is EpochWrite.IF_ABSENT else WriteKind.EPOCH
        write = Write(put, epoch_name(token), kind, size_of_write())
        self.writes.send(token, write)
