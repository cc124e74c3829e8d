"""Byte budgets: semaphores that bound the content that all requests together hold in memory.

A budget is acquired before content is received, fetched from a store or converted, so that a
queued request holds no content. There is one budget for each use, in an order (small, large,
forms, conversion). A request that holds bytes of one budget waits only for bytes of a later one,
so there is no deadlock.

Content outlives the call that received it: a flight passes it to all requests that joined, and
those to their clients. So content is counted while any object that holds it is alive, and once for
all such objects.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any, Final, Self

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.http import error_responses
from ghmirror_tw.runtime.deferreds import do_nothing
from ghmirror_tw.runtime.quantity_formatting import size as size_text

#: Content of at most so many bytes is not counted: a connection needs as much itself.
FREE_BYTES: Final = 64 * 1024
#: Content of at most so many bytes never waits for larger content.
SMALL_BYTES: Final = 1024 * 1024
#: How long a request is queued, in seconds. Clients that read release bytes sooner.
MAX_QUEUED_S: Final = 10.0
#: `Retry-After` of a refused request, in seconds.
RETRY_AFTER_S: Final = 5
#: How often bytes are reclaimed while requests are queued, in seconds.
_ADMISSION_INTERVAL_S: Final = 0.5
#: Without reference counting, only the garbage collector finds objects that are no longer used.
_NEEDS_COLLECTOR: Final = sys.implementation.name == "pypy"


@define(eq=False)
class Reservation:
    """Bytes that a budget counts until `release`, or the end of a `with` block."""

    _budget: ByteBudget
    size: int

    def __enter__(self) -> Self:
        """Return the reservation."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Release the reservation."""
        self.release()

    def resize(self, size: int) -> None:
        """Count *size* bytes from now on, at any limit."""
        added, self.size = size - self.size, size
        if added > 0:
            self._budget.held += added
        elif added:
            self._budget.release(-added)

    def release(self) -> None:
        """Release the bytes; later calls do nothing."""
        size, self.size = self.size, 0
        if size:
            self._budget.release(size)


@define(eq=False)
class _Waiter:
    """A queued request, with the bytes that it needs."""

    size: int
    acquired: Deferred[Reservation]
    timeout: IDelayedCall | None = None


@define(eq=False)
class ByteBudget:
    """A FIFO semaphore over the bytes that are held for one *use*.

    *wait_s*: a request that is queued for so long is refused; None: never. *name*: the option that
    sets the limit, for the message of a refusal. *reclaim* is called while requests are queued.
    """

    reactor: Any
    use: str
    limit: int
    wait_s: float | None = MAX_QUEUED_S
    name: str = ""
    reclaim: Callable[[], object] = do_nothing
    #: Bytes that are held now.
    held: int = field(default=0, init=False)
    #: How many requests were queued, and how many of them were refused.
    waits: int = field(default=0, init=False)
    refusals: int = field(default=0, init=False)
    _queue: deque[_Waiter] = field(factory=deque, init=False)
    #: By identity and length of content: one item for each owner, and the reservation.
    _tracked: dict[tuple[int, int], tuple[list[None], Reservation]] = field(
        factory=dict, init=False
    )
    _admission: IDelayedCall | None = field(default=None, init=False)
    _thread: int = field(factory=get_ident, init=False)

    def charge(self, size: int) -> Reservation:
        """Count *size* bytes that are held already, at any limit."""
        self.held += size
        return Reservation(self, size)

    def is_full(self, size: int) -> bool:
        """Return whether *size* bytes do not fit now."""
        return bool(self._queue) or self.held + size > self.limit

    def acquire(self, size: int) -> Deferred[Reservation]:
        """Reserve *size* bytes, the whole limit at most, once they fit.

        Fails with `MirrorError` (503) after `wait_s`. May be cancelled.
        """
        size = min(size, self.limit)
        if not self.is_full(size):
            return succeed(self.charge(size))
        self.waits += 1
        waiter = _Waiter(size, Deferred(lambda _: self._cancel(waiter)))
        self._queue.append(waiter)
        if self.wait_s is not None:
            waiter.timeout = self.reactor.callLater(self.wait_s, self._refuse, waiter)
        if self._admission is None:
            self._admission = self.reactor.callLater(0, self._admit)
        return waiter.acquired

    def track(self, owner: object, content: bytes) -> None:
        """Count *content* until *owner* is finalised; for several owners it is counted once."""
        key = (id(content), len(content))
        tracked = self._tracked.get(key)
        if tracked is None:
            tracked = self._tracked[key] = ([], self.charge(len(content)))
        tracked[0].append(None)
        weakref.finalize(owner, self._finalised, key).atexit = False

    def refusal(self) -> error_responses.MirrorError:
        """Return the error response for a request whose bytes do not fit, and count it."""
        self.refusals += 1
        limit = f"{self.name} = {size_text(self.limit)}" if self.name else size_text(self.limit)
        return error_responses.byte_budget_exhausted(self.use, limit, RETRY_AFTER_S)

    def release(self, size: int) -> None:
        """Count *size* bytes less; called by reservations."""
        self.held -= size
        # In the next turn of the reactor: content that is passed on in this one has its next owner.
        if self._queue and (
            self._admission is None or self._admission.getTime() > self.reactor.seconds()
        ):
            self._cancel_admission()
            self._admission = self.reactor.callLater(0, self._admit)

    def _finalised(self, key: tuple[int, int]) -> None:
        """Note that an owner was finalised. Any thread may drop the last reference to it."""
        if get_ident() == self._thread:
            self._untrack(key)
        else:
            self.reactor.callFromThread(self._untrack, key)

    def _untrack(self, key: tuple[int, int]) -> None:
        owners, reservation = self._tracked[key]
        owners.pop()
        if not owners:
            del self._tracked[key]
            reservation.release()

    # The queue.

    def _admit(self) -> None:
        """Admit the requests that fit. While others are queued, reclaim bytes, and repeat."""
        self._admission = None
        self._admit_fitting()
        if self._queue:
            self.reclaim()
            if _NEEDS_COLLECTOR:
                gc.collect()
        if self._queue and self._admission is None:
            self._admission = self.reactor.callLater(_ADMISSION_INTERVAL_S, self._admit)

    def _admit_fitting(self) -> None:
        while self._queue and self.held + self._queue[0].size <= self.limit:
            waiter = self._queue.popleft()
            self._stop_timeout(waiter)
            waiter.acquired.callback(self.charge(waiter.size))

    def _refuse(self, waiter: _Waiter) -> None:
        waiter.timeout = None
        self._queue.remove(waiter)
        waiter.acquired.errback(self.refusal())
        self._queue_shrank()

    def _cancel(self, waiter: _Waiter) -> None:
        if waiter in self._queue:
            self._queue.remove(waiter)
            self._stop_timeout(waiter)
            self._queue_shrank()

    def _queue_shrank(self) -> None:
        self._admit_fitting()
        if not self._queue:
            self._cancel_admission()

    def _cancel_admission(self) -> None:
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.cancel()

    @staticmethod
    def _stop_timeout(waiter: _Waiter) -> None:
        timeout, waiter.timeout = waiter.timeout, None
        if timeout is not None:
            timeout.cancel()


#: The option that bounds all content of requests under way.
_OPTION: Final = "[memory] max_content_size"
#: The share of each use in it, in eighths.
_SMALL, _LARGE, _FORMS, _CONVERSION = 1, 3, 2, 2
#: Connections with a response that their client does not read may hold so many bytes.
UNREAD_BYTES: Final = 64 * 1024 * 1024
#: Heads of requests that are incomplete, or unusually large, may take so many bytes.
HEADS_BYTES: Final = 16 * 1024 * 1024
#: GraphQL requests may hold so many bytes of content, until all of it is received.
QUERIES_BYTES: Final = 8 * 1024 * 1024


@define(eq=False)
class ByteBudgets:
    """The byte budgets of one mirror.

    *small* and *large* are for content that is received from GitHub or fetched from a store;
    *forms* for variants made for clients; *conversion* for content in threads. *unread* and
    *heads* are for connections, which are never queued: beyond the limit some are closed. *queries*
    is for content of GraphQL requests. Its clients decide when it ends, so nothing waits for it.
    """

    small: ByteBudget
    large: ByteBudget
    forms: ByteBudget
    conversion: ByteBudget
    unread: ByteBudget
    heads: ByteBudget
    queries: ByteBudget

    @classmethod
    def of(cls, reactor: Any, content_bytes: int) -> ByteBudgets:
        """Return budgets that bound content to *content_bytes*."""
        eighth = content_bytes // 8

        def part(use: str, parts: int, wait_s: float | None = MAX_QUEUED_S) -> ByteBudget:
            return ByteBudget(reactor, use, parts * eighth, wait_s, _OPTION)

        return cls(
            part("small", _SMALL),
            part("large", _LARGE),
            part("forms", _FORMS),
            # The last in the order: each request is admitted in the end, and none is refused.
            part("conversion", _CONVERSION, None),
            ByteBudget(reactor, "unread", UNREAD_BYTES),
            ByteBudget(reactor, "heads", HEADS_BYTES),
            ByteBudget(reactor, "queries", QUERIES_BYTES),
        )

    def __iter__(self) -> Any:
        """Iterate over all of them."""
        held = self.small, self.large, self.forms, self.conversion
        return iter((*held, self.unread, self.heads, self.queries))

    def of_size(self, size: int) -> ByteBudget:
        """Return the budget for content of *size* bytes."""
        return self.small if size <= SMALL_BYTES else self.large

    def track(self, owner: object, content: bytes) -> None:
        """Count received or stored content until *owner* is finalised."""
        if len(content) > FREE_BYTES:
            self.of_size(len(content)).track(owner, content)

    def growing_reservation(self, limit: int, length: int | None) -> GrowingReservation:
        """Return a reservation for incoming content of *length* bytes, or *limit* at most."""
        return GrowingReservation(self, limit, length)


@define(eq=False)
class GrowingReservation:
    """A reservation for incoming content: of *length* bytes, or of *limit* at most.

    Up to `FREE_BYTES` nothing is reserved. Where the length is unknown, `SMALL_BYTES` are reserved
    first, and *limit* only if that is not enough.
    """

    _budgets: ByteBudgets
    _limit: int
    _length: int | None
    #: How many bytes may be received.
    size: int = field(default=FREE_BYTES, init=False)
    _reservation: Reservation | None = field(default=None, init=False)

    async def grow(self) -> None:
        """Reserve more. Raises `MirrorError` (503) if that takes too long."""
        size = self._limit if self._length is None else self._length
        is_last = self._length is not None or self.size >= SMALL_BYTES or size <= SMALL_BYTES
        size = size if is_last else SMALL_BYTES
        reservation = await self._budgets.of_size(size).acquire(size)
        self.release()
        self._reservation = reservation
        self.size = sys.maxsize if is_last else size

    def __enter__(self) -> Self:
        """Return the reservation."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Release the reservation."""
        self.release()

    def release(self) -> None:
        """Release all its bytes."""
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.release()
