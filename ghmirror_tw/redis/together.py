"""Several questions at a time, which are one to who asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

T = TypeVar("T")


async def together(asked: Sequence[Deferred[T]]) -> list[T]:
    """Return what came of each; if one fails, give up on the others, and fail so, too."""
    try:
        return list(await gatherResults(asked, consumeErrors=True))
    except FirstError as error:
        for each in asked:
            each.cancel()
        error.subFailure.raiseException()
        raise
