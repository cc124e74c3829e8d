"""Threads for work on large content, which would block the reactor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Final, ParamSpec, Protocol, TypeVar, cast

from attrs import define, field
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

#: Content above this many bytes is compressed, decompressed, rewritten and hashed in a thread.
LARGE_BYTES: Final = 256 * 1024

P = ParamSpec("P")
R = TypeVar("R")

#: Content and the result of its conversion are in memory at the same time.
_COPIES: Final = 2


class ByteSemaphore(Protocol):
    """A semaphore that bounds the bytes in conversion."""

    def acquire(self, size: int) -> Awaitable[AbstractContextManager[object]]:
        """Return a reservation of *size* bytes once they fit."""


@define
class ContentThreads:
    """Calls functions on content: small one at once, large one in a bounded thread pool.

    *budget* bounds the bytes in conversion.
    """

    reactor: IReactorFromThreads
    budget: ByteSemaphore | None = None
    pool: ThreadPool = field(factory=lambda: ThreadPool(0, 2, name="content"))

    def open(self) -> None:
        """Start the pool."""
        self.pool.start()

    def close(self) -> None:
        """Stop the pool after the calls that run in it."""
        if self.pool.started and not self.pool.joined:
            self.pool.stop()

    async def run(
        self, size_bytes: int, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Return the result of *work*, whose arguments hold *size_bytes* of content."""
        if size_bytes <= LARGE_BYTES:
            return work(*args, **kwargs)
        if self.budget is None:
            return await self.run_blocking(work, *args, **kwargs)
        with await self.budget.acquire(_COPIES * size_bytes):
            return await self.run_blocking(work, *args, **kwargs)

    async def run_blocking(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the result of *work*, which may wait for a file or for another server."""
        return cast(R, await deferToThreadPool(self.reactor, self.pool, work, *args, **kwargs))
