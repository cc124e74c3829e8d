"""Snapshots by ElastiCache itself: created, exported to a bucket, and deleted when superseded.

AWS API reference, ElastiCache 2015-02-02: `CreateSnapshot`, `CopySnapshot`, `DescribeSnapshots`,
`DeleteSnapshot`. An export is a copy of a snapshot with a `TargetBucket`. Meanwhile the snapshot
has the status ``exporting``; then the bucket has one object for each shard, with the name of the
snapshot, a number and ``.rdb``. AWS has no prefix for exports: they are at the bucket's top level.
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

from ghmirror_tw.snapshots.aws_service import AwsService, call_aws
from ghmirror_tw.snapshots.blocking_threads import BlockingThreads
from ghmirror_tw.snapshots.retention import behind_newest
from ghmirror_tw.snapshots.snapshot_errors import NoSuchSnapshotError, TargetError

P = ParamSpec("P")
R = TypeVar("R")

_log: Final = Logger(namespace="ghmirror.snapshots")

#: The interval of checks whether a snapshot is due, in seconds.
CHECK_S: Final = 600.0

_POLL_S: Final = 15.0
_TIMEOUT_S: Final = 3600.0
_CHANGING: Final = {"creating", "copying", "exporting", "restoring"}
_TIME: Final = "%Y%m%dt%H%M%Sz"


@frozen
class ElastiCacheNames:
    """The names of a replication group's snapshots and exports, which AWS lower-cases."""

    group: str

    @property
    def prefix(self) -> str:
        """The prefix of all names; names of groups with longer IDs may have it as well."""
        return f"ghmirror-{self.group.lower()}-"

    def at(self, seconds: float) -> str:
        """Return the name of a snapshot of that time (seconds since the epoch)."""
        return self.prefix + datetime.fromtimestamp(seconds, UTC).strftime(_TIME)

    def time_of(self, name: str) -> float | None:
        """Return the time in a name, or None if it is not a name of the mirror's."""
        text = name.removeprefix(self.prefix)
        if not re.fullmatch(r"\d{8}t\d{6}z", text, re.ASCII):
            return None
        try:
            return datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return None

    def exported(self, key: str) -> str | None:
        """Return the snapshot of which an object in the bucket is an export, or None."""
        match = re.fullmatch(r"(?P<name>.+?)(-\d{4})?\.rdb", key, re.ASCII)
        return match["name"] if match and self.time_of(match["name"]) is not None else None


@frozen
class ElastiCacheSnapshot:
    """A snapshot in ElastiCache."""

    name: str
    status: str
    shards: int

    @classmethod
    def of(cls, described: dict[str, Any]) -> ElastiCacheSnapshot:
        """Return a snapshot as `DescribeSnapshots` has it."""
        shards = described.get("NumNodeGroups") or len(described.get("NodeSnapshots") or ()) or 1
        return cls(described["SnapshotName"], described.get("SnapshotStatus", ""), shards)


@define(eq=False)
class ElastiCacheSnapshots:
    """Keeps the *keep* newest snapshots of a replication group, and as many exports in a bucket.

    A `Schedule` calls `run` every `CHECK_S`. It does nothing until *interval_s* after the newest
    snapshot, which any replica may have made before a restart. It resumes an incomplete run.
    *now* returns seconds since the epoch.
    """

    reactor: IReactorTime
    threads: BlockingThreads
    elasticache: AwsService
    s3: AwsService
    group: str
    bucket: str
    keep: int
    interval_s: float
    now: Callable[[], float]
    poll_s: float = _POLL_S
    timeout_s: float = _TIMEOUT_S
    _named: ElastiCacheNames = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._named = ElastiCacheNames(self.group)

    async def run(self) -> None:
        """Create, export and delete what is due. Raises `TargetError`; the next run resumes."""
        snapshots = await self._existing()
        name = snapshots[0].name if snapshots else None
        if name is None or self._is_due(name):
            name = self._named.at(self.now())
            await self._do("creating a snapshot", self._create, name)
            _log.info("ElastiCache snapshot started: name={name}", name=name)
        snapshot = await self._available(name)
        await self._export(snapshot)
        await self._prune(name)

    def _is_due(self, newest: str) -> bool:
        return self.now() - (self._named.time_of(newest) or 0.0) >= self.interval_s

    async def _existing(self) -> list[ElastiCacheSnapshot]:
        """Return the mirror's snapshots in ElastiCache, newest first."""
        snapshots = await self._do("listing snapshots", self._describe)
        return sorted(snapshots, key=lambda each: each.name, reverse=True)

    async def _available(self, name: str) -> ElastiCacheSnapshot:
        """Return a snapshot when it is available."""
        deadline = self.reactor.seconds() + self.timeout_s
        while True:
            snapshot = await self._do(f"looking at {name}", self._describe_one, name)
            if snapshot.status == "available":
                return snapshot
            if snapshot.status not in _CHANGING:
                raise TargetError(
                    f"{self._where}: {name} cannot be used, its status is {snapshot.status}"
                )
            await self._poll_again(deadline, f"{name} is still {snapshot.status}")

    async def _poll_again(self, deadline: float, otherwise: str) -> None:
        if self.reactor.seconds() >= deadline:
            text = f"{self._where}: {otherwise} after {self.timeout_s:.0f} s"
            raise TargetError(f"{text}; the next run resumes")
        await deferLater(self.reactor, self.poll_s)

    async def _export(self, snapshot: ElastiCacheSnapshot) -> None:
        """Export an available snapshot if it is not exported; a partial export is replaced."""
        keys = (await self._exports()).get(snapshot.name, [])
        if len(keys) >= snapshot.shards:
            return
        # AWS does not overwrite an existing object.
        await self._do("removing a partial export", self._remove, keys)
        await self._do(f"exporting {snapshot.name}", self._copy, snapshot.name)
        deadline = self.reactor.seconds() + self.timeout_s
        while True:
            await self._available(snapshot.name)
            keys = (await self._exports()).get(snapshot.name, [])
            if len(keys) >= snapshot.shards:
                break
            await self._poll_again(deadline, f"the export of {snapshot.name} is not complete")
        _log.info(
            "ElastiCache snapshot exported: name={name} bucket={bucket}",
            name=snapshot.name,
            bucket=self.bucket,
        )

    async def _prune(self, current: str) -> None:
        """Delete superseded snapshots and exports, and incomplete exports."""
        snapshots = await self._existing()
        for each in behind_newest(snapshots, self.keep, lambda _: True):
            if each.status not in {*_CHANGING, "deleting"}:
                await self._ignore_missing(
                    self._do(f"deleting {each.name}", self._delete, each.name)
                )
        shards = {each.name: each.shards for each in snapshots if each.status == "available"}
        exports = await self._exports()
        names = sorted(exports, reverse=True)
        complete = {name for name in names if len(exports[name]) >= shards.get(name, 1)}
        superseded = {*behind_newest(names, self.keep, complete.__contains__)}
        for name in names:
            if name != current and (name in superseded or name not in complete):
                await self._do("deleting exports", self._remove, exports[name])

    async def _ignore_missing(self, deleting: Any) -> None:
        try:
            await deleting
        except NoSuchSnapshotError:
            return

    async def _exports(self) -> dict[str, list[str]]:
        """Return the keys of the mirror's exports by snapshot."""
        return await self._do(f"listing s3://{self.bucket}", self._list)

    @property
    def _where(self) -> str:
        return f"ElastiCache {self.group}"

    async def _do(self, tried: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        where = f"{self._where}: {tried}"
        return await self.threads.run(lambda: call_aws(where, work, *args, **kwargs))

    # In a thread.

    def _create(self, name: str) -> None:
        self.elasticache.client.create_snapshot(ReplicationGroupId=self.group, SnapshotName=name)

    def _copy(self, name: str) -> None:
        self.elasticache.client.copy_snapshot(
            SourceSnapshotName=name, TargetSnapshotName=name, TargetBucket=self.bucket
        )

    def _delete(self, name: str) -> None:
        self.elasticache.client.delete_snapshot(SnapshotName=name)

    def _snapshots(self, **filters: str) -> Iterator[ElastiCacheSnapshot]:
        pages = self.elasticache.client.get_paginator("describe_snapshots")
        for page in pages.paginate(**filters):
            yield from (ElastiCacheSnapshot.of(each) for each in page.get("Snapshots", ()))

    def _describe(self) -> list[ElastiCacheSnapshot]:
        every = self._snapshots(SnapshotSource="user")
        return [each for each in every if self._named.time_of(each.name) is not None]

    def _describe_one(self, name: str) -> ElastiCacheSnapshot:
        for each in self._snapshots(SnapshotName=name):
            return each
        raise NoSuchSnapshotError(f"{self._where}: {name} no longer exists")

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
