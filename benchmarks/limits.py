"""What GitHub sees of a fleet that one credential asks for as much as it takes.

    python -m benchmarks.limits --replicas 100 --seconds 10

Mirrors share one Redis; GitHub's stand-in counts what is in flight, and the points of each minute.
First all that may be in flight is asked for, then all that 900 points a minute allow. It prints
what got through. The exit status is 1 if GitHub ever saw more than 100 in flight, or more than 900
points in a minute, or if some replica got nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from attrs import define

from benchmarks.driving import StandIn, Tally, poll, start_first
from benchmarks.figures import Spread
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

MOST_IN_FLIGHT = 100
POINTS = 900
TOKEN = "token0"
SHARED = "/repos/bench/repo-{}"


@define
class Run:
    """One load on one fleet, and what came of it."""

    name: str
    github: StandIn
    redis: RedisServer
    options: argparse.Namespace
    points: int
    seconds: float

    def _mirror(self, points: int) -> BlockingMirror:
        host, port = self.redis.address
        return BlockingMirror(
            {
                "github": {"api_url": self.github.url, "points_per_minute": points},
                "cache": {"backend": "redis", "credential_secret": "of the benchmark"},
                "redis": {"url": f"redis://{host}:{port}"},
                "log": {"access": "none"},
            }
        )

    @property
    def _count(self) -> int:
        """How many resources there are."""
        count: int = self.options.clients * self.options.resources
        return count

    def _targets(self, client: int, until: float) -> Iterator[str]:
        """Give targets until the time is up; clients of one mirror never ask for the same."""
        number = client
        while time.monotonic() < until:
            yield SHARED.format(number)
            number = (number + self.options.clients) % self._count

    async def _load(self, mirrors: Sequence[BlockingMirror], seconds: float) -> list[Tally]:
        """Have all clients ask all mirrors until the time is up, each one thing after another."""
        tallies = [Tally() for _ in mirrors]
        until = time.monotonic() + seconds
        await asyncio.gather(
            *(
                poll(mirror.url, TOKEN, self._targets(client, until), tally)
                for mirror, tally in zip(mirrors, tallies, strict=True)
                for client in range(self.options.clients)
            )
        )
        return tallies

    def go(self) -> bool:
        """Do it, and print what GitHub saw; tell whether all was as it must be."""
        with self._mirror(0) as mirror:  # all is known before, so that all that is asked is asked
            self.github.control("switches", delay_s=0)
            targets = [SHARED.format(number) for number in range(self._count)]
            asyncio.run(poll(mirror.url, TOKEN, targets, Tally()))
            self.github.control("switches", delay_s=self.options.delay)
        with ExitStack() as stack:
            mirrors = []
            for _ in range(self.options.replicas):
                mirrors.append(self._mirror(self.points))
                stack.callback(mirrors[-1].kill)
            for mirror in mirrors:
                mirror.ready()
            self.github.control("reset_counts")
            began = time.monotonic()
            tallies = asyncio.run(self._load(mirrors, self.seconds))
            took = time.monotonic() - began
            counts = self.github.counts()
            lost = Counter(
                fault
                for mirror in mirrors
                for fault in re.findall(r"Redis at \S+ (can't be .*)", mirror.log_text)
            )
        good = self._show(tallies, took, counts)
        for fault, times in lost.most_common(5):
            sys.stdout.write(f"  {times} times, Redis {fault}\n")
        return good

    def _show(self, tallies: list[Tally], took: float, counts: dict[str, object]) -> bool:
        in_flight = dict(counts["most_in_flight"])  # type: ignore[call-overload]
        points = {
            kind: number
            for owner, kind, number in counts["most_points_in_minute"]  # type: ignore[attr-defined]
            if owner == TOKEN
        }
        statuses: Counter[int | str] = sum((each.statuses for each in tallies), Counter())
        answered = [each.statuses[200] for each in tallies]
        took_each = Spread.of([value for each in tallies for value in each.seconds])
        most, spent = in_flight.get(TOKEN, 0), points.get("rest", 0)
        bad = (
            most > MOST_IN_FLIGHT
            or (self.points and spent > self.points)
            or min(answered) == 0
            or counts["limited"]
        )
        sys.stdout.write(
            f"{self.name:22}{most:>10}{spent:>14}{sum(answered):>10}"
            f"{sum(answered) / took:>10.0f}{statuses[503]:>8}"
            f"{sum(statuses.values()) - statuses[200] - statuses[503]:>8}"
            f"{min(answered):>10}{max(answered):>6}"
            f"{took_each.mean * 1000:>9.0f}{took_each.p99 * 1000:>8.0f}"
            f"{'  WRONG' if bad else ''}\n"
        )
        sys.stdout.flush()
        return not bad


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--replicas", type=int, default=20)
    parser.add_argument("--clients", type=int, default=20, help="connections to each replica")
    parser.add_argument("--resources", type=int, default=5, help="for each connection")
    parser.add_argument("--delay", type=float, default=1.0, help="seconds that GitHub takes")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--minute", type=float, default=10.0, help="seconds of load with points")
    options = parser.parse_args(arguments)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        resources = options.clients * options.resources
        # GitHub has no limit here: it is the mirrors that have to keep to it.
        github = stack.enter_context(
            StandIn(resources=resources, users=1, own=0, delay=options.delay, log=0)
        )
        sys.stdout.write(
            f"{options.replicas} mirrors, one credential, {options.clients} connections to each; "
            f"GitHub takes {options.delay:g} s\n"
            f"{'':22}{'in flight':>10}{'points/min':>14}{'answered':>10}{'a second':>10}"
            f"{'503':>8}{'failed':>8}{'by mirror':>16}{'mean ms':>9}{'p99 ms':>8}\n"
        )
        runs = (
            ("in flight", 0, options.seconds),
            (f"{POINTS} points a minute", POINTS, options.minute),
        )
        good = True
        for name, points, seconds in runs:
            redis = stack.enter_context(RedisServer())
            for pid in (github.pid, redis.pid):
                start_first(pid)
            good = Run(name, github, redis, options, points, seconds).go() and good
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
