"""Fetches representations from the store, within the budget of bytes for content."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Known, Representation
from ghmirror_tw.store.store_interface import Deadline, IStore
from ghmirror_tw.upstream.byte_budget import FREE_BYTES, ByteBudgets


def fetched(  # noqa: PLR0913, PLR0917 - the parameters of `IStore.fetch`, and two more
    store: IStore,
    budgets: ByteBudgets,
    known: Known,
    key: CacheKey,
    digests: tuple[str, ...],
    store_deadline: Deadline,
    *,
    current: bool = False,
) -> Deferred[dict[str, Representation]]:
    """Return those of the representations that are in the store, by digest.

    Large ones, by their size in *known*, are fetched once the budget has room for them. Fails with
    `MirrorError` (503) if it has none in time.
    """
    sizes = [e.size for e in known.entries if e.size > FREE_BYTES and e.digest in digests]
    if not sizes:
        return store.fetch(key, digests, store_deadline, current=current)
    return Deferred.fromCoroutine(
        _fetched(store, budgets, sum(sizes), key, digests, store_deadline, current=current)
    )


async def _fetched(  # noqa: PLR0913, PLR0917 - see above
    store: Any,
    budgets: ByteBudgets,
    size: int,
    key: CacheKey,
    digests: tuple[str, ...],
    store_deadline: Deadline,
    *,
    current: bool,
) -> dict[str, Representation]:
    room = budgets.of_size(size).acquire(size)
    if not room.called:
        store_deadline = (
            store.store_deadline()
        )  # a new one: that of the request runs out during the wait
    with await room:
        found: dict[str, Representation] = await store.fetch(
            key, digests, store_deadline, current=current
        )
        # The reservation was for the size without gzip.
        for representation in found.values():
            budgets.track(representation, representation.packed)
        return found
