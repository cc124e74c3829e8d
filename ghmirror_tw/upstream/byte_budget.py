"""Budgets of bytes: how much content all requests together may hold, and what waits beyond that.

A budget is a semaphore that counts bytes. It is acquired before content is received, fetched from
a store or converted, so that a request in the queue holds none of them. There is one for each use,
in an order (small, large, forms, conversion). A request that holds bytes of one waits only for
bytes of a later one, so there is no deadlock.

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
from ghmirror_tw.runtime.quantities import size as size_text

#: Content of at most so many bytes is not counted: a connection needs as much itself.
FREE_BYTES: Final = 64 * 1024
#: Content of at most so many bytes never waits for larger content.
SMALL_BYTES: Final = 1024 * 1024
#: How long a request waits for its turn, in seconds. Clients that read release bytes sooner.
WAIT_S: Final = 10.0
#: `Retry-After` of a request that was refused, in seconds.
RETRY_S: Final = 5
#: How often room is made while requests wait, in seconds.
_ROUND_S: Final = 0.5
#: Without reference counting, only the garbage collector finds objects that are no longer used.
_COLLECTS: Final = sys.implementation.name == "pypy"


@define(eq=False)
class Reservation:
    """Bytes that a budget counts until they are released, by hand or at the end of a `with`."""

    _budget: ByteBudget
    size: int

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Release it."""
        self.release()

    def resize(self, size: int) -> None:
        """Count *size* bytes from now on, whatever the limit is."""
        more, self.size = size - self.size, size
        if more > 0:
            self._budget.held += more
        elif more:
            self._budget._give_back(-more)  # noqa: SLF001 - the other half of one thing

    def release(self) -> None:
        """Give the bytes back; at most once."""
        size, self.size = self.size, 0
        if size:
            self._budget._give_back(size)  # noqa: SLF001 - the other half of one thing


@define(eq=False)
class _Waiter:
    """A request in the queue, with the bytes that it needs."""

    size: int
    turn: Deferred[Reservation]
    timeout: IDelayedCall | None = None


@define(eq=False)
class ByteBudget:
    """Bounds the bytes that are held for one *use*; first come, first served.

    *wait_s*: after so long in the queue a request is refused; None: it never is. *name*: the option
    that sets the limit, for the message of a refusal. *make_room* is called while requests wait.
    """

    reactor: Any
    use: str
    limit: int
    wait_s: float | None = WAIT_S
    name: str = ""
    make_room: Callable[[], object] = bool
    #: Bytes that are held now.
    held: int = field(default=0, init=False)
    #: How many requests have waited, and how many of them were refused.
    waits: int = field(default=0, init=False)
    refusals: int = field(default=0, init=False)
    _queue: deque[_Waiter] = field(factory=deque, init=False)
    #: By identity and length of content: how many objects hold it, and what is counted for it.
    _kept: dict[tuple[int, int], tuple[list[None], Reservation]] = field(factory=dict, init=False)
    _round: IDelayedCall | None = field(default=None, init=False)
    _thread: int = field(factory=get_ident, init=False)

    def charge(self, size: int) -> Reservation:
        """Count *size* bytes that are held already, whatever the limit is."""
        self.held += size
        return Reservation(self, size)

    def is_full(self, size: int) -> bool:
        """Tell whether *size* bytes do not fit now."""
        return bool(self._queue) or self.held + size > self.limit

    def acquire(self, size: int) -> Deferred[Reservation]:
        """Fire with a reservation of *size* bytes, of the whole limit at most, once they fit.

        Fails with `MirrorError` (503) after `wait_s`. May be cancelled.
        """
        size = min(size, self.limit)
        if not self.is_full(size):
            return succeed(self.charge(size))
        self.waits += 1
        waiter = _Waiter(size, Deferred(lambda _: self._leave(waiter)))
        self._queue.append(waiter)
        if self.wait_s is not None:
            waiter.timeout = self.reactor.callLater(self.wait_s, self._refuse, waiter)
        if self._round is None:
            self._round = self.reactor.callLater(0, self._go_round)
        return waiter.turn

    def keep(self, owner: object, content: bytes) -> None:
        """Count *content* until *owner* is gone; for several owners it is counted once."""
        key = (id(content), len(content))
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = ([], self.charge(len(content)))
        kept[0].append(None)
        weakref.finalize(owner, self._lose, key).atexit = False

    def refused(self) -> error_responses.MirrorError:
        """Return the error response for a request that finds no room, and count it."""
        self.refusals += 1
        limit = f"{self.name} = {size_text(self.limit)}" if self.name else size_text(self.limit)
        return error_responses.byte_budget_exhausted(self.use, limit, RETRY_S)

    # How bytes come back.

    def _lose(self, key: tuple[int, int]) -> None:
        """Note that an owner is gone. The last reference to it may be dropped in any thread."""
        if get_ident() == self._thread:
            self._lost(key)
        else:
            self.reactor.callFromThread(self._lost, key)

    def _lost(self, key: tuple[int, int]) -> None:
        owners, reservation = self._kept[key]
        owners.pop()
        if not owners:
            del self._kept[key]
            reservation.release()

    def _give_back(self, size: int) -> None:
        self.held -= size
        # In the next turn of the reactor: content that is passed on in this one has its next owner.
        if self._queue and (self._round is None or self._round.getTime() > self.reactor.seconds()):
            if self._round is not None:
                self._round.cancel()
            self._round = self.reactor.callLater(0, self._go_round)

    # The queue.

    def _go_round(self) -> None:
        """Admit the requests that fit. While others wait, make room, and repeat."""
        self._round = None
        self._let_in()
        if self._queue:
            self.make_room()
            if _COLLECTS:
                gc.collect()
        if self._queue and self._round is None:
            self._round = self.reactor.callLater(_ROUND_S, self._go_round)

    def _let_in(self) -> None:
        while self._queue and self.held + self._queue[0].size <= self.limit:
            waiter = self._queue.popleft()
            self._stop(waiter)
            waiter.turn.callback(self.charge(waiter.size))

    def _refuse(self, waiter: _Waiter) -> None:
        waiter.timeout = None
        self._queue.remove(waiter)
        waiter.turn.errback(self.refused())
        self._let_in()
        self._rest()

    def _leave(self, waiter: _Waiter) -> None:
        if waiter in self._queue:
            self._queue.remove(waiter)
            self._stop(waiter)
            self._let_in()
            self._rest()

    def _rest(self) -> None:
        """Stop the rounds once no request waits."""
        if not self._queue and self._round is not None:
            self._round.cancel()
            self._round = None

    @staticmethod
    def _stop(waiter: _Waiter) -> None:
        timeout, waiter.timeout = waiter.timeout, None
        if timeout is not None:
            timeout.cancel()


#: The option that bounds all content of requests under way.
_OPTION: Final = "[memory] max_content_size"
#: What each use gets of it, in eighths.
_SMALL, _LARGE, _FORMS, _CONVERSION = 1, 3, 2, 2
#: Connections with a response that their client does not read may hold so many bytes.
UNREAD_BYTES: Final = 64 * 1024 * 1024
#: Heads of requests that are incomplete, or unusually large, may take so many bytes.
HEADS_BYTES: Final = 16 * 1024 * 1024


@define(eq=False)
class Budgets:
    """The budgets of one mirror.

    *small* and *large* are for content that is received from GitHub or fetched from a store;
    *forms* for content rewritten for clients; *conversion* for content in threads. *unread* and
    *heads* are for connections, which never wait: beyond the limit some are closed.
    """

    small: ByteBudget
    large: ByteBudget
    forms: ByteBudget
    conversion: ByteBudget
    unread: ByteBudget
    heads: ByteBudget

    @classmethod
    def of(cls, reactor: Any, content_bytes: int) -> Budgets:
        """Return budgets that bound content to *content_bytes*."""
        eighth = content_bytes // 8

        def part(use: str, parts: int, wait_s: float | None = WAIT_S) -> ByteBudget:
            return ByteBudget(reactor, use, parts * eighth, wait_s, _OPTION)

        return cls(
            part("small", _SMALL),
            part("large", _LARGE),
            part("forms", _FORMS),
            # It is the last in the order, so each request gets its turn, and none is refused.
            part("conversion", _CONVERSION, None),
            ByteBudget(reactor, "unread", UNREAD_BYTES),
            ByteBudget(reactor, "heads", HEADS_BYTES),
        )

    def __iter__(self) -> Any:
        """Iterate over all of them."""
        return iter((self.small, self.large, self.forms, self.conversion, self.unread, self.heads))

    def of_size(self, size: int) -> ByteBudget:
        """Return the budget for content of *size* bytes."""
        return self.small if size <= SMALL_BYTES else self.large

    def keep(self, owner: object, content: bytes) -> None:
        """Count received or stored content until *owner* is gone."""
        if len(content) > FREE_BYTES:
            self.of_size(len(content)).keep(owner, content)

    def room(self, most: int, length: int | None) -> Room:
        """Return room for content that is received: of *length* bytes, or of *most* at most."""
        return Room(self, most, length)


@define(eq=False)
class Room:
    """Room for content that is received, of *length* bytes or of *most* at most.

    Up to `FREE_BYTES` nothing is reserved. Where the length is unknown, `SMALL_BYTES` are reserved
    first, and *most* only if that is not enough.
    """

    _budgets: Budgets
    _most: int
    _length: int | None
    #: How many bytes there is room for.
    size: int = field(default=FREE_BYTES, init=False)
    _reservation: Reservation | None = field(default=None, init=False)

    async def grow(self) -> None:
        """Reserve more. Raises `MirrorError` (503) if that takes too long."""
        size = self._most if self._length is None else self._length
        is_last = self._length is not None or self.size >= SMALL_BYTES or size <= SMALL_BYTES
        size = size if is_last else SMALL_BYTES
        reservation = await self._budgets.of_size(size).acquire(size)
        self.release()
        self._reservation = reservation
        self.size = sys.maxsize if is_last else size

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Release it."""
        self.release()

    def release(self) -> None:
        """Release all of it."""
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.release()
