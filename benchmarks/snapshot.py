"""What saving and restoring a store takes, and what clients notice of it.

    python -m benchmarks.snapshot --count 100000

A memory store and a Redis store hold so many representations of 2 kB to 200 kB, mostly small, each
granted to two credentials, and clients ask for what is known at a steady rate. The store is saved
to a directory and to S3 (moto's server), and an empty one is restored from each. Printed are

- seconds, and records and megabytes in a second, as they are kept; how much smaller that is than
  the content;
- the most memory that the process took above the store's own: what it grew by, at most, without
  what the same records take when they come otherwise;
- for how long the reactor was held up: by how much a timer that is due each millisecond came late
  at most, without the time that the process waited for a CPU (and with it);
- the 99th percentile of the clients' requests, beside the same load just before.

The default is to hold fewer representations than the bars are for, so that it takes a few minutes.
The exit status is 1 if a bar is missed, or a request failed.
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

from benchmarks.bars import MIB, Bars
from benchmarks.driving import Load, Question, StandIn, Tally, end_in_order, poll_all
from benchmarks.figures import Spread, forget_most, resident
from benchmarks.watched_mirror import WatchedMirror
from ghmirror_tw.snapshots.aws_service import AwsAccess
from tests.fakes.s3 import ENVIRONMENT, serving
from tests.harness.redis_servers import RedisServer
from tests.harness.running import ROOT

FULL = 100_000
MEMORY_MIB = 64
HELD_UP_MS = 50
RESOURCES, USERS = 50, 4
BEFORE_S = 4.0


@frozen
class Target:
    """Where snapshots are kept."""

    name: str
    url: str
    endpoint: str = ""


@define(eq=False)
class Snapshot:
    """Saves and restores, and judges what is measured meanwhile."""

    github: StandIn
    options: argparse.Namespace
    targets: Sequence[Target]
    bars: Bars = field(factory=Bars)

    def start(self, redis: RedisServer | None) -> WatchedMirror:
        """Start a mirror; with *redis* on that."""
        sections: dict[str, dict[str, object]] = {
            "github": {"api_url": self.github.url},
            "cache": {"credential_secret": "of the benchmark"},
            "memory": {"max_size": "8GiB"},
            "log": {"access": "none"},
        }
        if redis is not None:
            sections["cache"]["backend"] = "redis"
            sections["redis"] = {"url": "redis://{}:{}".format(*redis.address)}
        return WatchedMirror(sections, ENVIRONMENT)

    def questions(self) -> Iterator[Question]:
        """Return, without end, what is asked."""
        rng = random.Random(1)
        while True:
            yield (
                f"/repos/bench/repo-{rng.randrange(RESOURCES)}",
                f"token{rng.randrange(USERS)}",
            )

    def warm(self, mirror: WatchedMirror) -> None:
        """Have a mirror know all that is asked."""
        everything = [
            (f"/repos/bench/repo-{resource}", f"token{user}")
            for resource in range(RESOURCES)
            for user in range(USERS)
        ]
        tally = Tally()
        asyncio.run(poll_all(mirror.url, everything, 8, tally))
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

    def measure(  # noqa: PLR0917 - each is another thing
        self, what: str, mirror: WatchedMirror, order: str, target: Target, plain: int, own: int
    ) -> None:
        """Have it done under load, and print what was measured.

        *plain* bytes are the content of it all; by *own* bytes the process has to grow.
        """
        with Load([mirror.url], self.questions, self.options.rate) as load:
            time.sleep(BEFORE_S / 4)  # connections are made
            mirror.control("held_up")
            time.sleep(BEFORE_S)
        calm = load.tallies[mirror.url]
        without = mirror.control("held_up")
        before = resident(mirror.pid)
        forget_most(mirror.pid)
        with Load([mirror.url], self.questions, self.options.rate) as load:
            done = mirror.control(order, target=target.url, endpoint=target.endpoint)
        busy = load.tallies[mirror.url]
        meanwhile = mirror.control("held_up")
        grown = resident(mirror.pid, most=True) - before - own

        bars, seconds = self.bars, done["seconds"]
        print(f"\n{what}: {done['records']} records")
        bars.figure("seconds", seconds, "s")
        bars.figure("records in a second", done["records"] / seconds)
        bars.figure("megabytes in a second", done["size_bytes"] / seconds / MIB, "MB")
        bars.figure("size of content / size of snapshot", plain / done["size_bytes"])
        bars.figure("memory above the store's own", grown / MIB, "MB", most=MEMORY_MIB)
        note = f"{meanwhile['late_ms']:.0f} ms with waiting for a CPU"
        bars.figure("reactor held up", meanwhile["own_ms"], "ms", most=HELD_UP_MS, note=note)
        note = f"{without['late_ms']:.0f} ms with waiting for a CPU"
        bars.figure("  without it", without["own_ms"], "ms", note=note)
        note = f"{meanwhile['full_collections']} full ones"
        bars.figure("  longest garbage collection", meanwhile["gc_ms"], "ms", note=note)
        failed = calm.failed + busy.failed
        asked = busy.statuses.total()
        bars.figure("failed requests", failed, most=0, note=f"of {asked}")
        with_it, alone = (1000 * Spread.of(each.seconds).p99 for each in (busy, calm))
        bars.figure("99th percentile of requests", with_it, "ms")
        bars.figure("  without it", alone, "ms")
        bars.figure("  ratio", with_it / alone)


def make_bucket(endpoint: str) -> str:
    """Make a bucket at *endpoint*; return its name."""
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
    parser.add_argument("--delay", type=float, default=20, help="ms that GitHub takes")
    parser.add_argument("--store", choices=["memory", "redis"], help="only this one")
    parser.add_argument("--target", choices=["directory", "S3"], help="only this one")
    options = parser.parse_args(arguments)
    end_in_order()
    which = "the full run" if options.count >= FULL else f"NOT the full run: that is of {FULL}"
    print(f"{options.count} representations ({which}); {options.rate:g} requests/s meanwhile")
    with ExitStack() as stack:
        github = stack.enter_context(
            StandIn(resources=RESOURCES, users=USERS, delay=options.delay / 1000, log=0)
        )
        targets = []
        if options.target != "S3":
            # beside the code: where temporary files are kept may be memory
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
        return snapshot.bars.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
