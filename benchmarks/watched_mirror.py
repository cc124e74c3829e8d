"""A mirror whose store is filled, saved and restored when it is told to, and which watches itself.

A process of its own; `WatchedMirror` starts it, and tells it what to do by lines of JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.protocols.basic import LineReceiver
from twisted.web.server import Site

from benchmarks.filling import SnapshotSizes, make
from benchmarks.starving import waited
from ghmirror_tw.caching.credential_names import CredentialNames
from ghmirror_tw.config.settings_loader import read_settings
from ghmirror_tw.redis_store.redis_archive import RedisArchive
from ghmirror_tw.runtime.garbage_collection import freeze_objects
from ghmirror_tw.snapshots.aws_service import load_boto3
from ghmirror_tw.store.memory_archive import MemoryArchive
from ghmirror_tw.store.named_records import NamedRecords
from ghmirror_tw.store.record_sealing import Codec
from ghmirror_tw.web.client_connections import MirrorSite
from ghmirror_tw.web.mirror_request import MirrorRequest
from ghmirror_tw.wiring.mirror_parts import MirrorParts, build_mirror_parts
from ghmirror_tw.wiring.snapshot_parts import Snapshots, server_of
from tests.harness.running import PYTHON, ROOT, Sections, environment, ini, merged

_BEAT_S: Final = 0.001
_AT_A_TIME: Final = 100
_WRITE_S: Final = 60.0


class WatchedMirror:
    """A mirror with *sections* in a process of its own; it runs inside a ``with``."""

    def __init__(self, sections: Sections, more: dict[str, str]) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="ghmirror-"))
        config = self._directory / "ghmirror.ini"
        config.write_text(ini(merged(sections)))
        self._process = subprocess.Popen(
            [str(PYTHON), "-m", "benchmarks.watched_mirror", str(config)],
            cwd=ROOT,
            env=environment(more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url: str = self._receive()["url"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def control(self, order: str, **given: object) -> dict[str, Any]:
        """Have it do something, and return what came of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": order, **given}) + "\n")
        self._process.stdin.flush()
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the mirror ended")
        report: dict[str, Any] = json.loads(line)
        if "failed" in report:
            raise SystemExit(f"the mirror says: {report['failed']}")
        return report


@define(eq=False)
class HeldUp:
    """By how much a timer is late that is due each millisecond, and what garbage collection took.

    *own_s* leaves out what the thread has waited for a CPU: that is the machine's doing.
    """

    reactor: Any
    late_s: float = 0.0
    own_s: float = 0.0
    collected_s: float = 0.0
    collections: int = 0
    _due: float = 0.0
    _waited: float = 0.0
    _collecting: float = 0.0
    _timer: IDelayedCall | None = None

    def open(self) -> None:
        """Begin to watch."""
        if hasattr(gc, "callbacks"):  # PyPy has none
            gc.callbacks.append(self._collect)
        self._waited = waited("/proc/self/schedstat")
        self._again()

    def _again(self) -> None:
        self._due = time.monotonic() + _BEAT_S
        self._timer = self.reactor.callLater(_BEAT_S, self._beat)

    def _beat(self) -> None:
        late = time.monotonic() - self._due
        so_far = waited("/proc/self/schedstat")
        self.late_s = max(self.late_s, late)
        self.own_s = max(self.own_s, late - (so_far - self._waited))
        self._waited = so_far
        self._again()

    def _collect(self, phase: str, about: dict[str, int]) -> None:
        now = time.thread_time()
        if phase == "start":
            self._collecting = now
        else:
            self.collected_s = max(self.collected_s, now - self._collecting)
            self.collections += about["generation"] == 2

    def report(self) -> dict[str, float]:
        """Return what was the worst so far, in milliseconds, and begin anew."""
        report = {
            "late_ms": 1000 * self.late_s,
            "own_ms": 1000 * self.own_s,
            "gc_ms": 1000 * self.collected_s,
            "full_collections": self.collections,
        }
        self.late_s = self.own_s = self.collected_s = 0.0
        self.collections = 0
        return report


class _Remembering:
    """Takes what snapshots show of themselves."""

    def __init__(self) -> None:
        self.done = False
        self.last: dict[str, Any] = {}

    def snapshot(
        self, operation: str, *, at: float, seconds: float, size_bytes: int, records: int
    ) -> None:
        self.done = True
        self.last = {
            "operation": operation,
            "at": at,
            "seconds": seconds,
            "size_bytes": size_bytes,
            "records": records,
        }

    def snapshot_failed(self, operation: str, error: str) -> None:  # noqa: ARG002
        self.done = True


@define(eq=False)
class Filled:
    """The mirror, and what it may be told."""

    reactor: Any
    parts: MirrorParts
    held_up: HeldUp = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.held_up = HeldUp(self.reactor)

    async def open(self) -> str:
        """Serve, and return where."""
        parts = self.parts
        for part in parts.in_closing_order:
            if hasattr(part, "open"):
                part.open()
        if parts.redis is not None:
            await parts.redis.settled()
        parts.readiness.listening = parts.readiness.restored = True
        site = MirrorSite(parts.resource, MirrorRequest, self.reactor)
        port = self.reactor.listenTCP(0, site, interface="127.0.0.1")
        self.reactor.listenTCP(
            0,
            Site(parts.admin, reactor=self.reactor),
            interface="127.0.0.1",
        )
        load_boto3()  # as it is where S3 is the target
        gc.collect()
        freeze_objects()  # as the service does
        self.held_up.open()
        return f"http://127.0.0.1:{port.getHost().port}"

    @property
    def codec(self) -> Codec:
        return Codec.by(self.parts.settings.cache.credential_secrets())

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what is said."""
        match order.pop("do"):
            case "fill":
                return await self.fill(**order)
            case "save" | "restore" as what:
                return await self.copy(what, **order)
            case "held_up":
                return self.held_up.report()
        raise ValueError("no such order")

    async def fill(self, count: int, credentials: int = 2) -> dict[str, Any]:
        """Put records into the store; return what they are, in bytes of content."""
        names = CredentialNames.by(self.parts.settings.cache.credential_secrets(), b"")
        made, plain, packed = make(count, names, credentials), 0, 0
        while some := list(islice(made, _AT_A_TIME)):
            plain += sum(one.stored.size for one in some)
            packed += sum(len(one.stored.packed) for one in some)
            await gatherResults([Deferred.fromCoroutine(self._put(one)) for one in some])
            await deferLater(self.reactor, 0)
        del made, some
        ctypes.CDLL(None).malloc_trim(0)
        return {"plain": plain, "packed": packed}

    async def _put(self, made: SnapshotSizes) -> None:
        redis = self.parts.redis
        for number, (user, grant) in enumerate(made.grants):
            if redis is None:
                self.parts.memory.store_response(made.key, user, made.stored, grant, made.entry)
            else:
                stored = None if number else made.stored
                await redis.redis.freshen(made.key, user, grant, made.entry, stored, _WRITE_S)

    async def copy(self, what: str, target: str, endpoint: str = "") -> dict[str, Any]:
        """Save the store to *target*, or fill it from there; return what that took."""
        parts, shown = self.parts, _Remembering()
        snapshot = evolve(parts.settings.snapshot, target=target, s3_endpoint_url=endpoint)
        records = NamedRecords(parts.memory.records)
        archive: Any = MemoryArchive(self.reactor, records, self.codec, parts.threads)
        if parts.redis is not None:
            archive = RedisArchive(parts.redis.redis, server_of(parts.settings))
        snapshots = Snapshots(
            self.reactor,
            evolve(parts.settings, snapshot=snapshot),
            archive,
            None,
            parts.barrier,
            shown,
            self.reactor.seconds,
            "benchmark",
        )
        snapshots.access.open()
        try:
            if what == "save":
                await archive.mark_filled()
                (schedule,) = snapshots.schedules
                schedule.first_after_s, schedule.at_end = 0.0, False
                schedule.open()
                while not shown.done:
                    await deferLater(self.reactor, 0.01)
                await schedule.close()
            else:
                snapshots.restorer.fill()
                while not shown.done or parts.barrier.is_shut:
                    await deferLater(self.reactor, 0.01)
        finally:
            await snapshots.access.close()
        if not shown.last:
            raise RuntimeError(f"{what} failed")
        return shown.last


class _Orders(LineReceiver):
    """Takes orders, one at a time, and answers each."""

    delimiter = b"\n"
    transport: Any
    MAX_LENGTH = 1 << 16

    def __init__(self, filled: Filled) -> None:
        self.filled = filled

    def send(self, report: dict[str, Any]) -> None:
        self.transport.write(json.dumps(report).encode() + b"\n")

    def lineReceived(self, line: bytes) -> None:
        done = Deferred.fromCoroutine(self.filled.obey(json.loads(line)))
        done.addErrback(lambda failure: {"failed": failure.getTraceback()})
        done.addCallback(self.send)

    def connectionLost(self, reason: Any = None) -> None:  # noqa: ARG002
        os._exit(0)  # whoever told us what to do is gone


def main(config: str) -> None:
    """Serve until stdin ends."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    troubles = LogLevelFilterPredicate(LogLevel.warn)
    shown = FilteringLogObserver(textFileLogObserver(sys.stderr), [troubles])
    globalLogBeginner.beginLoggingTo([shown], redirectStandardIO=False)
    filled = Filled(reactor, build_mirror_parts(reactor, read_settings(config)))

    def opened(url: str) -> None:
        orders = _Orders(filled)
        StandardIO(orders)
        orders.send({"url": url})

    world: Any = reactor
    world.callWhenRunning(lambda: Deferred.fromCoroutine(filled.open()).addCallback(opened))
    world.run()


if __name__ == "__main__":
    main(sys.argv[1])
