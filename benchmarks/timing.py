"""Whether a refused caller can tell from timing that others have a private thing stored.

    python -m benchmarks.timing --things 200 --size 23000

Half of the things, all private, are stored for somebody who may see them; of the others the mirror
knows nothing. Somebody who may not see any asks for all of them in random order, twice. Printed is
what the first and the second time took, of stored and of unknown ones, and the difference; and how
often one would be right who guesses from a single answer with the best threshold (50 %: no better
than a coin). GitHub's stand-in answers at once, so that nothing hides the difference; its own time
for an answer, 50 ms and more, and that of the network come on top in practice.
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

from benchmarks.driving import Connection, StandIn, Tally, poll
from benchmarks.figures import Spread
from benchmarks.latency import settings
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

_UNAUTHORIZED = 401
_NOT_FOUND = 404


def best_guess(some: Sequence[float], others: Sequence[float]) -> float:
    """Return the share of right guesses with the best threshold, in either direction."""
    marked = sorted([(each, 1) for each in some] + [(each, -1) for each in others])
    best = balance = 0
    for _, mark in marked:
        balance += mark
        best = max(best, abs(balance))
    return 0.5 + best / (2 * max(len(some), len(others)))


async def measure(
    url: str, targets: Sequence[str], rng: random.Random, *, made_up: bool
) -> dict[str, list[float]]:
    """Ask for all targets once, as somebody who is refused; return how long each took.

    *made_up*: with another made-up token each time.
    """
    took: dict[str, list[float]] = {}
    with contextlib.closing(Connection(url)) as connection:
        await connection.get("/zen", "token1")
        for target in rng.sample(targets, len(targets)):
            token = f"made-up-{rng.random()}" if made_up else "token1"
            began = perf_counter()
            status, _ = await connection.get(target, token)
            took.setdefault(target, []).append(perf_counter() - began)
            if status != (_UNAUTHORIZED if made_up else _NOT_FOUND):
                raise SystemExit(f"not refused: {status}")
    return took


def report(name: str, stored: Sequence[float], unknown: Sequence[float]) -> None:
    """Print what was measured, in milliseconds."""
    for what, times in (("stored", stored), ("unknown", unknown)):
        spread = Spread.of(times)
        print(
            f"{name:34}{what:10}{1e3 * median(times):9.3f}{1e3 * spread.mean:9.3f}"
            f"{1e3 * spread.p90:9.3f}"
        )
    apart = median(stored) - median(unknown)
    print(f"{name:34}{'apart':10}{1e3 * apart:+9.3f}   guessed {best_guess(stored, unknown):.0%}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.timing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--things", type=int, default=200)
    parser.add_argument("--size", type=int, default=23_000, help="bytes of each")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that GitHub takes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-share", action="store_true", help="[cache] share = no")
    parser.add_argument("--made-up", action="store_true", help="with made-up tokens")
    options = parser.parse_args(arguments)
    rng = random.Random(options.seed)
    with ExitStack() as stack:
        github = stack.enter_context(
            StandIn(
                resources=options.things, users=2, size=options.size, delay=options.delay, log=0
            )
        )
        redis = stack.enter_context(RedisServer())
        targets = [f"/repos/bench/repo-{number}" for number in range(options.things)]
        for target in targets:
            github.control("private", prefix=target, logins=["user0"])
        stored = set(rng.sample(targets, options.things // 2))
        print(f"{options.things} things of {options.size} bytes, milliseconds")
        print(f"{'':44}{'median':>9}{'mean':>9}{'p90':>9}")
        for name, more in (
            ("memory store", {}),
            ("Redis", {"url": "redis://{}:{}".format(*redis.address)}),
        ):
            sections = settings(github, **more)
            sections["cache"]["share"] = not options.no_share
            mirror = stack.enter_context(BlockingMirror(sections))
            tally = Tally()
            asyncio.run(poll(mirror.url, "token0", sorted(stored), tally))
            if tally.failed:
                raise SystemExit(f"storing failed: {dict(tally.statuses)}")
            for time in ("first", "second"):
                took = asyncio.run(measure(mirror.url, targets, rng, made_up=options.made_up))
                known = [each for target in stored for each in took[target]]
                rest = [each for target in targets if target not in stored for each in took[target]]
                report(f"{name}, {time} time", known, rest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
