"""ElastiCache's own snapshots: made when due, exported, superseded; others' are left alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from ghmirror_tw.snapshots.aws_service import AwsService
from ghmirror_tw.snapshots.blocking_threads import BlockingThreads
from ghmirror_tw.snapshots.elasticache import CHECK_S, ElastiCacheNames, ElastiCacheSnapshots
from ghmirror_tw.snapshots.schedule import Schedule
from ghmirror_tw.snapshots.snapshot_errors import TargetError
from ghmirror_tw.telemetry.metrics import Metrics
from tests.fakes.elasticache import ElastiCache, open_elasticache
from tests.fakes.s3 import KEY_ID, Bucket, Fault, open_bucket

reactor: Any = global_reactor

HOUR = 3600.0
NOON = 1_795_608_000.0
GROUP = "Sessions"
NAMED = ElastiCacheNames(GROUP)
NAME = "ghmirror-sessions-20261125t120000z"

groups = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,39}", fullmatch=True).filter(str.isascii)
times = st.integers(0, 253_402_300_799)


@given(groups, times, groups)
def test_names_round_trip(group: str, at: int, other: str) -> None:
    """With their exports; and none counts as that of another group."""
    named = ElastiCacheNames(group)
    name = named.at(at)
    assert named.time_of(name) == at
    for key in (f"{name}.rdb", f"{name}-0001.rdb"):
        assert named.exported(key) == name
    if other.lower() != group.lower():
        assert ElastiCacheNames(other).time_of(name) is None
        assert ElastiCacheNames(other).exported(f"{name}.rdb") is None


@pytest.mark.parametrize(
    "text",
    [
        "sessions-20261125t120000z",
        "ghmirror-sessions-20261325t120000z",
        "ghmirror-sessions-20261125T120000Z",
        "ghmirror-sessions-20261125t120000z-2",
        "ghmirror-sessions-x-20261125t120000z",
        "ghmirror-20261125t120000z",
    ],
)
def test_other_names_are_not_parsed(text: str) -> None:
    """It is nothing to us, and neither is what looks like its export."""
    assert NAMED.time_of(text) is None
    for key in (f"{text}.rdb", f"{text}-0001.rdb", f"{text}.rdb.bak", f"a/{text}.rdb"):
        assert NAMED.exported(key) is None
    assert NAMED.exported(NAME) is None
    assert NAMED.exported(f"{NAME}-001.rdb") is None


class Leaping(Clock):
    """A wait for a time ends at once."""

    def callLater(self, delay: float, callable: Any, *args: object, **kw: object) -> Any:  # noqa: A002
        made = super().callLater(delay, callable, *args, **kw)
        reactor.callLater(0, self.advance, delay)
        return made


class Noticing(Clock):
    """Notifies of the first wait for a time."""

    def __init__(self) -> None:
        super().__init__()
        self.polled: Deferred[None] = Deferred()

    def callLater(self, delay: float, callable: Any, *args: object, **kw: object) -> Any:  # noqa: A002
        reactor.callLater(0, self.polled.callback, None)
        return super().callLater(delay, callable, *args, **kw)


@pytest.mark.usefixtures("s3_server")
class Snapshots(TestCase):
    """A service, a bucket, and what makes snapshots there."""

    bucket: Bucket
    elasticache: ElastiCache

    async def opened(self, **more: Any) -> ElastiCacheSnapshots:
        self.bucket = await open_bucket(self)
        self.elasticache = open_elasticache(self, self.bucket)
        self.elasticache.groups = {GROUP: 2, "other": 1}
        self.clock = Leaping()
        threads = BlockingThreads(reactor)
        threads.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(threads.close()))
        elasticache = AwsService(self.elasticache.access(), "elasticache")
        s3 = AwsService(self.bucket.access(), "s3")
        for service in (elasticache, s3):
            self.addCleanup(service.close)
        settings: dict[str, Any] = {
            "group": GROUP,
            "bucket": self.bucket.name,
            "keep": 2,
            "interval_s": 6 * HOUR,
            "now": lambda: NOON + self.clock.seconds(),
            **more,
        }
        return ElastiCacheSnapshots(self.clock, threads, elasticache, s3, **settings)

    async def fails(self, snapshots: ElastiCacheSnapshots) -> str:
        try:
            await snapshots.run()
        except TargetError as error:
            output = str(error)
        else:
            raise AssertionError("it did not fail")
        assert KEY_ID not in output
        return output

    def keys(self, *times: float, shards: tuple[int, ...] = (1, 2)) -> list[str]:
        return [f"{NAMED.at(at)}-000{shard}.rdb" for at in times for shard in shards]

    async def test_snapshot_is_created_and_exported(self) -> None:
        """All shards are in the bucket when it's done; the waiting was polite."""
        snapshots = await self.opened()
        await snapshots.run()
        assert self.elasticache.actions() == ["CreateSnapshot", "CopySnapshot"]
        assert list(self.elasticache.snapshots) == [NAME]
        assert await self.bucket.keys() == self.keys(NOON)
        assert self.clock.seconds() >= 2 * snapshots.poll_s
        assert self.clock.getDelayedCalls() == []

    async def test_next_snapshot_is_created_when_due(self) -> None:
        """Not before: the interval counts from the name, for any replica and after any restart."""
        snapshots = await self.opened()
        await snapshots.run()
        began = self.clock.seconds()
        self.clock.advance(6 * HOUR - began - 1)
        await snapshots.run()
        assert len(self.elasticache.snapshots) == 1
        assert self.elasticache.actions() == ["CreateSnapshot", "CopySnapshot"]
        self.clock.advance(1)
        await snapshots.run()
        assert list(self.elasticache.snapshots) == [NAME, NAMED.at(NOON + 6 * HOUR)]
        assert await self.bucket.keys() == self.keys(NOON, NOON + 6 * HOUR)

    async def test_superseded_snapshots_and_exports_are_deleted(self) -> None:
        """The newest ones remain, snapshots and exports; others' are not touched."""
        snapshots = await self.opened()
        olds = [NOON - number * 12 * HOUR for number in (4, 3, 2, 1)]
        for at in olds:
            self.elasticache.add(NAMED.at(at), GROUP)
            for key in self.keys(at):
                await self.bucket.send("PUT", f"/{key}", b"x")
        theirs = [
            "nightly",
            "ghmirror-sessions-x-20261101t120000z",
            "ghmirror-other-20261101t120000z",
        ]
        for name in theirs:
            self.elasticache.add(name, "other")
            await self.bucket.send("PUT", f"/{name}-0001.rdb", b"x")
        self.elasticache.add("automatic.sessions-2026", GROUP, source="automated")
        self.elasticache.add(NAMED.at(NOON - 90 * HOUR), GROUP, source="automated")
        await snapshots.run()
        kept = {NAMED.at(at) for at in (NOON, olds[-1], NOON - 90 * HOUR)}
        assert set(self.elasticache.snapshots) == kept | {*theirs, "automatic.sessions-2026"}
        expected = self.keys(olds[-1], NOON) + [f"{name}-0001.rdb" for name in theirs]
        assert await self.bucket.keys() == sorted(expected)

    async def test_more_than_a_page(self) -> None:
        """All pages are looked at."""
        snapshots = await self.opened()
        self.elasticache.page = 2
        for number in range(7):
            self.elasticache.add(f"other-{number}", "other")
        self.elasticache.add(NAMED.at(NOON - HOUR), GROUP)
        await snapshots.run()
        assert "CreateSnapshot" not in self.elasticache.actions()

    async def test_incomplete_run_is_resumed(self) -> None:
        """Whether it died while the snapshot was made, before its export, or during it."""
        for status, exported in (("creating", 0), ("available", 0), ("exporting", 0)):
            snapshots = await self.opened()
            at = NOON - HOUR
            self.elasticache.add(NAMED.at(at), GROUP, status=status, left=3, bucket=NAMED.at(at))
            await snapshots.run()
            assert self.elasticache.actions() == ["CopySnapshot"][: status != "exporting"]
            assert await self.bucket.keys() == self.keys(at), exported

    async def test_partial_export_is_replaced(self) -> None:
        """AWS refuses to overwrite an object, so it is deleted first."""
        snapshots = await self.opened()
        at = NOON - HOUR
        self.elasticache.add(NAMED.at(at), GROUP)
        await self.bucket.send("PUT", f"/{self.keys(at)[0]}", b"half")
        await snapshots.run()
        assert await self.bucket.keys() == self.keys(at)
        assert (await self.bucket.send("GET", f"/{self.keys(at)[0]}")).content == b"REDIS0011"

    async def test_partial_export_of_an_older_snapshot_is_deleted(self) -> None:
        """It would only replace a complete one."""
        snapshots = await self.opened()
        for at, shards in ((NOON - 7 * HOUR, (2,)), (NOON - 14 * HOUR, (1, 2))):
            self.elasticache.add(NAMED.at(at), GROUP)
            for key in self.keys(at, shards=shards):
                await self.bucket.send("PUT", f"/{key}", b"x")
        await snapshots.run()
        assert await self.bucket.keys() == self.keys(NOON - 14 * HOUR, NOON)

    async def test_waiting_has_a_timeout(self) -> None:
        """Then it is reported, and the next run continues with it: nothing is made twice."""
        snapshots = await self.opened(interval_s=24 * HOUR)
        self.elasticache.looks = 10**6
        output = await self.fails(snapshots)
        assert f"ElastiCache {GROUP}: {NAME} is still creating after 3600 s" in output
        assert HOUR <= self.clock.seconds() <= HOUR + 2 * snapshots.poll_s
        self.elasticache.looks = 1
        self.elasticache.snapshots[NAME].left = 1
        await snapshots.run()
        assert self.elasticache.actions() == ["CreateSnapshot", "CopySnapshot"]
        assert await self.bucket.keys() == self.keys(NOON)

    async def test_export_that_is_never_completed(self) -> None:
        """It is reported; the next run makes it anew."""
        snapshots = await self.opened(interval_s=24 * HOUR)
        self.elasticache.loses_shards = 1
        output = await self.fails(snapshots)
        assert f"the export of {NAME} is not complete after 3600 s" in output
        self.elasticache.loses_shards = 0
        await snapshots.run()
        assert await self.bucket.keys() == self.keys(NOON)

    async def test_failed_snapshot(self) -> None:
        """It is reported by its state, and no other is made before the interval has passed."""
        snapshots = await self.opened()
        self.elasticache.add(NAMED.at(NOON - HOUR), GROUP, status="failed")
        assert "cannot be used, its status is failed" in await self.fails(snapshots)
        assert self.elasticache.actions() == []

    async def test_snapshot_that_is_deleted_meanwhile(self) -> None:
        """It is reported."""
        snapshots = await self.opened()

        def gone(action: str) -> None:
            if action == "CreateSnapshot":
                self.elasticache.snapshots.clear()

        self.elasticache.react = gone
        assert "it does not exist" in await self.fails(snapshots)

    async def test_deletion_of_a_missing_snapshot_is_no_error(self) -> None:
        """Another replica may have been faster."""
        snapshots = await self.opened(keep=1)
        olds = [NAMED.at(NOON - number * 12 * HOUR) for number in (1, 2)]
        for name in olds:
            self.elasticache.add(name, GROUP)

        def gone(action: str) -> None:
            if action == "DeleteSnapshot":
                for name in olds:
                    self.elasticache.snapshots.pop(name, None)

        self.elasticache.react = gone
        await snapshots.run()
        assert self.elasticache.actions().count("DeleteSnapshot") == 2
        assert list(self.elasticache.snapshots) == [NAME]

    async def test_quotas_and_permissions_are_reported(self) -> None:
        """Each is a line with the operation; the next run retries it."""
        snapshots = await self.opened()
        elasticache = self.elasticache
        where = f"ElastiCache {GROUP}: "
        elasticache.quota = 0
        assert await self.fails(snapshots) == (
            where + "creating a snapshot: the quota for manual snapshots is used up"
            " (SnapshotQuotaExceededFault)"
        )
        elasticache.quota = 10
        for action, tried in (
            ("DescribeSnapshots", "listing snapshots"),
            ("CreateSnapshot", "creating a snapshot"),
            ("CopySnapshot", f"exporting {NAME}"),
        ):
            elasticache.denied = {action}
            assert await self.fails(snapshots) == (
                where + f"{tried}: access is denied to the credentials in use (AccessDenied)"
            )
            self.clock.rightNow = 0
        elasticache.denied = set()
        elasticache.may_write_to_bucket = False
        assert (
            "ElastiCache has not been granted WRITE permissions on the S3 Bucket "
            f"{self.bucket.name}. (InvalidParameterValue)"
        ) in await self.fails(snapshots)
        elasticache.may_write_to_bucket = True
        self.bucket.way.fault(lambda polled: polled.method == "GET", Fault(403, "AccessDenied"), 1)
        assert f"listing s3://{self.bucket.name}: access is denied" in await self.fails(snapshots)
        await snapshots.run()
        assert await self.bucket.keys() == self.keys(NOON)
        assert list(elasticache.snapshots) == [NAME]

    async def test_failure_does_not_end_the_schedule(self) -> None:
        """It is counted, and the next run does what is due."""
        snapshots = await self.opened()
        clock = Clock()
        metrics = Metrics(clock.seconds)
        schedule = Schedule(
            clock, snapshots.run, CHECK_S, metrics, clock.seconds, first_after_s=0, kind="copy"
        )
        schedule.open()
        self.elasticache.denied = {"CreateSnapshot"}
        for wait in (0, CHECK_S):
            clock.advance(wait)
            assert schedule.running is not None
            await schedule.running
            self.elasticache.denied = set()
        await schedule.close()
        assert await self.bucket.keys() == self.keys(NOON)
        failed = "ghmirror_snapshot_failures_total"
        assert metrics.registry.get_sample_value(failed, {"operation": "save"}) == 1

    async def test_missing_replication_group(self) -> None:
        """Or that is busy with another snapshot."""
        snapshots = await self.opened()
        self.elasticache.add("nightly", GROUP, status="creating", left=100)
        assert "is busy or not in order" in await self.fails(snapshots)
        self.elasticache.groups.clear()
        assert "there is no such replication group" in await self.fails(snapshots)

    async def test_cancellation_ends_the_wait(self) -> None:
        """The next run continues."""
        snapshots = await self.opened()
        clock = snapshots.reactor = Noticing()
        self.elasticache.looks = 10**6
        running = Deferred.fromCoroutine(snapshots.run())
        await clock.polled
        running.cancel()
        with pytest.raises(CancelledError):
            await running
        assert clock.getDelayedCalls() == []
