"""A queue of writes that failed while Redis was away, sent once it is back (write-behind)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from enum import Enum
from typing import Any, Final

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ghmirror_tw.redis import RedisUnavailableError
from ghmirror_tw.runtime.deferreds import add_waiter, do_nothing, wake

#: How many writes of each kind are queued; beyond that the oldest is dropped.
MAX_QUEUED: Final = 50_000
#: How many records are written at a time; batches are `PAUSE_S` apart, so that the load is spread.
BATCH: Final = 100
#: The same of durable writes: requests wait for them.
DURABLE_BATCH: Final = 1000
PAUSE_S: Final = 0.25


class WriteKind(Enum):
    """What a write is for, in the order in which queued writes are flushed.

    A write of one kind evicts no write of another kind. All but RECORD are durable: they end
    permissions (see `caching.epochs`), and must not be lost.

    EPOCH: it replaces an epoch. REFUSAL: it ends a grant or a negative response that this process
    has stored. FIRST_REFUSAL: it ends none that this process knows of, as the first 404 for a key;
    any client can cause many of them.
    """

    EPOCH = "epoch"
    REFUSAL = "refusal"
    FIRST_REFUSAL = "first refusal"
    RECORD = "record"

    @property
    def is_durable(self) -> bool:
        """Whether it must not be lost."""
        return self is not WriteKind.RECORD


@frozen
class Write:
    """A write to Redis, and how it is queued if it fails with `RedisUnavailableError`.

    A later write of the same *name* replaces it; without a name it is not queued. *size*: about how
    many bytes of memory it takes.
    """

    run: Callable[[], Awaitable[object]]
    name: Hashable = None
    kind: WriteKind = WriteKind.RECORD
    size: int = 0


@define(eq=False)
class _Lane:
    """The queued writes of one kind by name, the oldest first; *size*: their bytes."""

    kind: WriteKind
    writes: OrderedDict[Hashable, Write] = field(init=False, factory=OrderedDict)
    size: int = field(init=False, default=0)

    def put(self, write: Write) -> None:
        """Add a write, in place of an earlier one of its name."""
        self.remove(write.name)
        self.writes[write.name] = write
        self.size += write.size

    def remove(self, name: Hashable) -> None:
        """Remove a write, if it is there."""
        write = self.writes.pop(name, None)
        if write is not None:
            self.size -= write.size

    def pop(self) -> Write:
        """Remove the oldest write, and return it."""
        _, write = self.writes.popitem(last=False)
        self.size -= write.size
        return write


@define(eq=False)
class WriteBehind:
    """A queue with the last write of each name, flushed as soon as *possible* is true.

    Of each kind of writes, at most `MAX_QUEUED` and *max_bytes* are queued. Durable writes are
    flushed before the others. *emptied* is called when the queue is empty, and *lost* with a
    durable write that is dropped for a later one. *chance* returns a number from 0 to 1, which
    spreads the replicas of a fleet.
    """

    reactor: Any
    possible: Callable[[], bool]
    emptied: Callable[[], object]
    chance: Callable[[], float]
    max_bytes: int = 64 << 20
    lost: Callable[[Write], object] = do_nothing
    _lanes: dict[WriteKind, _Lane] = field(init=False)
    #: The names in the batch that is being written now, and whether some of it are durable.
    _in_flight: frozenset[Hashable] = field(init=False, default=frozenset())
    _durable_in_flight: bool = field(init=False, default=False)
    #: Whether a batch is being written now.
    is_flushing: bool = field(init=False, default=False)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _durable_waiters: list[Deferred[None]] = field(init=False, factory=list)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"))

    def __attrs_post_init__(self) -> None:
        self._lanes = {kind: _Lane(kind) for kind in WriteKind}

    def __len__(self) -> int:
        return sum([len(lane.writes) for lane in self._lanes.values()])

    def __bool__(self) -> bool:
        return any(lane.writes for lane in self._lanes.values())

    def __contains__(self, name: Hashable) -> bool:
        # A loop, since each look-up calls this: it takes half the time of `any`.
        for lane in self._lanes.values():
            if name in lane.writes:
                return True
        return name in self._in_flight

    @property
    def size(self) -> int:
        """About how many bytes of memory the queued writes take."""
        return sum([lane.size for lane in self._lanes.values()])

    @property
    def _queues_durable(self) -> bool:
        return any(lane.writes for kind, lane in self._lanes.items() if kind.is_durable)

    @property
    def has_durable(self) -> bool:
        """Whether a durable write is queued, or is being written."""
        return self._durable_in_flight or self._queues_durable

    def durable_flushed(self, timeout_s: float) -> Deferred[None]:
        """Fire when no durable write is left, or when *timeout_s* has passed."""
        if not self.has_durable:
            return succeed(None)
        return add_waiter(self.reactor, self._durable_waiters, timeout_s)

    def enqueue(self, write: Write) -> None:
        """Queue a write, in place of an earlier one of its kind and name."""
        lane = self._lanes[write.kind]
        lane.put(write)
        self._schedule()
        while len(lane.writes) > MAX_QUEUED or lane.size > self.max_bytes:
            dropped = lane.pop()
            if dropped.kind.is_durable:
                self.lost(dropped)

    def _schedule(self) -> None:
        if self._timer is None and not self.is_flushing:
            pause_s = PAUSE_S * (1.0 + self.chance())
            self._timer = self.reactor.callLater(pause_s, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if not self.possible():
            self._schedule()
            return
        self.is_flushing = True
        Deferred.fromCoroutine(self._write_batch()).addBoth(self._written)

    async def _write_batch(self) -> None:
        """Write one batch. A write that fails is queued again, unless there is a later one."""
        batch: list[Write] = []
        for kind, lane in self._lanes.items():
            most = DURABLE_BATCH if kind.is_durable else BATCH
            while lane.writes and len(batch) < most:
                batch.append(lane.pop())
        self._durable_in_flight = bool(batch) and batch[0].kind.is_durable
        self._in_flight = frozenset([write.name for write in batch])

        async def one(write: Write) -> None:
            try:
                await write.run()
            except RedisUnavailableError:
                lane = self._lanes[write.kind]
                if write.name not in lane.writes:
                    lane.put(write)
            except Exception:  # noqa: BLE001 - the other writes must be written in any case
                self._log.failure("A queued write to Redis failed and was dropped")

        await gatherResults([Deferred.fromCoroutine(one(write)) for write in batch])

    def _written(self, _: object) -> None:
        self.is_flushing = self._durable_in_flight = False
        self._in_flight = frozenset()
        if not self._queues_durable:
            wake(self._durable_waiters)
        if self:
            self._schedule()
        else:
            self.emptied()

    def close(self) -> None:
        """Drop all writes."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._lanes = {kind: _Lane(kind) for kind in WriteKind}
        wake(self._durable_waiters)
