"""Retention: which snapshots may be deleted, since newer ones supersede them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from ghmirror_tw.snapshots.snapshot_names import SnapshotName
from ghmirror_tw.snapshots.target_interface import StoredSnapshot, newest_first

T = TypeVar("T")

#: The most bytes of a snapshot without records, besides its owner. A sealed record is larger than
#: the kind of store and the fingerprint; a version with the server's URL has always records.
_EMPTY_BYTES: Final = 92


def behind_newest(stored: Sequence[T], keep: int, counts: Callable[[T], bool]) -> Sequence[T]:
    """Return the items behind the *keep* newest that count, or behind all of those.

    *stored* has the newest first.
    """
    counted = [index for index, each in enumerate(stored) if counts(each)][:keep]
    return stored[counted[-1] + 1 :] if counted else ()


def superseded(stored: Iterable[StoredSnapshot], keep: int) -> tuple[SnapshotName, ...]:
    """Return which to delete, oldest first: those older than the *keep* newest of their owner.

    A snapshot without records does not count among the newest, so that empty ones never displace
    the last usable one. The newest full one is always kept: a snapshot of a store that has lost
    most of its records does not displace the one that restores them.
    """
    if keep < 1:
        raise ValueError("at least one snapshot is kept")
    by_owner: defaultdict[str, list[StoredSnapshot]] = defaultdict(list)
    for each in set(stored):
        by_owner[each.name.owner].append(each)
    old: list[StoredSnapshot] = []
    for group in by_owner.values():
        behind = behind_newest(newest_first(group), keep, _is_usable)
        if behind:
            full = _newest_full(_usable(group))
            old += [each for each in behind if each != full]
    return tuple([each.name for each in reversed(newest_first(old))])


def shrunk(stored: Iterable[StoredSnapshot]) -> tuple[StoredSnapshot, StoredSnapshot] | None:
    """Return the two newest snapshots if the newest is less than half as large as the other."""
    newest = _usable(stored)[:2]
    if len(newest) < 2 or _is_full(newest[0], newest[1].size_bytes):  # noqa: PLR2004 - a pair
        return None
    return newest[0], newest[1]


def _usable(stored: Iterable[StoredSnapshot]) -> Sequence[StoredSnapshot]:
    return newest_first([each for each in stored if _is_usable(each)])


def _is_usable(stored: StoredSnapshot) -> bool:
    """Return whether a snapshot has more than a header and a trailer."""
    return stored.size_bytes > _EMPTY_BYTES + len(stored.name.owner)


def _is_full(stored: StoredSnapshot, size_bytes: int) -> bool:
    """Return whether a snapshot has at least half of *size_bytes*.

    The size is compared because the number of records is only at the end of a snapshot.
    """
    return 2 * stored.size_bytes >= size_bytes


def _newest_full(usable: Sequence[StoredSnapshot]) -> StoredSnapshot:
    largest = max(each.size_bytes for each in usable)
    return next(each for each in usable if _is_full(each, largest))
