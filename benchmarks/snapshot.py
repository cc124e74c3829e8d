"""The cost of saving and restoring a store, for the process and for its clients.

    python -m benchmarks.snapshot --count 100000

A memory store and a Redis store have many representations of 2 kB to 200 kB, mostly small, each
with grants of two credentials. Clients request stored responses at a fixed rate. The store is saved
to a directory and to S3 (moto's server), and an empty one is restored from each. It prints

- the duration, and records and megabytes in a second; the size of the content by that of the
  snapshot;
- the peak memory of the process above the store's own: its growth without that of the same records
  when they are stored without a snapshot;
- the largest delay of the reactor: of a timer that is due each millisecond, without the time in
  which the process waited for a CPU, and with it;
- the 99th percentile of the clients' requests, with the same load just before for comparison.

By default there are fewer representations than the thresholds are for, so that it lasts a few
minutes. The exit status is 1 if a threshold is exceeded, or a request failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import define, field, frozen

from benchmarks.github_process import GitHubProcess
from benchmarks.instrumented_mirror import InstrumentedMirror
from benchmarks.load_generator import Load, Request, Tally, request_concurrently
from benchmarks.percentiles import Spread
from benchmarks.process_control import exit_cleanly_on_signals
from benchmarks.process_usage import reset_peak, resident
from benchmarks.thresholds import MIB, Thresholds
from ghmirror_tw.snapshots.aws_service import AwsAccess
from tests.fakes.s3 import ENVIRONMENT, serving
from tests.harness.redis_servers import RedisServer
from tests.harness.running import ROOT

FULL = 100_000
MEMORY_MIB = 64
REACTOR_DELAY_MS = 50
RESOURCES, USERS = 50, 4
BEFORE_S = 4.0


@frozen
class Target:
    """A target of snapshots."""

    name: str
    url: str
    endpoint: str = ""


@define(eq=False)
class Snapshot:
    """Saves and restores stores under load."""

    github: GitHubProcess
    options: argparse.Namespace
    targets: Sequence[Target]
    thresholds: Thresholds = field(factory=Thresholds)

    def start(self, redis: RedisServer | None) -> InstrumentedMirror:
        """Start a mirror on *redis*, or on the memory store."""
        sections: dict[str, dict[str, object]] = {
            "github": {"api_url": self.github.url},
            "cache": {"credential_secret": "of the benchmark"},
            "memory": {"max_size": "8GiB"},
            "log": {"access": "none"},
        }
        if redis is not None:
            sections["cache"]["backend"] = "redis"
            sections["redis"] = {"url": "redis://{}:{}".format(*redis.address)}
        return InstrumentedMirror(sections, ENVIRONMENT)

    def requests(self) -> Iterator[Request]:
        """Return an endless sequence of requests."""
        rng = random.Random(1)
        while True:
            yield (
                f"/repos/bench/repo-{rng.randrange(RESOURCES)}",
                f"token{rng.randrange(USERS)}",
            )

    def warm(self, mirror: InstrumentedMirror) -> None:
        """Request each resource with each credential once."""
        everything = [
            (f"/repos/bench/repo-{resource}", f"token{user}")
            for resource in range(RESOURCES)
            for user in range(USERS)
        ]
        tally = Tally()
        asyncio.run(request_concurrently(mirror.url, everything, 8, tally))
        if tally.failed:
            raise SystemExit(f"warming failed: {dict(tally.statuses)}")

    def store(self, name: str, redis: RedisServer | None) -> None:
        """Measure one kind of store."""
        with self.start(redis) as mirror:
            before = resident(mirror.pid)
            began = time.monotonic()
            filled = mirror.control("fill", count=self.options.count)
            own = 0 if redis is not None else resident(mirror.pid) - before
            print(
                f"\n{name}: {self.options.count} representations, {filled['plain'] / MIB:.0f} MB, "
                f"{filled['packed'] / MIB:.0f} MB compressed, in {time.monotonic() - began:.0f} s"
                + ("" if redis is not None else f"; the process grew by {own / MIB:.0f} MB")
            )
            self.warm(mirror)
            for target in self.targets:
                self.measure(
                    f"{name}, saving to {target.name}", mirror, "save", target, filled["plain"], 0
                )
        for target in self.targets:
            if redis is not None:
                redis.send("FLUSHALL")
            with self.start(redis) as mirror:
                self.warm(mirror)
                what = f"{name}, restoring from {target.name}"
                self.measure(what, mirror, "restore", target, filled["plain"], own)

    def measure(  # noqa: PLR0917
        self,
        what: str,
        mirror: InstrumentedMirror,
        command: str,
        target: Target,
        plain: int,
        own: int,
    ) -> None:
        """Execute a command under load, and print the results.

        *plain*: bytes of content; *own*: bytes by which the store itself grows.
        """
        with Load([mirror.url], self.requests, self.options.rate) as load:
            time.sleep(BEFORE_S / 4)  # connections are opened
            mirror.control("reactor_delay")
            time.sleep(BEFORE_S)
        calm = load.tallies[mirror.url]
        without = mirror.control("reactor_delay")
        before = resident(mirror.pid)
        reset_peak(mirror.pid)
        with Load([mirror.url], self.requests, self.options.rate) as load:
            done = mirror.control(command, target=target.url, endpoint=target.endpoint)
        busy = load.tallies[mirror.url]
        meanwhile = mirror.control("reactor_delay")
        grown = resident(mirror.pid, peak=True) - before - own

        thresholds, seconds = self.thresholds, done["seconds"]
        print(f"\n{what}: {done['records']} records")
        thresholds.figure("seconds", seconds, "s")
        thresholds.figure("records in a second", done["records"] / seconds)
        thresholds.figure("megabytes in a second", done["size_bytes"] / seconds / MIB, "MB")
        thresholds.figure("size of content / size of snapshot", plain / done["size_bytes"])
        thresholds.figure("memory above the store's own", grown / MIB, "MB", most=MEMORY_MIB)
        note = f"{meanwhile['late_ms']:.0f} ms with waiting for a CPU"
        thresholds.figure(
            "delay of the reactor", meanwhile["own_ms"], "ms", most=REACTOR_DELAY_MS, note=note
        )
        note = f"{without['late_ms']:.0f} ms with waiting for a CPU"
        thresholds.figure("  without it", without["own_ms"], "ms", note=note)
        note = f"{meanwhile['full_collections']} full ones"
        thresholds.figure("  longest garbage collection", meanwhile["gc_ms"], "ms", note=note)
        failed = calm.failed + busy.failed
        sent = busy.statuses.total()
        thresholds.figure("failed requests", failed, most=0, note=f"of {sent}")
        with_it, alone = (1000 * Spread.of(each.seconds).p99 for each in (busy, calm))
        thresholds.figure("99th percentile of requests", with_it, "ms")
        thresholds.figure("  without it", alone, "ms")
        thresholds.figure("  ratio", with_it / alone)


def make_bucket(endpoint: str) -> str:
    """Create a bucket at *endpoint*; return its name."""
    os.environ.update(ENVIRONMENT)
    client = AwsAccess("us-east-1", endpoint).client("s3")
    client.create_bucket(Bucket="benchmark")
    client.close()
    return "benchmark"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.snapshot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=20_000, help="representations")
    parser.add_argument("--rate", type=float, default=50, help="requests/s")
    parser.add_argument("--delay", type=float, default=20, help="ms until GitHub responds")
    parser.add_argument("--store", choices=["memory", "redis"], help="only this one")
    parser.add_argument("--target", choices=["directory", "S3"], help="only this one")
    options = parser.parse_args(arguments)
    exit_cleanly_on_signals()
    which = "the full run" if options.count >= FULL else f"NOT the full run: that is of {FULL}"
    print(f"{options.count} representations ({which}); {options.rate:g} requests/s meanwhile")
    with ExitStack() as stack:
        github = stack.enter_context(
            GitHubProcess(resources=RESOURCES, users=USERS, delay=options.delay / 1000, log=0)
        )
        targets = []
        if options.target != "S3":
            # below the code: the directory of temporary files may be in memory
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(dir=ROOT, prefix=".snapshots-")
            )
            targets.append(Target("a directory", Path(folder).as_uri()))
        if options.target != "directory":
            endpoint = f"http://127.0.0.1:{stack.enter_context(serving())}"
            targets.append(Target("S3", f"s3://{make_bucket(endpoint)}", endpoint))
        snapshot = Snapshot(github, options, targets)
        if options.store != "redis":
            snapshot.store("memory", None)
        if options.store != "memory":
            snapshot.store("Redis", stack.enter_context(RedisServer()))
        return snapshot.thresholds.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
