"""Several Deferreds as one, which fails as soon as one of them does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

T = TypeVar("T")


async def gather(deferreds: Sequence[Deferred[T]]) -> list[T]:
    """Return all results. If one fails, cancel the others and raise its exception."""
    try:
        return list(await gatherResults(deferreds, consumeErrors=True))
    except FirstError as error:
        for each in deferreds:
            each.cancel()
        error.subFailure.raiseException()
        raise
