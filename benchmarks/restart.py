"""The cost of a restart: of a mirror, and of the Redis of a fleet.

    python -m benchmarks.restart --resources 10000 --away 60

A mirror on the memory store has some thousand responses, and makes snapshots. After a snapshot it
is killed (SIGKILL) and started again, under load from the moment it listens; then each resource is
requested. The same follows with SIGTERM, after responses that are newer than the last snapshot.

Then a fleet has one Redis, and snapshots in a shared directory; each mirror has stored another
part. Under load for all of it, Redis is killed and restarted empty; then it is unavailable for a
while, and empty again.

No request may count against GitHub's rate limit, and none may fail. Otherwise the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import define, field

from benchmarks.github_process import GitHubProcess
from benchmarks.load_generator import Load, Request, Tally, request_concurrently
from benchmarks.mirror_metrics import read_metric
from benchmarks.percentiles import Spread
from benchmarks.process_control import exit_cleanly_on_signals
from benchmarks.thresholds import Thresholds
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

CLIENTS = 16
LEARNED_LAST = 200
USERS = 2
AWAY_S = 3.0
DEADLINE_S = 60.0
POLL_S = 0.05
SAVED_AT = 'ghmirror_snapshot_timestamp_seconds{operation="save"}'
AVAILABLE = "ghmirror_store_available"


def is_ready(mirror: BlockingMirror) -> bool:
    """Return whether ``/readyz`` of a mirror succeeds."""
    try:
        with urllib.request.urlopen(f"{mirror.admin_url}/readyz"):
            return True
    except urllib.error.HTTPError:
        return False


def request_all(mirrors: Iterable[BlockingMirror], requests: Sequence[Request]) -> Tally:
    """Send all requests to each mirror, many at a time."""
    tally = Tally()

    async def run() -> None:
        await asyncio.gather(
            *(request_concurrently(mirror.url, requests, CLIENTS, tally) for mirror in mirrors)
        )

    asyncio.run(run())
    return tally


@define(eq=False)
class Restart:
    """GitHub's stand-in, a directory for snapshots, and the started processes."""

    github: GitHubProcess
    options: argparse.Namespace
    directory: Path
    stack: ExitStack
    thresholds: Thresholds = field(factory=Thresholds)

    def start(self, interval: str, redis: RedisServer | None = None) -> BlockingMirror:
        """Start a mirror, and return before it listens."""
        sections: dict[str, dict[str, object]] = {
            "github": {"api_url": self.github.url},
            "cache": {"credential_secret": "of the benchmark"},
            "snapshot": {"target": self.directory.as_uri(), "interval": interval, "keep": 3},
            "log": {"access": "none"},
        }
        if redis is not None:
            sections["cache"]["backend"] = "redis"
            sections["redis"] = {"url": "redis://{}:{}".format(*redis.address)}
        mirror = BlockingMirror(sections)
        self.stack.callback(mirror.kill)
        return mirror

    def requests(self, resources: int, users: int) -> list[Request]:
        """Return each possible request, in random order."""
        everything = [
            (f"/repos/bench/repo-{resource}", f"token{user}")
            for user in range(users)
            for resource in range(resources)
        ]
        return random.Random(1).sample(everything, len(everything))

    def fill(self, mirrors: Sequence[BlockingMirror], requests: Sequence[Request]) -> None:
        """Send an equal part of the requests to each mirror."""
        tally = Tally()

        async def run() -> None:
            step = len(mirrors)
            parts = (requests[place::step] for place in range(step))
            await asyncio.gather(
                *(
                    request_concurrently(mirror.url, part, CLIENTS, tally)
                    for mirror, part in zip(mirrors, parts, strict=True)
                )
            )

        asyncio.run(run())
        if tally.failed:
            raise SystemExit(f"storing failed: {dict(tally.statuses)}")

    def until_saved(self, mirrors: Sequence[BlockingMirror]) -> None:
        """Return when one of the mirrors has begun and completed a snapshot from now on."""
        seen = {self.saved_at(mirrors)}
        deadline = time.monotonic() + DEADLINE_S
        while len(seen) < 3:
            if time.monotonic() > deadline:
                raise SystemExit("no snapshot was made")
            time.sleep(POLL_S)
            seen.add(self.saved_at(mirrors))

    @staticmethod
    def saved_at(mirrors: Sequence[BlockingMirror]) -> float:
        shown = (read_metric(mirror.admin_url, SAVED_AT) for mirror in mirrors)
        return max((at for at in shown if not math.isnan(at)), default=0.0)

    # One mirror on the memory store.

    def one(self) -> None:
        """Kill a mirror with many records and start it again, then stop it and start it again."""
        everything = self.requests(self.options.resources, 1)
        known, last = everything[:-LEARNED_LAST], everything[-LEARNED_LAST:]
        mirror = self.start("1s")
        mirror.ready()
        self.fill([mirror], known)
        self.until_saved([mirror])
        mirror.signal(signal.SIGKILL)
        mirror.kill()
        mirror = self.restart("killed (-9)", known)
        self.fill([mirror], last)
        if mirror.stop() != 0:
            raise SystemExit("the mirror did not exit cleanly")
        mirror = self.restart("stopped (SIGTERM)", everything)
        mirror.stop()

    def restart(self, what: str, known: Sequence[Request]) -> BlockingMirror:
        """Start a mirror under load, and send all *known* requests again."""
        self.github.control("reset_counts")
        began = time.monotonic()
        mirror = self.start("1h")
        mirror.ready()
        listening = time.monotonic() - began
        # each once during the restart, so that the response cannot have been stored since
        with Load([mirror.url], lambda: iter(known), self.options.rate) as load:
            while not is_ready(mirror):
                time.sleep(POLL_S)
            ready = time.monotonic() - began
            time.sleep(2.0)
        tally = load.tallies[mirror.url]
        rest = request_all([mirror], known)
        print(f"\nThe memory store, {len(known)} resources stored, the mirror is {what}")
        self.judge(tally, rest)
        self.thresholds.figure("seconds until it listens", listening, "s")
        self.thresholds.figure("seconds until it is ready", ready, "s")
        return mirror

    def judge(self, load: Tally, rest: Tally) -> None:
        """Compare the results of the load and of the requests after it with thresholds."""
        counts = self.github.counts()
        paid = counts["total_paid"]
        sent = load.statuses.total() + rest.statuses.total()
        self.thresholds.figure("paid", paid, most=0)
        self.thresholds.figure(
            "failed requests", load.failed + rest.failed, most=0, note=f"of {sent}"
        )
        slow = Spread.of(load.seconds)
        self.thresholds.figure(
            "longest request under load", max(load.seconds, default=math.nan), "s"
        )
        self.thresholds.figure("  99th percentile", slow.p99, "s")
        if paid:
            print(f"    paid, for example: {counts['paid'][:5]}")
            print(f"    outcomes: {dict(load.outcomes)}, then {dict(rest.outcomes)}")
        if load.failed or rest.failed:
            print(f"    {dict(load.statuses)} {dict(rest.statuses)}")

    # Many mirrors on Redis.

    def fleet(self) -> None:
        """Kill the Redis of a fleet twice."""
        count = self.options.mirrors
        with RedisServer() as redis:
            mirrors = [self.start("1s", redis) for _ in range(count)]
            for mirror in mirrors:
                mirror.ready()
            everything = self.requests(self.options.shared, USERS)
            self.fill(mirrors, everything)
            self.until_saved(mirrors)
            for away_s in (AWAY_S, float(self.options.away)):
                self.lose(redis, mirrors, everything, away_s)
            for mirror in mirrors:
                mirror.kill()

    def lose(
        self,
        redis: RedisServer,
        mirrors: Sequence[BlockingMirror],
        everything: Sequence[Request],
        away_s: float,
    ) -> None:
        """Kill Redis under load, and restart it empty after *away_s*."""
        self.github.control("reset_counts")
        rng = random.Random(2)

        def requests() -> Iterator[Request]:
            while True:
                yield rng.choice(everything)

        rate = self.options.rate / 2 / len(mirrors)
        with Load([mirror.url for mirror in mirrors], requests, rate) as load:
            time.sleep(0.5)
            redis.kill()
            time.sleep(away_s)
            redis.restart()
            filled_s = self.until_filled(redis, mirrors)
            time.sleep(2.0)
        tally = Tally()
        for each in load.tallies.values():
            tally.statuses += each.statuses
            tally.outcomes += each.outcomes
            tally.seconds += each.seconds
        rest = request_all(mirrors, everything)
        print(
            f"\nA fleet of {len(mirrors)}, {len(everything) // USERS} resources and {USERS} users; "
            f"Redis is killed, and restarted empty after {away_s:g} s"
        )
        self.judge(tally, rest)
        self.thresholds.figure("seconds until all use Redis, and it is filled", filled_s, "s")

    @staticmethod
    def until_filled(redis: RedisServer, mirrors: Sequence[BlockingMirror]) -> float:
        """Return the seconds until all mirrors use Redis and it has the mark."""
        began = time.monotonic()
        left = list(mirrors)
        while left or not redis.send("KEYS", "*filled*"):
            left = [each for each in left if read_metric(each.admin_url, AVAILABLE) != 1]
            if time.monotonic() - began > DEADLINE_S:
                return math.inf
            time.sleep(POLL_S)
        return time.monotonic() - began


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.restart",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--resources", type=int, default=10_000, help="stored by the single mirror")
    parser.add_argument("--size", type=int, default=3_000, help="bytes of a resource")
    parser.add_argument("--rate", type=float, default=200, help="requests/s")
    parser.add_argument("--delay", type=float, default=20, help="ms until GitHub responds")
    parser.add_argument("--mirrors", type=int, default=10, help="of the fleet")
    parser.add_argument("--shared", type=int, default=150, help="resources stored by the fleet")
    parser.add_argument("--away", type=float, default=20, help="seconds without Redis")
    parser.add_argument("--only", choices=["one", "fleet"], help="only this part")
    options = parser.parse_args(arguments)
    exit_cleanly_on_signals()
    with ExitStack() as stack:
        github = stack.enter_context(
            GitHubProcess(
                resources=max(options.resources, options.shared),
                users=USERS,
                size=options.size,
                delay=options.delay / 1000,
                log=0,
            )
        )
        thresholds = Thresholds()
        for part in ("one", "fleet"):
            if options.only in {None, part}:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="snapshots-"))
                restart = Restart(github, options, Path(folder), stack, thresholds)
                getattr(restart, part)()
        return thresholds.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
