"""A restart costs no quota: restarted mirrors have their records."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from ghmirror_tw.config.settings import Settings
from ghmirror_tw.redis_store.redis_archive import RedisArchive
from ghmirror_tw.snapshots.directory_target import TemporaryFile
from ghmirror_tw.snapshots.snapshot_errors import FullTargetError
from ghmirror_tw.snapshots.snapshot_names import owner_of
from ghmirror_tw.store.memory_records_by_name import NamedRecords
from ghmirror_tw.store.record_kinds import REPRESENTATION
from ghmirror_tw.store.record_sealing import Codec
from ghmirror_tw.store.store_interface import Pair
from ghmirror_tw.wiring.snapshot_parts import snapshot_owner
from tests.fakes.s3 import Fault, open_bucket
from tests.fakes.scripted_server import Server
from tests.harness.home import (
    Home,
    MovableReactor,
    Received,
    fetch,
    open_github,
    open_home,
    reactor,
)
from tests.harness.redis_servers import start_redis
from tests.harness.redis_stores import settled
from tests.harness.running import STOPPED, Mirror, start_mirror

PATHS = tuple(f"/things/{number}" for number in range(30))
TOKENS = ("alice-1", "bob-1")


def test_owner_depends_on_port_or_on_prefix_and_secret() -> None:
    """Memory stores of one host differ by port, Redis stores by prefix and secret."""
    host = owner_of(socket.gethostname())

    def named(
        listen: str,
        codec: Codec | None = None,
        backend: str = "memory",
        api_url: str = "https://api.github.com",
    ) -> str:
        github = evolve(Settings().github, api_url=api_url)
        server = evolve(Settings().server, listen=(listen,))
        cache = evolve(Settings().cache, backend=backend)
        return snapshot_owner(
            evolve(Settings(), github=github, server=server, cache=cache), codec or Codec()
        )

    assert named("tcp:8080") == f"memory-{host}-8080"
    assert named("tcp:port=9090:interface=127.0.0.1") == f"memory-{host}-9090"
    assert named("ssl:8443:privateKey=k.pem") != named("ssl:9443:privateKey=k.pem")
    assert named("unix:/run/a") != named("unix:/run/b")
    one, other = Codec(b"one"), Codec(b"other")
    assert named("tcp:1", backend="redis") == "redis-ghmirror"
    assert named("tcp:1", one, backend="redis") == f"redis-ghmirror-{one.fingerprint}"
    assert named("tcp:1", other, backend="redis") != named("tcp:2", one, backend="redis")
    assert named("tcp:1", one, backend="redis") == named("tcp:2", one, backend="redis")
    assert named("tcp:8080", one) == f"memory-{host}-8080-{one.fingerprint}"
    for backend in ("memory", "redis"):
        served = {
            named("tcp:8080", one, backend, url)
            for url in ("https://api.github.com", "https://a.example/api/v3", "https://b.example")
        }
        assert len(served) == 3


class Kept(TestCase):
    """A directory for snapshots, and GitHub's stand-in."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.github = await open_github(self)
        for path in PATHS:
            self.github.put(path, {"path": path})
        self.directory = self.folder()

    def folder(self) -> Path:
        folder = tempfile.mkdtemp(prefix="snapshots-")
        self.addCleanup(shutil.rmtree, folder)
        return Path(folder)

    @property
    def target(self) -> str:
        return f"file://{self.directory}"

    def snapshots(self) -> list[Path]:
        return sorted(self.directory.glob("*.snap"))

    async def until_saved(self, count: int = 1) -> None:
        """Return when there are so many snapshots."""
        while len(self.snapshots()) < count:
            await deferLater(reactor, 0.01)


class InMemory(Kept):
    """The memory store, in a process of its own that is killed."""

    async def start(self, **snapshot: Any) -> Mirror:
        sections = {
            "github": {"api_url": self.github.api_url},
            "snapshot": {"target": self.target, **snapshot},
        }
        return await start_mirror(self, sections)

    async def send(self, mirror: Mirror, path: str, token: str) -> Received:
        port = int(mirror.url.rpartition(":")[2])
        got = await fetch("GET", port, path, token=token)
        assert (got.status, got.json) == (200, {"path": path})
        return got

    async def poll(self, mirror: Mirror) -> None:
        for token in TOKENS:
            for path in PATHS:
                await self.send(mirror, path, token)

    async def test_sigterm_saves_all_records(self) -> None:
        """The mirror saves a last snapshot after SIGTERM."""
        mirror = await self.start(interval="1h")
        await self.poll(mirror)
        assert await mirror.stop() == STOPPED
        assert len(self.snapshots()) == 1
        self.github.reset_counts()
        await self.poll(await self.start(interval="1h"))
        assert self.github.total_paid == 0

    async def test_saved_records_survive_sigkill(self) -> None:
        """Under load from the start, requests wait until the restore has ended."""
        mirror = await self.start(interval="1s")
        await self.poll(mirror)
        before = len(self.snapshots())
        await self.until_saved(before + 2)
        mirror.signal(signal.SIGKILL)
        await mirror.ended()
        self.github.reset_counts()
        mirror = await self.start(interval="1h")
        sent = [
            Deferred.fromCoroutine(self.send(mirror, path, token))
            for path in PATHS
            for token in TOKENS
        ]
        for response in sent:
            await response
        assert self.github.total_paid == 0

    async def test_damaged_snapshot_is_skipped(self) -> None:
        """It is reported and not deleted; the snapshot before it is restored."""
        mirror = await self.start(interval="1h")
        await self.poll(mirror)
        await mirror.stop()
        mirror = await self.start(interval="1h")
        await mirror.logged("Restored: ")
        await mirror.stop()
        good, damaged = self.snapshots()
        content = bytearray(damaged.read_bytes())
        content[len(content) // 2] ^= 1
        damaged.write_bytes(content)
        self.github.reset_counts()
        mirror = await self.start(interval="1h")
        await self.poll(mirror)
        assert self.github.total_paid == 0
        await mirror.logged(f"Snapshot not usable: name={damaged.name}")
        await mirror.logged(f"Restored: name={good.name}")
        assert damaged.read_bytes() == bytes(content)

    async def test_restore_can_be_disabled(self) -> None:
        """With `restore = no` nothing is restored, and snapshots are saved from the start."""
        mirror = await self.start(interval="1h")
        await self.poll(mirror)
        await mirror.stop()
        self.github.reset_counts()
        mirror = await self.start(interval="1h", restore=False)
        await self.send(mirror, PATHS[0], TOKENS[0])
        assert self.github.total_paid == 1
        await mirror.stop()
        assert len(self.snapshots()) == 2

    async def test_keep_limits_the_number_of_snapshots(self) -> None:
        """The target has at most `keep` snapshots."""
        for count in (1, 2, 2):
            mirror = await self.start(interval="1h", keep=2)
            await self.send(mirror, PATHS[0], TOKENS[0])
            await mirror.stop()
            assert len(self.snapshots()) == count

    async def test_full_disk_removes_older_snapshots(self) -> None:
        """All but the newest usable snapshot are removed; then saving is retried."""
        home = await open_home(
            self, self.github, snapshot={"target": self.target, "interval": 3600.0}
        )
        snapshots = home.parts.snapshots
        assert snapshots is not None
        await snapshots.settled()
        for path in PATHS:
            await home.get(path, token="alice-1")
        save, write = snapshots.schedules[0].save, TemporaryFile.write
        for _ in range(3):
            await save()
        first, usable, damaged = self.snapshots()
        damaged.write_bytes(b"")
        full = [True]

        def once_full(writing: TemporaryFile, chunk: bytes) -> None:
            if full.pop() if full else len(self.snapshots()) > 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(writing, chunk)

        self.patch(TemporaryFile, "write", once_full)
        await save()
        assert not first.exists()
        assert len(self.snapshots()) == 3
        assert {usable, damaged} <= {*self.snapshots()}
        for each in (usable, damaged):
            each.unlink()
        full.append(True)
        with pytest.raises(FullTargetError):
            await save()
        assert len(self.snapshots()) == 1

    async def test_mirror_is_unready_until_restored(self) -> None:
        """`/readyz` fails until the store is filled; the metrics show the restored records."""
        mirror = await self.start(interval="1h")
        await self.poll(mirror)
        await mirror.stop()
        mirror = await self.start(interval="1h")
        port = int(mirror.admin_url.rpartition(":")[2])
        while (await fetch("GET", port, "/readyz")).status != 200:
            pass
        shown = (await fetch("GET", port, "/metrics")).content.decode()
        line = next(
            each
            for each in shown.splitlines()
            if each.startswith('ghmirror_snapshot_records{operation="restore"}')
        )
        # 30 lists, 30 representations, 60 grants
        assert float(line.rpartition(" ")[2]) == 120.0

    async def test_empty_mirror_saves_no_snapshot(self) -> None:
        """An empty mirror does not replace the full snapshot when it ends, though `keep` is one."""
        full = await self.start(interval="1h", keep=1)
        await self.poll(full)
        await full.stop()
        kept = self.snapshots()
        empty = await self.start(interval="1h", keep=1, restore=False)
        await empty.stop()
        assert self.snapshots() == kept

    async def test_unreadable_directory_delays_no_request(self) -> None:
        """Requests do not wait for an unreadable directory; the log has the reason."""
        denied = self.directory / "file"
        denied.write_text("")
        mirror = await self.start(target=f"file://{denied}", restore_wait="1h")
        await mirror.logged("cannot be listed: Not a directory")
        await self.send(mirror, PATHS[0], TOKENS[0])


@pytest.mark.usefixtures("s3_server")
class WithoutABucket(Kept):
    """S3 refuses for good."""

    async def test_missing_bucket_delays_no_request(self) -> None:
        """Requests wait neither for a missing bucket nor for rejected credentials."""
        bucket = await open_bucket(self)
        for target, fault in (
            ("s3://no-such-bucket/x", None),
            (f"s3://{bucket.name}/x", Fault(403, "InvalidAccessKeyId")),
        ):
            if fault is not None:
                bucket.way.fault(lambda sent: True, fault)
            home = await open_home(
                self,
                self.github,
                snapshot={
                    "target": target,
                    "s3_endpoint_url": bucket.url,
                    "s3_region": "us-east-1",
                    "restore_wait": 100_000.0,
                },
            )
            assert (await home.get(PATHS[0], token="alice-1")).status == 200
            assert not home.parts.barrier.is_shut


class BeforeASilentBucket(TestCase):
    """A service that accepts connections, and never responds."""

    async def test_shutdown_does_not_wait_for_it(self) -> None:
        """The calls of boto3 would last for a minute: longer than many a delay before SIGKILL."""
        silent = Server()
        silent.listen(self)
        server = start_redis(self)
        host, port = server.address
        for backend in ("memory", "redis"):
            mirror = await start_mirror(
                self,
                {
                    "server": {"shutdown_grace": "1s"},
                    "cache": {"backend": backend},
                    "redis": {"url": f"redis://{host}:{port}"},
                    "snapshot": {
                        "target": "s3://bucket",
                        "s3_endpoint_url": silent.url,
                        "s3_region": "eu-central-1",
                    },
                },
                environment={"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"},
            )
            connections = len(silent.connections)
            while len(silent.connections) == connections:
                await deferLater(reactor, 0.01)
            assert await mirror.stop() == STOPPED
            assert "Traceback" not in mirror.log_text


class WhileFilling(Kept):
    """Requests during a restore."""

    async def test_request_waits_for_content_of_a_restored_grant(self) -> None:
        """A request with a restored grant waits for the content to be restored."""
        home = await open_home(self, self.github)
        await home.get(PATHS[0], token="alice-1")
        parts = home.parts
        records = NamedRecords(parts.memory.records)
        [name] = [each for each in records.names() if each.kind is REPRESENTATION]
        content = records.peek(name)
        assert content is not None
        others = [(each, records.peek(each)) for each in records.names() if each != name]
        parts.memory.resize(0)
        parts.memory.resize(1_000_000)
        for each, record in others:
            assert record is not None
            assert records.admit(each, record)
        self.github.reset_counts()
        parts.barrier.longest_s = 60.0
        parts.barrier.shut("a test")
        sent = [Deferred.fromCoroutine(home.get(PATHS[0], token=token)) for token in TOKENS]
        while parts.resource.in_flight < len(TOKENS):
            await deferLater(reactor, 0)
        records.admit(name, content)
        parts.barrier.open("a test")
        for response in sent:
            assert (await response).status == 200
        assert self.github.total_paid == 0


class InRedis(Kept):
    """Replicas that share a Redis, in this process."""

    async def another(self, secret: str = "shared", **more: Any) -> Home:
        host, port = self.server.address
        return await open_home(
            self,
            self.github,
            cache={"backend": "redis", "credential_secret": secret},
            redis={"url": f"redis://{host}:{port}", "timeout": 0.5, "local_size": 0},
            snapshot={"target": self.target, "interval": 3600.0, **more},
        )

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        await super().setUp()
        self.server = start_redis(self)

    async def poll(self, home: Home) -> None:
        for token in TOKENS:
            for path in PATHS:
                got = await home.get(path, token=token)
                assert (got.status, got.json) == (200, {"path": path})

    async def saved(self, home: Home) -> None:
        """Make a snapshot now."""
        assert home.parts.snapshots is not None
        await settled(home.parts.store)
        schedule = home.parts.snapshots.schedules[0]
        await schedule.save()

    def failures(self, home: Home) -> float:
        value = home.parts.metrics.registry.get_sample_value(
            "ghmirror_snapshot_failures_total", {"operation": "save"}
        )
        return value or 0.0

    async def test_one_replica_saves_per_interval(self) -> None:
        """One replica saves per interval; when it dies half-way, another one saves."""
        homes = [await self.another(), await self.another(), await self.another()]
        await self.poll(homes[0])
        for home in homes:
            await self.saved(home)
        assert len(self.snapshots()) == 1
        [lease] = self.server.send("KEYS", "*lease*")
        assert self.server.send("PTTL", lease) > 3000 * 1000
        self.server.send("DEL", lease)
        await self.saved(homes[1])
        assert len(self.snapshots()) == 2

    async def test_fleets_with_different_secrets_have_separate_snapshots(self) -> None:
        """In one Redis and directory the second fleet is warned once, and prunes nothing."""
        logged: list[str] = []

        def log(event: LogEvent) -> None:
            if event.get("log_namespace") == "ghmirror.snapshots":
                logged.append(formatEvent(event))

        observer: Any = log
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        first = await self.another(keep=1)
        await self.poll(first)
        await self.saved(first)
        (own,) = self.snapshots()
        second = await self.another(secret="other", keep=1)
        snapshots = second.parts.snapshots
        assert snapshots is not None
        await snapshots.settled()
        warned = [each for each in logged if "other mirrors" in each or "another mirror" in each]
        assert len(warned) == 2
        assert warned[0].startswith("Records of other mirrors in the store are not used")
        assert f"count=1 newest={own.name}" in warned[1]
        assert not [each for each in logged if "Restored: " in each]
        await self.saved(second)
        assert self.snapshots() == [own]
        await self.poll(second)
        await self.saved(second)
        assert len(self.snapshots()) == 2
        assert own.exists()

    async def test_empty_redis_is_restored_at_start(self) -> None:
        """A redeployment with an empty Redis is free of charge."""
        home = await self.another()
        await self.poll(home)
        await self.saved(home)
        await home.close()
        self.server.restart()
        self.github.reset_counts()
        homes = [await self.another(), await self.another()]
        for home in homes:
            await self.poll(home)
        assert self.github.total_paid == 0

    async def test_redis_that_restarts_empty_is_restored(self) -> None:
        """One of the replicas restores it, and no request is charged meanwhile."""
        homes = [await self.another(), await self.another()]
        for home in homes:
            await self.poll(home)
        await self.saved(homes[0])
        self.github.reset_counts()
        self.server.restart()
        for home in homes:
            await self.poll(home)
        assert self.github.total_paid == 0
        while not self.server.send("KEYS", "*filled*"):
            await deferLater(reactor, 0.01)
        for home in (*homes, await self.another()):
            await self.poll(home)
        assert self.github.total_paid == 0

    async def test_fallback_store_is_restored(self) -> None:
        """A replica that starts without Redis restores the records of the fleet."""
        home = await self.another()
        await self.poll(home)
        await self.saved(home)
        self.server.kill()
        self.github.reset_counts()
        await self.poll(home)
        await self.poll(await self.another())
        assert self.github.total_paid == 0

    async def test_unavailable_redis_delays_no_request(self) -> None:
        """Only the fallback store is restored, and requests do not wait for Redis."""
        home = await self.another()
        await self.poll(home)
        await self.saved(home)
        self.server.kill()
        home = await self.another(restore_wait=100_000.0)
        assert home.parts.snapshots is not None
        await home.parts.snapshots.settled()
        self.github.put("/new", {"path": "/new"})
        assert (await home.get("/new", token="alice-1")).status == 200
        assert not home.parts.barrier.is_shut

    async def test_flush_is_detected_when_a_snapshot_is_due(self) -> None:
        """An emptied store is restored instead of saved."""
        home = await self.another()
        await self.poll(home)
        await self.saved(home)
        self.server.send("FLUSHALL")
        await self.saved(home)
        while not self.server.send("KEYS", "*filled*"):
            await deferLater(reactor, 0.01)
        assert len(self.snapshots()) == 1
        self.github.reset_counts()
        await self.poll(await self.another())
        assert self.github.total_paid == 0

    async def test_store_that_is_emptied_during_a_save_is_not_saved(self) -> None:
        """A lost mark ends the save, also where another replica has restored the store."""
        home = await self.another()
        await self.poll(home)
        await self.saved(home)
        snapshots = home.parts.snapshots
        assert snapshots is not None
        dump = RedisArchive.dump

        async def emptied(archive: RedisArchive) -> AsyncGenerator[list[Pair]]:
            async for pairs in dump(archive):
                yield pairs
            self.server.send("FLUSHALL")
            if mark_comes_back:
                await archive.mark_filled()

        for mark_comes_back in (True, False):
            self.server.send("DEL", *self.server.send("KEYS", "*lease*"), "none")
            self.patch(RedisArchive, "dump", emptied)
            await snapshots.schedules[0].save_once()
            self.patch(RedisArchive, "dump", dump)
            assert len(self.snapshots()) == 1
            assert not list(self.directory.glob(".*.tmp"))
            assert self.failures(home) == (1 if mark_comes_back else 2)
        while not self.server.send("KEYS", "*filled*"):
            await deferLater(reactor, 0.01)
        self.github.reset_counts()
        await self.poll(await self.another())
        assert self.github.total_paid == 0

    async def test_snapshot_during_an_outage_of_redis_is_counted_as_failed(self) -> None:
        """The outage may precede or interrupt the save; no traceback is logged."""
        home = await self.another()
        await self.poll(home)
        await settled(home.parts.store)
        snapshots = home.parts.snapshots
        assert snapshots is not None
        dump = RedisArchive.dump

        async def broken(archive: RedisArchive) -> AsyncGenerator[list[Pair]]:
            async for pairs in dump(archive):
                yield pairs
                self.server.kill()

        self.patch(RedisArchive, "dump", broken)
        for failures in (1, 2):
            await snapshots.schedules[0].save_once()
            assert self.failures(home) == failures
        assert self.flushLoggedErrors() == []
        assert not self.snapshots()

    async def test_flush_is_detected_before_a_snapshot_is_due(self) -> None:
        """A flush without an outage is detected, and requests do not wait for the check."""
        home = await self.another()
        await self.poll(home)
        await self.saved(home)
        snapshots = home.parts.snapshots
        assert snapshots is not None
        assert snapshots.mark_checks.running
        await snapshots.check_mark()
        assert not home.parts.barrier.is_shut
        self.server.send("FLUSHALL")
        await snapshots.check_mark()
        while not self.server.send("KEYS", "*filled*"):
            await deferLater(reactor, 0.01)
        self.github.reset_counts()
        await self.poll(await self.another())
        assert self.github.total_paid == 0
        self.server.kill()
        await snapshots.check_mark()

    async def test_refusal_ends_a_grant_of_a_replica_with_a_fast_clock(self) -> None:
        """A refusal at one replica ends a grant of another replica whose clock is ahead."""
        host, port = self.server.address
        ahead, home = [
            await open_home(
                self,
                self.github,
                clock,
                cache={"backend": "redis", "credential_secret": "shared", "fresh_for": 600.0},
                redis={"url": f"redis://{host}:{port}", "timeout": 0.5},
            )
            for clock in (MovableReactor(reactor, reactor.seconds() + 100.0), None)
        ]
        for token in TOKENS:
            await ahead.get(PATHS[0], token=token)
        await settled(ahead.parts.store)
        assert (await ahead.get(PATHS[0], token="alice-1")).outcome == "hit; detail=fresh"
        self.github.private(PATHS[0], set())
        assert (await home.get(PATHS[0], token="alice-1")).status == 404
        await settled(home.parts.store)
        assert (await ahead.get(PATHS[0], token="alice-1")).status == 404
        assert (await ahead.get(PATHS[0], token="bob-1")).status == 200

    async def test_restored_grant_is_not_fresh(self) -> None:
        """A restored grant is fresh only after GitHub has confirmed it."""
        home = await self.another()
        await home.get(PATHS[0], token="alice-1")
        await self.saved(home)
        await home.close()
        self.server.restart()
        host, port = self.server.address
        home = await open_home(
            self,
            self.github,
            cache={"backend": "redis", "credential_secret": "shared", "fresh_for": 600.0},
            redis={"url": f"redis://{host}:{port}"},
            snapshot={"target": self.target},
        )
        assert (await home.get(PATHS[0], token="alice-1")).outcome.endswith("detail=revalidated")
        await settled(home.parts.store)
        assert (await home.get(PATHS[0], token="alice-1")).outcome == "hit; detail=fresh"

    async def test_restore_preserves_later_refusals(self) -> None:
        """A refusal after the snapshot stays in force after the restore."""
        home = await self.another()
        await self.poll(home)
        await self.saved(home)
        self.github.private(PATHS[0], set())
        assert (await home.get(PATHS[0], token="alice-1")).status == 404
        await settled(home.parts.store)
        self.server.send(
            "DEL", *self.server.send("KEYS", "*:g:*"), *self.server.send("KEYS", "*filled*")
        )
        await self.saved(home)
        while not self.server.send("KEYS", "*filled*"):
            await deferLater(reactor, 0.01)
        assert len(self.server.send("KEYS", "*:g:*")) == 2 * len(PATHS) - 1
