"""The interface of targets, where snapshots are stored, and what they return."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, Final

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from ghmirror_tw.snapshots.snapshot_names import SnapshotName

#: The bytes of one read.
CHUNK_BYTES: Final = 256 * 1024

#: The age from which an unfinished write counts as interrupted by a crash, in seconds.
LEFTOVER_S: Final = 86_400.0


@frozen
class StoredSnapshot:
    """A snapshot at a target; *written_at* is in seconds by the clock of the target."""

    name: SnapshotName
    size_bytes: int
    written_at: float = 0.0

    @property
    def order(self) -> tuple[float, int, str]:
        """The sort key: the target's time, then the name.

        The time in a name is that of a replica, whose clock may be wrong.
        """
        return (self.written_at, self.name.at_ms, self.name.owner)


def newest_first(stored: list[StoredSnapshot]) -> tuple[StoredSnapshot, ...]:
    """Return snapshots of all owners, newest first."""
    return tuple(sorted(stored, key=lambda each: each.order, reverse=True))


class ITarget(Interface):
    """Stores snapshots under their names; a snapshot is stored completely or not at all.

    Files with other names are neither listed nor changed. All methods raise `TargetError`, whose
    text has the operation and the reason, and no secret. They are coroutines that may be cancelled,
    which takes effect when the blocking call in progress has ended.
    """

    where: str = Attribute("The name of the target in logs.")

    def listing() -> Coroutine[Deferred[Any], Any, tuple[StoredSnapshot, ...]]:
        """Return the snapshots, newest first."""

    def write(
        name: SnapshotName, chunks: AsyncIterator[bytes]
    ) -> Coroutine[Deferred[Any], Any, int]:
        """Store the bytes of *chunks*, and return their number.

        The snapshot exists when this returns. After a failure of the target or of *chunks*, or
        after cancellation, it does not.
        """

    def read(name: SnapshotName) -> AsyncGenerator[bytes]:
        """Yield the content in chunks of at most `CHUNK_BYTES`.

        Use it within `contextlib.aclosing`, which closes its file or connection. Raises
        `NoSuchSnapshotError` at the first chunk if it does not exist.
        """

    def delete(name: SnapshotName) -> Coroutine[Deferred[Any], Any, None]:
        """Delete a snapshot; a missing one is no error."""

    def clean() -> Coroutine[Deferred[Any], Any, int]:
        """Remove the files of writes that a crash interrupted; return their number.

        Only files of the mirror older than `LEFTOVER_S`: other replicas may be writing now.
        """
