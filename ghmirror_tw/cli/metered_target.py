"""Shows how far the reading and writing of snapshots has come, whoever does it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from attrs import define, field
from zope.interface import implementer

from ghmirror_tw.cli.progress import Progress
from ghmirror_tw.redis_store.redis_archive import RedisArchive
from ghmirror_tw.snapshots.snapshot_names import SnapshotName, StoredSnapshot
from ghmirror_tw.snapshots.target_interface import ITarget
from ghmirror_tw.store.store_interface import Pair


@implementer(ITarget)
@define(eq=False)
class MeteredTarget:
    """A target whose reading and writing is seen; *doing* says what for."""

    target: Any
    progress: Progress
    doing: str = ""
    _sizes: dict[SnapshotName, int] = field(init=False, factory=dict)

    @property
    def where(self) -> str:
        """What it is called."""
        where: str = self.target.where
        return where

    async def listing(self) -> tuple[StoredSnapshot, ...]:
        """Return what is there."""
        listed: tuple[StoredSnapshot, ...] = await self.target.listing()
        self._sizes = {each.name: each.size_bytes for each in listed}
        return listed

    async def write(self, name: SnapshotName, chunks: AsyncIterator[bytes]) -> int:
        """Write a snapshot, and show how much of it there is."""
        self.progress.begin(self.doing or f"Writing {name.text}", None)
        try:
            written: int = await self.target.write(name, self._seen(chunks))
        finally:
            self.progress.end()
        return written

    async def _seen(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        async for chunk in chunks:
            self.progress.advance(len(chunk))
            yield chunk

    async def read(self, name: SnapshotName) -> AsyncGenerator[bytes]:
        """Read a snapshot, and show how much of it has come."""
        self.progress.begin(self.doing or f"Reading {name.text}", self._sizes.get(name))
        try:
            async with aclosing(self.target.read(name)) as chunks:
                async for chunk in chunks:
                    self.progress.advance(len(chunk))
                    yield chunk
        finally:
            self.progress.end()

    async def delete(self, name: SnapshotName) -> None:
        """Delete a snapshot."""
        await self.target.delete(name)

    async def clean(self) -> int:
        """Remove what crashed writes have left."""
        removed: int = await self.target.clean()
        return removed


@define(eq=False)
class MeteredArchive(RedisArchive):
    """Records of which is seen how many are copied."""

    progress: Progress = field(kw_only=True)

    async def dump(self) -> AsyncGenerator[list[Pair]]:
        """Give all records, and count them."""
        async with aclosing(RedisArchive.dump(self)) as batches:
            async for pairs in batches:
                self.progress.count(len(pairs))
                yield pairs
