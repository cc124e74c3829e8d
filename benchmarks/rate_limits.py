"""The load on GitHub of a fleet in which one credential sends as many requests as it can.

    python -m benchmarks.rate_limits --replicas 100 --seconds 10

Mirrors share one Redis. GitHub's stand-in counts the requests in flight, and the points of each
minute. The first load is bounded by the requests in flight, the second one by 900 points a minute.
The exit status is 1 if GitHub ever had more than 100 requests in flight or 900 points in a minute,
or if a replica had no successful response.
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

from benchmarks.github_process import GitHubProcess
from benchmarks.load_generator import Tally, request_sequentially
from benchmarks.percentiles import Spread
from benchmarks.process_control import raise_priority
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

MOST_IN_FLIGHT = 100
POINTS = 900
TOKEN = "token0"
SHARED = "/repos/bench/repo-{}"
FAULT = re.compile(r"Redis (?:unreachable|cannot be (?:read|written)), .*")


@define
class LimitedLoad:
    """One load on one fleet, and its results."""

    name: str
    github: GitHubProcess
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
        """The number of resources."""
        count: int = self.options.clients * self.options.resources
        return count

    def _targets(self, client: int, until: float) -> Iterator[str]:
        """Yield targets until the time is over; clients of one mirror never share one."""
        number = client
        while time.monotonic() < until:
            yield SHARED.format(number)
            number = (number + self.options.clients) % self._count

    async def _load(self, mirrors: Sequence[BlockingMirror], seconds: float) -> list[Tally]:
        """Send the requests of all clients to all mirrors until the time is over."""
        tallies = [Tally() for _ in mirrors]
        until = time.monotonic() + seconds
        await asyncio.gather(
            *(
                request_sequentially(mirror.url, TOKEN, self._targets(client, until), tally)
                for mirror, tally in zip(mirrors, tallies, strict=True)
                for client in range(self.options.clients)
            )
        )
        return tallies

    def run(self) -> bool:
        """Run the load, and print the counts; return whether all limits were observed."""
        with self._mirror(0) as mirror:  # all is stored before, so that each request is forwarded
            self.github.control("switches", delay_s=0)
            targets = [SHARED.format(number) for number in range(self._count)]
            asyncio.run(request_sequentially(mirror.url, TOKEN, targets, Tally()))
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
            duration = time.monotonic() - began
            counts = self.github.counts()
            lost = Counter(fault for mirror in mirrors for fault in FAULT.findall(mirror.log_text))
        good = self._show(tallies, duration, counts)
        for fault, times in lost.most_common(5):
            sys.stdout.write(f"  {times} times: {fault}\n")
        return good

    def _show(self, tallies: list[Tally], duration: float, counts: dict[str, object]) -> bool:
        in_flight = dict(counts["most_in_flight"])  # type: ignore[call-overload]
        points = {
            kind: number
            for owner, kind, number in counts["most_points_in_minute"]  # type: ignore[attr-defined]
            if owner == TOKEN
        }
        statuses: Counter[int | str] = sum((each.statuses for each in tallies), Counter())
        successful = [each.statuses[200] for each in tallies]
        latency = Spread.of([value for each in tallies for value in each.seconds])
        most, spent = in_flight.get(TOKEN, 0), points.get("rest", 0)
        bad = (
            most > MOST_IN_FLIGHT
            or (self.points and spent > self.points)
            or min(successful) == 0
            or counts["limited"]
        )
        sys.stdout.write(
            f"{self.name:22}{most:>10}{spent:>14}{sum(successful):>11}"
            f"{sum(successful) / duration:>10.0f}{statuses[503]:>8}"
            f"{sum(statuses.values()) - statuses[200] - statuses[503]:>8}"
            f"{min(successful):>10}{max(successful):>6}"
            f"{latency.mean * 1000:>9.0f}{latency.p99 * 1000:>8.0f}"
            f"{'  WRONG' if bad else ''}\n"
        )
        sys.stdout.flush()
        return not bad


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rate_limits", description=__doc__)
    parser.add_argument("--replicas", type=int, default=20)
    parser.add_argument("--clients", type=int, default=20, help="connections to each replica")
    parser.add_argument("--resources", type=int, default=5, help="for each connection")
    parser.add_argument("--delay", type=float, default=1.0, help="seconds until GitHub responds")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--minute", type=float, default=10.0, help="seconds of load with points")
    options = parser.parse_args(arguments)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        resources = options.clients * options.resources
        # The stand-in has no limit here: the mirrors must observe it.
        github = stack.enter_context(
            GitHubProcess(resources=resources, users=1, own=0, delay=options.delay, log=0)
        )
        sys.stdout.write(
            f"{options.replicas} mirrors, one credential, {options.clients} connections to each; "
            f"GitHub responds after {options.delay:g} s\n"
            f"{'':22}{'in flight':>10}{'points/min':>14}{'successful':>11}{'a second':>10}"
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
                raise_priority(pid)
            good = LimitedLoad(name, github, redis, options, points, seconds).run() and good
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
