"""Which snapshots are superseded by newer ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ghmirror_tw.snapshots.format import may_hold_records
from ghmirror_tw.snapshots.targets import SnapshotName, Stored, newest_first


def superseded(stored: Iterable[Stored], keep: int) -> tuple[SnapshotName, ...]:
    """Return which to delete, oldest first: what is older than the *keep* newest of its owner.

    A snapshot without records does not count among the newest, so that empty ones never displace
    the last usable one.
    """
    if keep < 1:
        raise ValueError("at least one snapshot is kept")
    by_owner: defaultdict[str, set[Stored]] = defaultdict(set)
    for each in stored:
        by_owner[each.name.owner].add(each)
    old: list[Stored] = []
    for owner, group in by_owner.items():
        usable = newest_first([each for each in group if may_hold_records(owner, each.size_bytes)])
        old += [each for each in group if usable and each.order < usable[:keep][-1].order]
    return tuple([each.name for each in reversed(newest_first(old))])
