"""Which snapshots have been superseded by newer ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ghmirror_tw.snapshots.targets import SnapshotName


def superseded(names: Iterable[SnapshotName], keep: int) -> tuple[SnapshotName, ...]:
    """Return which to delete, oldest first: all but the *keep* newest of each owner."""
    if keep < 1:
        raise ValueError("at least one snapshot is kept")
    by_owner: defaultdict[str, set[SnapshotName]] = defaultdict(set)
    for name in names:
        by_owner[name.owner].add(name)
    old = [name for group in by_owner.values() for name in sorted(group)[:-keep]]
    return tuple(sorted(old, key=lambda name: (name.at_ms, name.owner)))
