"""The interface of targets: places where snapshots are stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from ghmirror_tw.snapshots.snapshot_names import SnapshotName, StoredSnapshot


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
