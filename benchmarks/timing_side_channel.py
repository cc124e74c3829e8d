"""Whether response times reveal to a refused client that a private resource is stored.

    python -m benchmarks.timing_side_channel --resources 200 --size 23000

Half of the resources, all private, are stored for a user who may see them; the others are not
stored. A user who may see none requests all of them in random order, twice. It prints the durations
of the first and the second request, for stored and other resources, and their difference. It also
prints the share of correct guesses from a single response with the best threshold, where 50 % is
chance. GitHub's stand-in responds at once, so that nothing hides a difference. In practice GitHub's
own time of 50 ms and more, and that of the network, are added.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median
from time import perf_counter

from benchmarks.github_process import GitHubProcess
from benchmarks.load_generator import Connection, Tally, request_sequentially
from benchmarks.percentiles import Spread
from benchmarks.redis_latency import settings
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

_UNAUTHORIZED = 401
_NOT_FOUND = 404


def best_guess(some: Sequence[float], others: Sequence[float]) -> float:
    """Return the share of correct guesses with the best threshold, in either direction."""
    marked = sorted([(each, 1) for each in some] + [(each, -1) for each in others])
    best = balance = 0
    for _, mark in marked:
        balance += mark
        best = max(best, abs(balance))
    return 0.5 + best / (2 * max(len(some), len(others)))


async def measure(
    url: str, targets: Sequence[str], rng: random.Random, *, made_up: bool
) -> dict[str, list[float]]:
    """Request all targets once as a refused user; return the duration of each.

    *made_up*: each request has another invalid token.
    """
    durations: dict[str, list[float]] = {}
    with contextlib.closing(Connection(url)) as connection:
        await connection.get("/zen", "token1")
        for target in rng.sample(targets, len(targets)):
            token = f"made-up-{rng.random()}" if made_up else "token1"
            began = perf_counter()
            status, _ = await connection.get(target, token)
            durations.setdefault(target, []).append(perf_counter() - began)
            if status != (_UNAUTHORIZED if made_up else _NOT_FOUND):
                raise SystemExit(f"not refused: {status}")
    return durations


def report(name: str, stored: Sequence[float], unknown: Sequence[float]) -> None:
    """Print medians, means and percentiles in milliseconds."""
    for what, times in (("stored", stored), ("unknown", unknown)):
        spread = Spread.of(times)
        print(
            f"{name:34}{what:10}{1e3 * median(times):9.3f}{1e3 * spread.mean:9.3f}"
            f"{1e3 * spread.p90:9.3f}"
        )
    difference = median(stored) - median(unknown)
    print(f"{name:34}{'apart':10}{1e3 * difference:+9.3f}  guess {best_guess(stored, unknown):.0%}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.timing_side_channel",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--resources", type=int, default=200)
    parser.add_argument("--size", type=int, default=23_000, help="bytes of each")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds until GitHub responds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-share", action="store_true", help="[cache] share = no")
    parser.add_argument("--made-up", action="store_true", help="with made-up tokens")
    options = parser.parse_args(arguments)
    rng = random.Random(options.seed)
    with ExitStack() as stack:
        github = stack.enter_context(
            GitHubProcess(
                resources=options.resources, users=2, size=options.size, delay=options.delay, log=0
            )
        )
        redis = stack.enter_context(RedisServer())
        targets = [f"/repos/bench/repo-{number}" for number in range(options.resources)]
        for target in targets:
            github.control("private", prefix=target, logins=["user0"])
        stored = set(rng.sample(targets, options.resources // 2))
        print(f"{options.resources} resources of {options.size} bytes, milliseconds")
        print(f"{'':44}{'median':>9}{'mean':>9}{'p90':>9}")
        for name, more in (
            ("memory store", {}),
            ("Redis", {"url": "redis://{}:{}".format(*redis.address)}),
        ):
            sections = settings(github, **more)
            sections["cache"]["share"] = not options.no_share
            mirror = stack.enter_context(BlockingMirror(sections))
            tally = Tally()
            asyncio.run(request_sequentially(mirror.url, "token0", sorted(stored), tally))
            if tally.failed:
                raise SystemExit(f"storing failed: {dict(tally.statuses)}")
            for time in ("first", "second"):
                durations = asyncio.run(measure(mirror.url, targets, rng, made_up=options.made_up))
                known = [each for target in stored for each in durations[target]]
                rest = [
                    each for target in targets if target not in stored for each in durations[target]
                ]
                report(f"{name}, {time} time", known, rest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
