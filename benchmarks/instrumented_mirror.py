"""A mirror that fills, saves and restores its store on command, and measures its reactor.

It is a process of its own. `InstrumentedMirror` starts it, and sends it commands as lines of JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import shutil
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any, Final

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

from benchmarks.controlled_process import ControlledProcess
from benchmarks.cpu_wait import cpu_wait_s
from benchmarks.generated_records import GeneratedRecord, generate_records
from ghmirror_tw.caching.credential_names import CredentialNames
from ghmirror_tw.config.settings_loader import read_settings
from ghmirror_tw.redis_store.redis_archive import RedisArchive
from ghmirror_tw.runtime.garbage_collection import freeze_objects
from ghmirror_tw.snapshots.aws_service import load_boto3
from ghmirror_tw.store.memory_archive import MemoryArchive
from ghmirror_tw.store.memory_records_by_name import NamedRecords
from ghmirror_tw.store.record_sealing import Codec
from ghmirror_tw.web.client_connections import MirrorSite
from ghmirror_tw.web.mirror_request import MirrorRequest
from ghmirror_tw.wiring.mirror_parts import MirrorParts, build_mirror_parts
from ghmirror_tw.wiring.snapshot_parts import Snapshots, server_of
from tests.harness.running import PYTHON, Sections, ini, merged

_TIMER_S: Final = 0.001
_AT_A_TIME: Final = 100
_WRITE_S: Final = 60.0


class InstrumentedMirror(ControlledProcess):
    """A mirror with *sections* in a process of its own; it runs inside a ``with``."""

    def __init__(self, sections: Sections, more: dict[str, str]) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="ghmirror-"))
        config = self._directory / "ghmirror.ini"
        config.write_text(ini(merged(sections)))
        super().__init__(PYTHON, "benchmarks.instrumented_mirror", str(config), more=more)
        self.url: str = self._result(self.read_line())["url"]

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        shutil.rmtree(self._directory, ignore_errors=True)

    def control(self, command: str, **arguments: object) -> dict[str, Any]:
        """Execute a command and return its result."""
        return self._result(self.send(json.dumps({"command": command, **arguments})))

    @staticmethod
    def _result(line: str) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(line)
        if "failed" in report:
            raise SystemExit(f"the mirror failed: {report['failed']}")
        return report


@define(eq=False)
class ReactorDelay:
    """The largest delay of a timer that is due each millisecond, and of garbage collections.

    *own_s* is without the time in which the thread waited for a CPU because of other load.
    """

    reactor: Any
    late_s: float = 0.0
    own_s: float = 0.0
    collected_s: float = 0.0
    collections: int = 0
    _due: float = 0.0
    _cpu_wait: float = 0.0
    _collecting: float = 0.0
    _timer: IDelayedCall | None = None

    def open(self) -> None:
        """Start the timer."""
        if hasattr(gc, "callbacks"):  # PyPy has none
            gc.callbacks.append(self._collect)
        self._cpu_wait = cpu_wait_s("/proc/self/schedstat")
        self._schedule()

    def _schedule(self) -> None:
        self._due = time.monotonic() + _TIMER_S
        self._timer = self.reactor.callLater(_TIMER_S, self._run)

    def _run(self) -> None:
        late = time.monotonic() - self._due
        so_far = cpu_wait_s("/proc/self/schedstat")
        self.late_s = max(self.late_s, late)
        self.own_s = max(self.own_s, late - (so_far - self._cpu_wait))
        self._cpu_wait = so_far
        self._schedule()

    def _collect(self, phase: str, about: dict[str, int]) -> None:
        now = time.thread_time()
        if phase == "start":
            self._collecting = now
        else:
            self.collected_s = max(self.collected_s, now - self._collecting)
            self.collections += about["generation"] == 2

    def report(self) -> dict[str, float]:
        """Return the largest values so far, in milliseconds, and reset them."""
        report = {
            "late_ms": 1000 * self.late_s,
            "own_ms": 1000 * self.own_s,
            "gc_ms": 1000 * self.collected_s,
            "full_collections": self.collections,
        }
        self.late_s = self.own_s = self.collected_s = 0.0
        self.collections = 0
        return report


class _SnapshotRecorder:
    """Records the telemetry of the last snapshot."""

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

    def snapshot_recovered(self, operation: str) -> None:
        pass


@define(eq=False)
class MirrorCommands:
    """The mirror, and the commands for it."""

    reactor: Any
    parts: MirrorParts
    reactor_delay: ReactorDelay = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.reactor_delay = ReactorDelay(self.reactor)

    async def open(self) -> str:
        """Listen, and return the base URL."""
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
        load_boto3()  # as with S3 as the target
        gc.collect()
        freeze_objects()  # as the service does
        self.reactor_delay.open()
        return f"http://127.0.0.1:{port.getHost().port}"

    @property
    def codec(self) -> Codec:
        return Codec.by(self.parts.settings.cache.credential_secrets())

    async def execute(self, command: dict[str, Any]) -> dict[str, Any]:
        """Execute a command."""
        match command.pop("command"):
            case "fill":
                return await self.fill(**command)
            case "save" | "restore" as operation:
                return await self.copy(operation, **command)
            case "reactor_delay":
                return self.reactor_delay.report()
        raise ValueError("no such command")

    async def fill(self, count: int, credentials: int = 2) -> dict[str, Any]:
        """Write generated records to the store; return the bytes of their content."""
        names = CredentialNames.by(self.parts.settings.cache.credential_secrets(), b"")
        records, plain, packed = generate_records(count, names, credentials), 0, 0
        while some := list(islice(records, _AT_A_TIME)):
            plain += sum(one.stored.size for one in some)
            packed += sum(len(one.stored.packed) for one in some)
            await gatherResults([Deferred.fromCoroutine(self._store(one)) for one in some])
            await deferLater(self.reactor, 0)
        del records, some
        ctypes.CDLL(None).malloc_trim(0)
        return {"plain": plain, "packed": packed}

    async def _store(self, record: GeneratedRecord) -> None:
        redis = self.parts.redis
        for number, (user, grant) in enumerate(record.grants):
            if redis is None:
                self.parts.memory.store_response(
                    record.key, user, record.stored, grant, record.entry
                )
            else:
                stored = None if number else record.stored
                await redis.redis.freshen(record.key, user, grant, record.entry, stored, _WRITE_S)

    async def copy(self, operation: str, target: str, endpoint: str = "") -> dict[str, Any]:
        """Save the store to *target*, or restore it; return the telemetry of that."""
        parts, shown = self.parts, _SnapshotRecorder()
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
            if operation == "save":
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
            raise RuntimeError(f"{operation} failed")
        return shown.last


class _CommandProtocol(LineReceiver):
    """Receives commands, one at a time, and sends the result of each."""

    delimiter = b"\n"
    transport: Any
    MAX_LENGTH = 1 << 16

    def __init__(self, commands: MirrorCommands) -> None:
        self.commands = commands

    def send(self, report: dict[str, Any]) -> None:
        self.transport.write(json.dumps(report).encode() + b"\n")

    def lineReceived(self, line: bytes) -> None:
        done = Deferred.fromCoroutine(self.commands.execute(json.loads(line)))
        done.addErrback(lambda failure: {"failed": failure.getTraceback()})
        done.addCallback(self.send)

    def connectionLost(self, reason: Any = None) -> None:  # noqa: ARG002
        os._exit(0)  # the controlling process has ended


def main(config: str) -> None:
    """Serve until stdin ends."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    warnings = LogLevelFilterPredicate(LogLevel.warn)
    shown = FilteringLogObserver(textFileLogObserver(sys.stderr), [warnings])
    globalLogBeginner.beginLoggingTo([shown], redirectStandardIO=False)
    commands = MirrorCommands(reactor, build_mirror_parts(reactor, read_settings(config)))

    def opened(url: str) -> None:
        protocol = _CommandProtocol(commands)
        StandardIO(protocol)
        protocol.send({"url": url})

    world: Any = reactor
    world.callWhenRunning(lambda: Deferred.fromCoroutine(commands.open()).addCallback(opened))
    world.run()


if __name__ == "__main__":
    main(sys.argv[1])
