"""Writes snapshots to a target, lists and deletes them, checks them and reads their records."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ghmirror_tw.snapshots.retention import shrunk, superseded
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
from ghmirror_tw.snapshots.snapshot_names import SnapshotName
from ghmirror_tw.snapshots.snapshot_reader import SnapshotReader
from ghmirror_tw.snapshots.snapshot_writer import SnapshotWriter
from ghmirror_tw.snapshots.target_interface import StoredSnapshot
from ghmirror_tw.store.record_sealing import Codec

_log: Final = Logger(namespace="ghmirror.snapshots")


@frozen
class SavedSnapshot:
    """A snapshot that was written; *left_out* records were too large for it."""

    name: SnapshotName
    size_bytes: int
    records: int
    left_out: int


@frozen
class CheckedSnapshot:
    """A snapshot that was read to its end and is undamaged."""

    stored: StoredSnapshot
    summary: Summary


@define(eq=False)
class SnapshotRepository:
    """Snapshots of stores at *target* (an `ITarget`).

    A snapshot is read twice, first to check it and then to restore it: records are stored while the
    snapshot is read, and none of a damaged one may be stored. A second transfer needs no disk,
    which many containers lack, and little memory. Each reading checks the whole snapshot.

    Control returns to the reactor after each block. Records of a usable snapshot are sealed with
    the secret of *codec* and come from the server *api_url*.
    """

    reactor: IReactorTime
    target: Any
    codec: Codec = field(factory=Codec)
    largest_bytes: int = LARGEST_BYTES
    api_url: str = ""
    #: The time of the last read from the target, by the reactor's clock.
    read_at: float = field(init=False, default=0.0)
    #: The snapshots of other servers or secrets that the last search has skipped.
    foreign_count: int = field(init=False, default=0)
    #: The option because of which the newest of them was skipped; None: none was.
    foreign_option: str | None = field(init=False, default=None)

    async def save(
        self, header: Header, batches: AsyncGenerator[Sequence[Pair]]
    ) -> SavedSnapshot | None:
        """Write a snapshot of the records of *batches*, most recently used first.

        The header's owner must be valid in a name; see `owner_of`. Without any records nothing is
        written, and None is returned. Raises `TargetError`.
        """
        writer = SnapshotWriter(header, self.largest_bytes)
        name = SnapshotName(header.owner, header.written_at_ms)
        async with aclosing(batches):
            first = await anext((batch async for batch in batches if batch), None)
            if first is None:
                return None
            async with aclosing(_chunks(self.reactor, writer, first, batches)) as chunks:
                size = await self.target.write(name, chunks)
        if writer.left_out:
            _log.warn(
                "Records omitted from a snapshot: count={n} larger_than={most} name={name}",
                n=writer.left_out,
                most=self.largest_bytes,
                name=name.text,
            )
        return SavedSnapshot(name, size, writer.records, writer.left_out)

    async def prune(self, owner: str, keep: int) -> int:
        """Delete the `superseded` snapshots of *owner*; return their number."""
        stored = [each for each in await self.target.listing() if each.name.owner == owner]
        lost = shrunk(stored)
        if lost is not None:
            _log.warn(
                "Snapshot is less than half as large as the one before, which is kept until another"
                " is as large: name={name} bytes={size} before={before}",
                name=lost[0].name.text,
                size=lost[0].size_bytes,
                before=lost[1].size_bytes,
            )
        old = superseded(stored, keep)
        for name in old:
            await self.target.delete(name)
        return len(old)

    async def make_room(self, owner: str) -> int:
        """Delete the snapshots of *owner* older than its newest usable one; return their number."""
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
        """Remove the files of interrupted writes; a failure is only logged."""
        try:
            removed = await self.target.clean()
        except TargetError as error:
            _log.warn("Unfinished snapshots not removed: error={error}", error=str(error))
        else:
            if removed:
                _log.info("Unfinished snapshots removed: count={n}", n=removed)

    async def newest_usable(self, owner: str | None = None) -> CheckedSnapshot | None:
        """Return the newest usable snapshot of *owner*, or else of any owner, or None.

        Unusable ones are logged and skipped; those of other servers or secrets are logged
        together. Raises `TargetError`.
        """
        foreign: list[tuple[StoredSnapshot, UnusableError]] = []
        try:
            return await self._newest_usable(owner, foreign)
        finally:
            self.foreign_count, self.foreign_option = len(foreign), None
            if foreign:
                stored, error = foreign[0]
                is_secret = isinstance(error, OtherSecretError)
                self.foreign_option = "credential_secret" if is_secret else "api_url"
                _log.warn(
                    "Snapshots of another mirror are not used: count={count} newest={name}:"
                    " {error}",
                    count=len(foreign),
                    name=stored.name.text,
                    error=str(error),
                )

    async def _newest_usable(
        self, owner: str | None, foreign: list[tuple[StoredSnapshot, UnusableError]]
    ) -> CheckedSnapshot | None:
        listed = await self.target.listing()
        for stored in sorted(listed, key=lambda each: each.name.owner != owner):
            try:
                return CheckedSnapshot(stored, await self.check_usable(stored, by_header=True))
            except (OtherSecretError, OtherServerError) as error:
                foreign.append((stored, error))
            except SnapshotError as error:
                _log.error(
                    "Snapshot not usable: name={name} error={error}",
                    name=stored.name.text,
                    error=str(error),
                )
            except NoSuchSnapshotError:
                continue  # another replica has deleted it
        return None

    async def check(
        self,
        stored: StoredSnapshot,
        on_records: Callable[[list[Pair]], object] = lambda _: None,
        on_header: Callable[[Header], object] = lambda _: None,
    ) -> Summary:
        """Read a snapshot to its end. Raises `SnapshotError` if it is damaged, and `TargetError`.

        *on_records* is called with its records, which are unverified until this returns.
        *on_header* is called with the header, and may raise a `SnapshotError` to stop.
        """
        reader, header_seen = SnapshotReader(self.largest_bytes), False
        async with aclosing(self._read(reader, stored)) as lists:
            async for pairs in lists:
                if reader.header is not None and not header_seen:
                    header_seen = True
                    on_header(reader.header)
                on_records(pairs)
        return reader.finish()

    async def check_usable(
        self,
        stored: StoredSnapshot,
        on_records: Callable[[list[Pair]], None] | None = None,
        *,
        by_header: bool = False,
    ) -> Summary:
        """Read a snapshot to its end, and check that records can be restored from it.

        Raises `UnusableError`, and the errors of `check`. With *by_header*, reading stops
        if the header names another server or secret. A snapshot of version 1 has no fingerprint of
        its secret: it is usable if one record can be opened.
        """
        opened = False

        def check_header(header: Header) -> None:
            foreign = self._foreign(Summary(header, 0, 0), 0, opened=True) if by_header else None
            if foreign is not None:
                raise foreign

        def open_one(pairs: list[Pair]) -> None:
            nonlocal opened
            opened = opened or any(self.codec.opens(*pair) for pair in pairs)
            if on_records is not None:
                on_records(pairs)

        summary = await self.check(stored, open_one, check_header)
        if not summary.records:
            raise NoRecordsError("it contains no records", stored.size_bytes, summary)
        foreign = self._foreign(summary, stored.size_bytes, opened=opened)
        if foreign is not None:
            raise foreign
        return summary

    def _foreign(self, summary: Summary, at: int, *, opened: bool) -> UnusableError | None:
        """Return an error if the records have another server or secret than this mirror.

        *opened*: whether a record could be opened, which decides if the header has no fingerprint.
        """
        fingerprint, api_url = summary.header.fingerprint, summary.header.api_url
        if api_url not in {None, self.api_url}:
            text = f"its records are of {api_url}, and [github] api_url is {self.api_url}"
            return OtherServerError(text, at, summary)
        if fingerprint in self.codec.fingerprints or (fingerprint is None and opened):
            return None
        return OtherSecretError(
            "its records are sealed with another [cache] credential_secret"
            if fingerprint or fingerprint is None
            else "its records are not sealed, but [cache] credential_secret is set",
            at,
            summary,
        )

    async def pairs(self, whole: CheckedSnapshot) -> AsyncGenerator[list[Pair]]:
        """Yield the records of a checked snapshot, most recently used first. Use `aclosing`.

        Raises `SnapshotError` if it has changed since it was checked, and `TargetError`.
        """
        reader = SnapshotReader(self.largest_bytes)
        async with aclosing(self._read(reader, whole.stored)) as lists:
            async for pairs in lists:
                if pairs:
                    yield pairs
        reader.finish()

    async def _read(
        self, reader: SnapshotReader, stored: StoredSnapshot
    ) -> AsyncGenerator[list[Pair]]:
        async with aclosing(self.target.read(stored.name)) as chunks:
            async for chunk in chunks:
                self.read_at = self.reactor.seconds()
                for pairs in reader.feed(chunk):
                    yield pairs
                    await deferLater(self.reactor, 0)


async def _chunks(
    reactor: IReactorTime,
    writer: SnapshotWriter,
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
