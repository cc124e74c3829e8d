"""ElastiCache's own snapshots: made, exported to a bucket, and deleted when newer ones are there.

AWS API reference, ElastiCache 2015-02-02: `CreateSnapshot`, `CopySnapshot`, `DescribeSnapshots`,
`DeleteSnapshot`. An export is a copy of a snapshot with a `TargetBucket`; while it is made the
snapshot is ``exporting``, and afterwards the bucket has one object for each shard, called as the
snapshot with a number and ``.rdb`` behind it. AWS knows no prefix: they stand at the bucket's top.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, ParamSpec, TypeVar

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ghmirror_tw.snapshots.aws_service import Service, ask
from ghmirror_tw.snapshots.blocking_threads import BlockingThreads
from ghmirror_tw.snapshots.snapshot_errors import NoSuchSnapshotError, TargetError

P = ParamSpec("P")
R = TypeVar("R")

_log: Final = Logger(namespace="ghmirror.snapshots")

#: How often to look whether a snapshot is due: the interval counts across restarts. In seconds.
CHECK_S: Final = 600.0

_POLL_S: Final = 15.0
_PATIENCE_S: Final = 3600.0
_CHANGING: Final = {"creating", "copying", "exporting", "restoring"}
_TIME: Final = "%Y%m%dt%H%M%Sz"


@frozen
class Named:
    """How snapshots of a replication group are called, and their exports; AWS has lower case."""

    group: str

    @property
    def prefix(self) -> str:
        """What they all begin with; so do those of groups with longer names."""
        return f"ghmirror-{self.group.lower()}-"

    def at(self, seconds: float) -> str:
        """Return the name of a snapshot of that time (seconds since the epoch)."""
        return self.prefix + datetime.fromtimestamp(seconds, UTC).strftime(_TIME)

    def time_of(self, name: str) -> float | None:
        """Return the time in a name, or None: then it is not ours, and is never touched."""
        text = name.removeprefix(self.prefix)
        if not re.fullmatch(r"\d{8}t\d{6}z", text, re.ASCII):
            return None
        try:
            return datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return None

    def exported(self, key: str) -> str | None:
        """Return the snapshot that an object in the bucket is an export of, or None."""
        match = re.fullmatch(r"(?P<name>.+?)(-\d{4})?\.rdb", key, re.ASCII)
        return match["name"] if match and self.time_of(match["name"]) is not None else None


@frozen
class _Held:
    """A snapshot that ElastiCache holds."""

    name: str
    status: str
    shards: int

    @classmethod
    def of(cls, said: dict[str, Any]) -> _Held:
        shards = said.get("NumNodeGroups") or len(said.get("NodeSnapshots") or ()) or 1
        return cls(said["SnapshotName"], said.get("SnapshotStatus", ""), shards)


@define(eq=False)
class ElastiCacheSnapshots:
    """Keeps the *keep* newest snapshots of a replication group, and as many exports in a bucket.

    `run` is what a `Schedule` calls every `CHECK_S`. It does nothing until *interval_s* have
    passed since the newest one was made, whoever made it. What an earlier run has left half-done
    is gone on with. *now* is the time in seconds since the epoch.
    """

    reactor: IReactorTime
    workers: BlockingThreads
    elasticache: Service
    s3: Service
    group: str
    bucket: str
    keep: int
    interval_s: float
    now: Callable[[], float]
    poll_s: float = _POLL_S
    patience_s: float = _PATIENCE_S
    _named: Named = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._named = Named(self.group)

    async def run(self) -> None:
        """Make, export and delete what is due. Raises `TargetError`; the next run goes on."""
        held = await self._held()
        name = held[0].name if held else None
        if name is None or self._is_due(name):
            name = self._named.at(self.now())
            await self._do("creating a snapshot", self._create, name)
            _log.info("ElastiCache makes the snapshot {name}", name=name)
        snapshot = await self._available(name)
        await self._export(snapshot)
        await self._prune(name)

    def _is_due(self, newest: str) -> bool:
        return self.now() - (self._named.time_of(newest) or 0.0) >= self.interval_s

    async def _held(self) -> list[_Held]:
        """Return what ElastiCache holds of ours, newest first."""
        held = await self._do("listing snapshots", self._describe)
        return sorted(held, key=lambda each: each.name, reverse=True)

    async def _available(self, name: str) -> _Held:
        """Return a snapshot when it has been made."""
        deadline = self.reactor.seconds() + self.patience_s
        while True:
            snapshot = await self._do(f"looking at {name}", self._describe_one, name)
            if snapshot.status == "available":
                return snapshot
            if snapshot.status not in _CHANGING:
                raise TargetError(f"{self._where}: {name} can't be used: it is {snapshot.status}")
            await self._later(deadline, f"{name} is still {snapshot.status}")

    async def _later(self, deadline: float, otherwise: str) -> None:
        if self.reactor.seconds() >= deadline:
            text = f"{self._where}: {otherwise} after {self.patience_s:.0f} s"
            raise TargetError(f"{text}; the next run goes on with it")
        await deferLater(self.reactor, self.poll_s)

    async def _export(self, snapshot: _Held) -> None:
        """Export an available snapshot, unless it has been; parts of an export are replaced."""
        keys = (await self._exports()).get(snapshot.name, [])
        if len(keys) >= snapshot.shards:
            return
        # AWS refuses to export over an object that is there.
        await self._do("removing half an export", self._remove, keys)
        await self._do(f"exporting {snapshot.name}", self._copy, snapshot.name)
        deadline = self.reactor.seconds() + self.patience_s
        while True:
            await self._available(snapshot.name)
            keys = (await self._exports()).get(snapshot.name, [])
            if len(keys) >= snapshot.shards:
                break
            await self._later(deadline, f"the export of {snapshot.name} is not whole")
        _log.info(
            "ElastiCache's snapshot {name} is in {bucket}", name=snapshot.name, bucket=self.bucket
        )

    async def _prune(self, current: str) -> None:
        """Delete what is superseded, and what is left of exports that never became whole."""
        held = await self._held()
        for each in held[self.keep :]:
            if each.status not in {*_CHANGING, "deleting"}:
                await self._forgive(self._do(f"deleting {each.name}", self._delete, each.name))
        shards = {each.name: each.shards for each in held if each.status == "available"}
        whole = 0
        for name, keys in sorted((await self._exports()).items(), reverse=True):
            is_whole = len(keys) >= shards.get(name, 1)
            whole += is_whole
            if name != current and (whole > self.keep or not is_whole):
                await self._do("deleting exports", self._remove, keys)

    async def _forgive(self, deleting: Any) -> None:
        try:
            await deleting
        except NoSuchSnapshotError:
            return

    async def _exports(self) -> dict[str, list[str]]:
        """Return the keys of our exports by snapshot."""
        return await self._do(f"listing s3://{self.bucket}", self._list)

    @property
    def _where(self) -> str:
        return f"ElastiCache {self.group}"

    async def _do(self, tried: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        where = f"{self._where}: {tried}"
        return await self.workers.run(lambda: ask(where, work, *args, **kwargs))

    # In a thread.

    def _create(self, name: str) -> None:
        self.elasticache.client.create_snapshot(ReplicationGroupId=self.group, SnapshotName=name)

    def _copy(self, name: str) -> None:
        self.elasticache.client.copy_snapshot(
            SourceSnapshotName=name, TargetSnapshotName=name, TargetBucket=self.bucket
        )

    def _delete(self, name: str) -> None:
        self.elasticache.client.delete_snapshot(SnapshotName=name)

    def _snapshots(self, **which: str) -> Iterator[_Held]:
        pages = self.elasticache.client.get_paginator("describe_snapshots")
        for page in pages.paginate(**which):
            yield from (_Held.of(each) for each in page.get("Snapshots", ()))

    def _describe(self) -> list[_Held]:
        every = self._snapshots(SnapshotSource="user")
        return [each for each in every if self._named.time_of(each.name) is not None]

    def _describe_one(self, name: str) -> _Held:
        for each in self._snapshots(SnapshotName=name):
            return each
        raise NoSuchSnapshotError(f"{self._where}: {name} is gone")

    def _list(self) -> dict[str, list[str]]:
        found: defaultdict[str, list[str]] = defaultdict(list)
        pages = self.s3.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket, Prefix=self._named.prefix):
            for each in page.get("Contents", ()):
                name = self._named.exported(each["Key"])
                if name is not None:
                    found[name].append(each["Key"])
        return found

    def _remove(self, keys: list[str]) -> None:
        for key in keys:
            self.s3.client.delete_object(Bucket=self.bucket, Key=key)
