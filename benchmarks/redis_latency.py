"""The latency of Redis in comparison with the memory store, without delays and with late replies.

    python -m benchmarks.redis_latency --rate 50 200 --seconds 1 --rounds 8

One mirror has the memory store, the others have Redis. They receive the same requests for stored
responses, in turn and at the same rate (an open loop). GitHub's stand-in confirms each after 100
ms. Meanwhile it also receives direct requests, which measure one HTTP request. The added latency is
the difference between two percentiles. The mirrors' own ``ghmirror_store_seconds`` is printed for
comparison, with the resolution of its buckets.

There are two thresholds for the latency added to the mean, the 90th, 95th and 99th percentile. The
wide one is three HTTP requests. The narrow one is a tenth of a request of 100 ms. The exit status
is 1 if the wide one is exceeded, if the narrow one is exceeded while Redis has no delay, or if a
request failed. Late replies within ``[redis] timeout`` are awaited, so that the narrow threshold
cannot hold with them.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import cycle, islice
from statistics import median

from attrs import define, field

from benchmarks.delaying_proxy import DelayingProxy
from benchmarks.github_process import GitHubProcess
from benchmarks.load_generator import Tally, request_at_rate, request_sequentially
from benchmarks.mirror_metrics import StoreMetrics, read_metrics
from benchmarks.percentiles import NAMES, Spread
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

REQUESTS = 3
"""The wide threshold, as a number of HTTP requests."""

OWN_S = 0.010
"""The narrow threshold: a tenth of a request of 100 ms."""

_FAULT = re.compile(r"Redis (?:unreachable|cannot be (?:read|written)), ")

DIRECT_RATE = 10.0
RESOURCES, USERS = 30, 20
"""Enough that no two equal requests are in flight at once."""


@define(eq=False)
class Measured:
    """The results of one of the two stores at one rate, by round."""

    mirror: BlockingMirror
    name: str
    rounds: list[Tally] = field(factory=list)
    before: StoreMetrics = field(factory=StoreMetrics)
    failures_before: int = 0

    def begin(self) -> None:
        self.before = read_metrics(self.mirror.admin_url)
        self.failures_before = self._failures_so_far()

    def _failures_so_far(self) -> int:
        return len(_FAULT.findall(self.mirror.log_text))

    @property
    def failures(self) -> int:
        """The number of logged failures of Redis."""
        return self._failures_so_far() - self.failures_before

    @property
    def spread(self) -> Spread:
        return Spread.of([each for tally in self.rounds for each in tally.seconds])

    @property
    def shown(self) -> StoreMetrics:
        """The metrics since the beginning."""
        return read_metrics(self.mirror.admin_url).since(self.before)

    @property
    def count(self) -> int:
        return sum(len(tally.seconds) for tally in self.rounds)


def line(name: str, values: Sequence[float], more: str = "") -> str:
    """Return a line with seconds as milliseconds, and a remark."""
    return f"  {name:34}" + "".join(f"{1000 * value:10.2f}" for value in values) + f"  {more}"


@define(eq=False)
class Latency:
    """The comparison, and the exceeded thresholds."""

    github: GitHubProcess
    options: argparse.Namespace
    exceeded: list[str] = field(factory=list)

    def requests(self) -> Iterator[tuple[str, str]]:
        """Return an endless sequence of requests."""
        return cycle(
            (f"/repos/bench/repo-{resource}", f"token{user}")
            for user in range(USERS)
            for resource in range(RESOURCES)
        )

    def warm(self, mirror: BlockingMirror) -> None:
        """Request each resource with each credential twice: stored, then confirmed."""
        targets = [f"/repos/bench/repo-{number}" for number in range(RESOURCES)]
        tally = Tally()

        async def run() -> None:
            users = [
                request_sequentially(mirror.url, f"token{user}", targets, tally)
                for user in range(USERS)
            ]
            await asyncio.gather(*users)

        asyncio.run(run())
        asyncio.run(run())
        if tally.failed:
            raise SystemExit(f"warming failed: {dict(tally.statuses)}")

    def round(self, mirror: BlockingMirror, rate: float, direct: Tally) -> Tally:
        """Send load to a mirror for some seconds, and a few requests to GitHub."""
        tally = Tally()
        seconds = self.options.seconds

        async def run() -> None:
            some = islice(self.requests(), round(rate * seconds))
            few = islice(self.requests(), max(1, round(DIRECT_RATE * seconds)))
            await asyncio.gather(
                request_at_rate(mirror.url, some, rate, tally),
                request_at_rate(self.github.url, few, DIRECT_RATE, direct),
            )

        asyncio.run(run())
        return tally

    def compare(
        self,
        what: str,
        memory: BlockingMirror,
        redis: BlockingMirror,
        rate: float,
        *,
        undelayed: bool,
    ) -> None:
        """Measure at one rate, in rounds, and print the results."""
        direct = Tally()
        both = Measured(memory, "memory store"), Measured(redis, "Redis")
        for each in both:
            each.begin()
        for number in range(self.options.rounds):
            # in both orders, so that other load on the machine affects both
            for each in both if number % 2 else reversed(both):
                each.rounds.append(self.round(each.mirror, rate, direct))
        self.report(f"{what}, {rate:g} requests/s", both, direct, undelayed=undelayed)

    def report(
        self, what: str, both: tuple[Measured, Measured], direct: Tally, *, undelayed: bool
    ) -> None:
        """Print the results, and compare them with the thresholds."""
        tallies = [tally for each in both for tally in each.rounds]
        failed = sum(tally.failed for tally in tallies)
        outcomes = sorted({outcome for tally in tallies for outcome in tally.outcomes})
        print(f"\n{what}: {both[0].count} requests each, {failed} failed ({', '.join(outcomes)})")
        print(f"  {'milliseconds':34}" + "".join(f"{name:>10}" for name in NAMES))
        for each in both:
            print(line(f"request, {each.name}", each.spread.values))
        one = Spread.of(direct.seconds)
        print(line("one HTTP request to GitHub", one.values))
        memory, redis = both
        added = redis.spread - memory.spread
        print(line("added by Redis", added.values))
        by_round = [
            (Spread.of(with_redis.seconds) - Spread.of(without.seconds)).values
            for with_redis, without in zip(redis.rounds, memory.rounds, strict=True)
        ]
        for name, of in (("least", min), ("median", median), ("most", max)):
            values = [of(each) for each in zip(*by_round, strict=True)]
            print(line(f"  in single rounds, {name}", values))
        wide = max(added.values) <= REQUESTS * one.mean
        own = max(added.values) <= OWN_S
        print(line(f"at most {REQUESTS} requests", [REQUESTS * one.mean] * 4, _word(wide)))
        print(line("at most a tenth of 100 ms", [OWN_S] * 4, _word(own, counts=undelayed)))
        print("  ghmirror_store_seconds")
        shown = [each.shown for each in both]
        for metrics in shown:
            for labels, histogram in metrics.store.items():
                name = f"  {' '.join(labels)}"
                print(line(name, histogram.spread().values, f"of {histogram.count}"))
        for each, metrics in zip(both, shown, strict=True):
            print(line(f"CPU time a request, {each.name}", [metrics.cpu_s / max(1, each.count)]))
        print(f"  failures of Redis in the log: {redis.failures}")
        late = Spread.of([each for tally in tallies for each in tally.late])
        busy = "THE MACHINE IS TOO BUSY for valid results" if late.p95 > OWN_S / 2 else ""
        print(line("(delay of the client)", late.values, busy))
        sys.stdout.flush()
        for bad, reason in (
            (failed, "requests failed"),
            (not wide, "more than three HTTP requests"),
            (undelayed and not own, "more than a tenth of 100 ms"),
        ):
            if bad:
                self.exceeded.append(f"{what}: {reason}")


def _word(holds: bool, *, counts: bool = True) -> str:
    if holds:
        return "holds"
    return "MISSED" if counts else "does not hold, as expected"


def settings(github: GitHubProcess, **redis: object) -> dict[str, dict[str, object]]:
    """Return the settings of a mirror."""
    return {
        "github": {"api_url": github.url},
        "cache": {"backend": "redis" if redis else "memory", "credential_secret": "a secret"},
        "log": {"access": "none"},
        "redis": redis,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.redis_latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rate", type=float, nargs="+", default=[50, 200], help="requests/s")
    parser.add_argument("--seconds", type=float, default=1, help="of a round")
    parser.add_argument("--rounds", type=int, default=8, help="of each store, at each rate")
    parser.add_argument("--delay", type=float, default=100, help="ms until GitHub responds")
    parser.add_argument("--late", type=float, default=200, help="delay of Redis in ms")
    parser.add_argument("--timeout", default="250ms", help="[redis] timeout")
    parser.add_argument("--local-size", default="64MiB", help="[redis] local_size; 0: no copies")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        github = stack.enter_context(
            GitHubProcess(resources=RESOURCES, users=USERS, delay=options.delay / 1000, log=0)
        )
        redis = stack.enter_context(RedisServer())
        proxy = stack.enter_context(DelayingProxy(redis.address))
        more = {"timeout": options.timeout, "local_size": options.local_size}
        memory, direct_redis, late_redis = (
            stack.enter_context(BlockingMirror(settings(github, **each)))
            for each in (
                {},
                {"url": "redis://{}:{}".format(*redis.address), **more},
                {"url": "redis://{}:{}".format(*proxy.address), **more},
            )
        )
        latency = Latency(github, options)
        for mirror in (memory, direct_redis, late_redis):
            latency.warm(mirror)
        for rate in options.rate:
            latency.compare("Redis without delay", memory, direct_redis, rate, undelayed=True)
        proxy.delay(options.late / 1000)
        for rate in options.rate:
            what = f"replies of Redis {options.late:g} ms late (timeout {options.timeout})"
            latency.compare(what, memory, late_redis, rate, undelayed=False)
    print()
    for exceeded in latency.exceeded:
        print(f"MISSED: {exceeded}")
    return int(bool(latency.exceeded))


if __name__ == "__main__":
    sys.exit(main())
