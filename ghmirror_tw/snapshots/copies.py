"""Making a copy of records at a target, and reading one back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ghmirror_tw.snapshots.retention import lost_most, superseded
from ghmirror_tw.snapshots.snapshot_errors import (
    NoRecordsError,
    NoSuchSnapshotError,
    OtherSecretError,
    OtherServerError,
    SnapshotError,
    TargetError,
    UnusableError,
)
from ghmirror_tw.snapshots.snapshot_format import LARGEST_BYTES, Header, Pair, Summary
from ghmirror_tw.snapshots.snapshot_names import SnapshotName, Stored
from ghmirror_tw.snapshots.snapshot_reader import Reader
from ghmirror_tw.snapshots.snapshot_writer import Writer
from ghmirror_tw.store.codec import Codec

_log: Final = Logger(namespace="ghmirror.snapshots")


@frozen
class Saved:
    """A snapshot that was made; *left_out* records were too large for it."""

    name: SnapshotName
    size_bytes: int
    records: int
    left_out: int


@frozen
class Whole:
    """A snapshot that has been read to its end once, and is what was written."""

    stored: Stored
    summary: Summary


@define(eq=False)
class Copies:
    """Snapshots of stores at *target* (an `ITarget`).

    A snapshot is read twice, first to check it and then to use it: its records go into a store
    while it is read, and none of a damaged one may. The second transfer needs no disk, which many
    containers don't have, and little memory. Each reading checks the whole snapshot.

    The reactor gets its turn after every block that is packed or unpacked. *codec* has the secret
    and *api_url* the server that the records of a usable snapshot belong to.
    """

    reactor: IReactorTime
    target: Any
    codec: Codec = field(factory=Codec)
    largest_bytes: int = LARGEST_BYTES
    api_url: str = ""
    #: When something was last read from the target, by the reactor's clock.
    read_at: float = field(init=False, default=0.0)

    async def save(self, header: Header, batches: AsyncGenerator[Sequence[Pair]]) -> Saved | None:
        """Write a snapshot of what *batches* gives, hottest first. Raises `TargetError`.

        The header's owner is one that may stand in a name; see `targets.owner_of`. Without any
        records nothing is written, and None is returned: an empty snapshot never counts.
        """
        writer = Writer(header, self.largest_bytes)
        name = SnapshotName(header.owner, header.written_at_ms)
        async with aclosing(batches):
            first = await anext((batch async for batch in batches if batch), None)
            if first is None:
                return None
            async with aclosing(_written(self.reactor, writer, first, batches)) as chunks:
                size = await self.target.write(name, chunks)
        if writer.left_out:
            _log.warn(
                "{n} records above {most} bytes are not in {name}",
                n=writer.left_out,
                most=self.largest_bytes,
                name=name.text,
            )
        return Saved(name, size, writer.records, writer.left_out)

    async def prune(self, owner: str, keep: int) -> int:
        """Delete the snapshots of *owner* that are `superseded`; return the number."""
        stored = [each for each in await self.target.listing() if each.name.owner == owner]
        lost = lost_most(stored)
        if lost is not None:
            _log.warn(
                "Snapshot holds less than half of the one before, which is kept until there is"
                " another as large: name={name} bytes={size} before={before}",
                name=lost[0].name.text,
                size=lost[0].size_bytes,
                before=lost[1].size_bytes,
            )
        old = superseded(stored, keep)
        for name in old:
            await self.target.delete(name)
        return len(old)

    async def make_room(self, owner: str) -> int:
        """Delete the snapshots of *owner* before its newest usable one; return the number."""
        whole = await self.newest_usable(owner)
        if whole is None or whole.stored.name.owner != owner:
            return 0
        old = [
            each.name
            for each in await self.target.listing()
            if each.name.owner == owner and each.order < whole.stored.order
        ]
        for name in old:
            await self.target.delete(name)
        return len(old)

    async def clean(self) -> None:
        """Remove what crashed writes have left. Trouble with that is logged and goes no further."""
        try:
            removed = await self.target.clean()
        except TargetError as error:
            _log.warn("Not cleaned up: {error}", error=str(error))
        else:
            if removed:
                _log.info("{n} unfinished snapshots were removed", n=removed)

    async def newest_usable(self, owner: str | None = None) -> Whole | None:
        """Return the newest usable snapshot of *owner*, or else of any owner; None without one.

        An unusable one is logged and skipped. Those of other servers or secrets are logged
        together. Raises `TargetError` when the target fails.
        """
        foreign: list[tuple[Stored, UnusableError]] = []
        try:
            return await self._newest_usable(owner, foreign)
        finally:
            if foreign:
                stored, error = foreign[0]
                _log.warn(
                    "Snapshots of another mirror are not used: count={count} newest={name}:"
                    " {error}",
                    count=len(foreign),
                    name=stored.name.text,
                    error=str(error),
                )

    async def _newest_usable(
        self, owner: str | None, foreign: list[tuple[Stored, UnusableError]]
    ) -> Whole | None:
        listed = await self.target.listing()
        for stored in sorted(listed, key=lambda each: each.name.owner != owner):
            try:
                return Whole(stored, await self.check_usable(stored, by_header=True))
            except (OtherSecretError, OtherServerError) as error:
                foreign.append((stored, error))
            except SnapshotError as error:
                _log.error(
                    "The snapshot {name} can't be used: {error}",
                    name=stored.name.text,
                    error=str(error),
                )
            except NoSuchSnapshotError:
                continue  # superseded and deleted meanwhile
        return None

    async def check(
        self,
        stored: Stored,
        see: Callable[[list[Pair]], object] = lambda _: None,
        see_header: Callable[[Header], object] = lambda _: None,
    ) -> Summary:
        """Read a snapshot to its end. Raises `SnapshotError` if it isn't whole, and `TargetError`.

        *see* is called with its records, which may be wrong until this has returned. *see_header*
        is called with the header, and may raise a `SnapshotError` to stop.
        """
        reader, header_seen = Reader(self.largest_bytes), False
        async with aclosing(self._read(reader, stored)) as lists:
            async for pairs in lists:
                if reader.header is not None and not header_seen:
                    header_seen = True
                    see_header(reader.header)
                see(pairs)
        return reader.finish()

    async def check_usable(
        self,
        stored: Stored,
        see: Callable[[list[Pair]], None] | None = None,
        *,
        by_header: bool = False,
    ) -> Summary:
        """Read a snapshot to its end, and check that records can be restored from it.

        Raises `UnusableError`, and the errors of `check`. With *by_header*, a snapshot is read no
        further if its header names another server or secret. One of version 1 has no fingerprint
        of its secret: there, one record that opens is enough.
        """
        opened = False

        def check_header(header: Header) -> None:
            foreign = self._foreign(Summary(header, 0, 0), 0, opened=True) if by_header else None
            if foreign is not None:
                raise foreign

        def open_one(pairs: list[Pair]) -> None:
            nonlocal opened
            opened = opened or any(self.codec.opens(*pair) for pair in pairs)
            if see is not None:
                see(pairs)

        summary = await self.check(stored, open_one, check_header)
        if not summary.records:
            raise NoRecordsError("it holds no records", stored.size_bytes, summary)
        foreign = self._foreign(summary, stored.size_bytes, opened=opened)
        if foreign is not None:
            raise foreign
        return summary

    def _foreign(self, summary: Summary, at: int, *, opened: bool) -> UnusableError | None:
        """Return the error for records of another server or secret; None where they are ours.

        *opened*: whether a record opens, which decides where the header has no fingerprint.
        """
        fingerprint, api_url = summary.header.fingerprint, summary.header.api_url
        if api_url not in {None, self.api_url}:
            text = f"its records are of {api_url}, and [github] api_url is {self.api_url}"
            return OtherServerError(text, at, summary)
        if fingerprint == self.codec.fingerprint or (fingerprint is None and opened):
            return None
        return OtherSecretError(
            "its records are sealed with another [cache] credential_secret"
            if fingerprint or fingerprint is None
            else "its records are not sealed, but [cache] credential_secret is set",
            at,
            summary,
        )

    async def pairs(self, whole: Whole) -> AsyncGenerator[list[Pair]]:
        """Give what a checked snapshot holds, hottest first. Use it within `aclosing`.

        Raises `SnapshotError` if it has changed since it was checked, `TargetError`.
        """
        reader = Reader(self.largest_bytes)
        async with aclosing(self._read(reader, whole.stored)) as lists:
            async for pairs in lists:
                if pairs:
                    yield pairs
        reader.finish()

    async def _read(self, reader: Reader, stored: Stored) -> AsyncGenerator[list[Pair]]:
        async with aclosing(self.target.read(stored.name)) as chunks:
            async for chunk in chunks:
                self.read_at = self.reactor.seconds()
                for pairs in reader.feed(chunk):
                    yield pairs
                    await deferLater(self.reactor, 0)


async def _written(
    reactor: IReactorTime,
    writer: Writer,
    first: Sequence[Pair],
    batches: AsyncGenerator[Sequence[Pair]],
) -> AsyncGenerator[bytes]:
    batch: Sequence[Pair] | None = first
    while batch is not None:
        for made in writer.add(batch):
            yield made
            await deferLater(reactor, 0)
        batch = await anext(batches, None)
    yield writer.finish()
