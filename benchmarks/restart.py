"""What a restart costs: of a mirror, and of the Redis that a fleet shares.

    python -m benchmarks.restart --resources 10000 --away 60

A mirror on the memory store knows some thousand resources, and makes snapshots. It is killed (-9)
when one has been made, and started again; clients ask at full rate from when it first listens, and
then for everything. The same again after SIGTERM, with what was learned a moment before.

Then a fleet on one Redis, with snapshots in a directory that it shares; each mirror has learned
another part. While clients ask each for all of it, Redis is killed and comes back empty; then it is
away for a while, and comes back empty.

GitHub must be paid for nothing, and no request may fail. The exit status is 1 if that is missed.
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

from benchmarks.bars import Bars
from benchmarks.driving import Load, Question, StandIn, Tally, end_in_order, poll_all
from benchmarks.figures import Spread, read_metric
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

CLIENTS = 16
LEARNED_LAST = 200
USERS = 2
AWAY_S = 3.0
DEADLINE_S = 60.0
LOOK_S = 0.05
SAVED_AT = 'ghmirror_snapshot_timestamp_seconds{operation="save"}'
AVAILABLE = "ghmirror_store_available"


def is_ready(mirror: BlockingMirror) -> bool:
    """Whether a mirror says that it is ready."""
    try:
        with urllib.request.urlopen(f"{mirror.admin_url}/readyz"):
            return True
    except urllib.error.HTTPError:
        return False


def ask_all(mirrors: Iterable[BlockingMirror], questions: Sequence[Question]) -> Tally:
    """Ask each mirror for all of it, many at a time."""
    tally = Tally()

    async def go() -> None:
        await asyncio.gather(
            *(poll_all(mirror.url, questions, CLIENTS, tally) for mirror in mirrors)
        )

    asyncio.run(go())
    return tally


@define(eq=False)
class Restart:
    """GitHub's stand-in, a directory for snapshots, and what is started."""

    github: StandIn
    options: argparse.Namespace
    directory: Path
    stack: ExitStack
    bars: Bars = field(factory=Bars)

    def start(self, interval: str, redis: RedisServer | None = None) -> BlockingMirror:
        """Start a mirror; it may not listen yet."""
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

    def questions(self, resources: int, users: int) -> list[Question]:
        """Return all that may be asked, in no order."""
        everything = [
            (f"/repos/bench/repo-{resource}", f"token{user}")
            for user in range(users)
            for resource in range(resources)
        ]
        return random.Random(1).sample(everything, len(everything))

    def learn(self, mirrors: Sequence[BlockingMirror], questions: Sequence[Question]) -> None:
        """Have each mirror learn its part."""
        tally = Tally()

        async def go() -> None:
            step = len(mirrors)
            parts = (questions[place::step] for place in range(step))
            await asyncio.gather(
                *(
                    poll_all(mirror.url, part, CLIENTS, tally)
                    for mirror, part in zip(mirrors, parts, strict=True)
                )
            )

        asyncio.run(go())
        if tally.failed:
            raise SystemExit(f"learning failed: {dict(tally.statuses)}")

    def until_saved(self, mirrors: Sequence[BlockingMirror]) -> None:
        """Return when a snapshot has been made that was begun after now, by one of the mirrors."""
        seen = {self.saved_at(mirrors)}
        deadline = time.monotonic() + DEADLINE_S
        while len(seen) < 3:
            if time.monotonic() > deadline:
                raise SystemExit("no snapshot was made")
            time.sleep(LOOK_S)
            seen.add(self.saved_at(mirrors))

    @staticmethod
    def saved_at(mirrors: Sequence[BlockingMirror]) -> float:
        shown = (read_metric(mirror.admin_url, SAVED_AT) for mirror in mirrors)
        return max((at for at in shown if not math.isnan(at)), default=0.0)

    # One mirror, on memory.

    def one(self) -> None:
        """Kill and stop a mirror that knows much."""
        everything = self.questions(self.options.resources, 1)
        known, last = everything[:-LEARNED_LAST], everything[-LEARNED_LAST:]
        mirror = self.start("1s")
        mirror.ready()
        self.learn([mirror], known)
        self.until_saved([mirror])
        mirror.signal(signal.SIGKILL)
        mirror.kill()
        mirror = self.restart("killed (-9)", known)
        self.learn([mirror], last)
        if mirror.stop() != 0:
            raise SystemExit("the mirror did not stop in peace")
        mirror = self.restart("stopped (SIGTERM)", everything)
        mirror.stop()

    def restart(self, what: str, known: Sequence[Question]) -> BlockingMirror:
        """Start a mirror under load, ask for all that is *known*, and judge that."""
        self.github.control("reset_counts")
        began = time.monotonic()
        mirror = self.start("1h")
        mirror.ready()
        listening = time.monotonic() - began
        # each is asked for once while it comes back, so that nobody has learned it before
        with Load([mirror.url], lambda: iter(known), self.options.rate) as load:
            while not is_ready(mirror):
                time.sleep(LOOK_S)
            ready = time.monotonic() - began
            time.sleep(2.0)
        tally = load.tallies[mirror.url]
        rest = ask_all([mirror], known)
        print(f"\nThe memory store, {len(known)} resources known, the mirror is {what}")
        self.judge(tally, rest)
        self.bars.figure("seconds until it listens", listening, "s")
        self.bars.figure("seconds until it is ready", ready, "s")
        return mirror

    def judge(self, load: Tally, rest: Tally) -> None:
        """Judge what was asked under load, and then once more in whole."""
        counts = self.github.counts()
        paid = counts["total_paid"]
        asked = load.statuses.total() + rest.statuses.total()
        self.bars.figure("paid", paid, most=0)
        self.bars.figure("failed requests", load.failed + rest.failed, most=0, note=f"of {asked}")
        slow = Spread.of(load.seconds)
        self.bars.figure("longest request under load", max(load.seconds, default=math.nan), "s")
        self.bars.figure("  99th percentile", slow.p99, "s")
        if paid:
            print(f"    paid, for instance: {counts['paid'][:5]}")
            print(f"    outcomes: {dict(load.outcomes)}, then {dict(rest.outcomes)}")
        if load.failed or rest.failed:
            print(f"    {dict(load.statuses)} {dict(rest.statuses)}")

    # Many, on Redis.

    def fleet(self) -> None:
        """Take Redis away from a fleet."""
        count = self.options.mirrors
        with RedisServer() as redis:
            mirrors = [self.start("1s", redis) for _ in range(count)]
            for mirror in mirrors:
                mirror.ready()
            everything = self.questions(self.options.shared, USERS)
            self.learn(mirrors, everything)
            self.until_saved(mirrors)
            for away_s in (AWAY_S, float(self.options.away)):
                self.lose(redis, mirrors, everything, away_s)
            for mirror in mirrors:
                mirror.kill()

    def lose(
        self,
        redis: RedisServer,
        mirrors: Sequence[BlockingMirror],
        everything: Sequence[Question],
        away_s: float,
    ) -> None:
        """Have Redis away for so long; it comes back empty."""
        self.github.control("reset_counts")
        rng = random.Random(2)

        def questions() -> Iterator[Question]:
            while True:
                yield rng.choice(everything)

        rate = self.options.rate / 2 / len(mirrors)
        with Load([mirror.url for mirror in mirrors], questions, rate) as load:
            time.sleep(0.5)
            redis.kill()
            time.sleep(away_s)
            redis.restart()
            back = self.until_filled(redis, mirrors)
            time.sleep(2.0)
        tally = Tally()
        for each in load.tallies.values():
            tally.statuses += each.statuses
            tally.outcomes += each.outcomes
            tally.seconds += each.seconds
        rest = ask_all(mirrors, everything)
        print(
            f"\nA fleet of {len(mirrors)}, {len(everything) // USERS} resources and {USERS} users; "
            f"Redis is killed, away for {away_s:g} s, and comes back empty"
        )
        self.judge(tally, rest)
        self.bars.figure("seconds until all are back, and it is filled", back, "s")

    @staticmethod
    def until_filled(redis: RedisServer, mirrors: Sequence[BlockingMirror]) -> float:
        """Return after how many seconds Redis is in use and carries the mark."""
        began = time.monotonic()
        left = list(mirrors)
        while left or not redis.send("KEYS", "*filled*"):
            left = [each for each in left if read_metric(each.admin_url, AVAILABLE) != 1]
            if time.monotonic() - began > DEADLINE_S:
                return math.inf
            time.sleep(LOOK_S)
        return time.monotonic() - began


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.restart",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--resources", type=int, default=10_000, help="that one mirror knows")
    parser.add_argument("--size", type=int, default=3_000, help="bytes of a resource")
    parser.add_argument("--rate", type=float, default=200, help="requests/s")
    parser.add_argument("--delay", type=float, default=20, help="ms that GitHub takes")
    parser.add_argument("--mirrors", type=int, default=10, help="of the fleet")
    parser.add_argument("--shared", type=int, default=150, help="resources that the fleet knows")
    parser.add_argument("--away", type=float, default=20, help="seconds that Redis is away")
    parser.add_argument("--only", choices=["one", "fleet"], help="only this part")
    options = parser.parse_args(arguments)
    end_in_order()
    with ExitStack() as stack:
        github = stack.enter_context(
            StandIn(
                resources=max(options.resources, options.shared),
                users=USERS,
                size=options.size,
                delay=options.delay / 1000,
                log=0,
            )
        )
        bars = Bars()
        for part in ("one", "fleet"):
            if options.only in {None, part}:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="snapshots-"))
                restart = Restart(github, options, Path(folder), stack, bars)
                getattr(restart, part)()
        return bars.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
