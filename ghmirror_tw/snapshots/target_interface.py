"""What every place does where snapshots are kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from ghmirror_tw.snapshots.snapshot_names import SnapshotName, Stored


class ITarget(Interface):
    """Keeps snapshots under their names, each whole or not at all.

    What is not called as a snapshot of ours is neither listed nor touched. All methods raise
    `TargetError`, whose text says what was tried and why it failed, and never a secret. They are
    coroutines that may be cancelled; that takes effect when the blocking call under way has ended.
    """

    where: str = Attribute("What logs call this place.")

    def listing() -> Coroutine[Deferred[Any], Any, tuple[Stored, ...]]:
        """Return what is there, newest first."""

    def write(
        name: SnapshotName, chunks: AsyncIterator[bytes]
    ) -> Coroutine[Deferred[Any], Any, int]:
        """Keep what *chunks* gives, and return how many bytes that were.

        The snapshot is there when this returns. When it fails, by its own fault, that of *chunks*,
        or by cancelling, nothing stays.
        """

    def read(name: SnapshotName) -> AsyncGenerator[bytes]:
        """Give what is kept, in chunks of at most `CHUNK_BYTES`.

        Use it within `contextlib.aclosing`: what it holds open is closed by `aclose` only.
        Raises `NoSuchSnapshotError` at the first chunk if it isn't there.
        """

    def delete(name: SnapshotName) -> Coroutine[Deferred[Any], Any, None]:
        """Delete a snapshot; it is no error if it isn't there."""

    def clean() -> Coroutine[Deferred[Any], Any, int]:
        """Remove what writes that were cut off by a crash have left; return how many it was.

        Only what is called as ours and older than `LEFTOVER_S`: others may be writing now.
        """
