"""What the mirror adds to an answer of GitHub's that takes 100 ms, at a steady rate.

Questions come at their time, whether or not earlier ones are answered, and their time counts from
when they were due. GitHub's stand-in is asked directly at the same rate, in turn with the mirrors;
percentiles are subtracted from each other.
"""

from __future__ import annotations

import argparse
import asyncio
import math
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle, islice
from typing import Any, Final

from benchmarks.beside import settings
from benchmarks.driving import Question, StandIn, Tally, keep_up
from benchmarks.measuring import warm
from benchmarks.results import Results
from benchmarks.revalidating import MEMORY, REDIS, SIZE
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

PART: Final = "latency"
RATE: Final = 200
MEDIAN_MS: Final = 5
P99_MS: Final = 15
"""Bars at this rate: what is added to the median and to the 99th percentile, at most."""

_TAKES_S: Final = 0.1
_RESOURCES: Final = 100
_USERS: Final = 10
_SHARES: Final = (0.5, 0.9, 0.99)
_TOO_LATE_MS: Final = 5


def percentiles(seconds: list[float]) -> list[float]:
    """Return median, 90th and 99th percentile, in milliseconds."""
    ordered = sorted(seconds)
    return [1000 * ordered[math.ceil(share * len(ordered)) - 1] for share in _SHARES]


def _asked() -> Iterator[Question]:
    return cycle(
        (f"/repos/bench/repo-{resource}", f"token{user}")
        for user in range(_USERS)
        for resource in range(_RESOURCES)
    )


def adding(options: argparse.Namespace, results: Results) -> None:
    """Measure at one rate after the other."""
    table: list[dict[str, Any]] = []
    with ExitStack() as stack:
        github = stack.enter_context(
            StandIn(resources=_RESOURCES, users=_USERS, size=SIZE, delay=_TAKES_S, log=0)
        )
        redis = stack.enter_context(RedisServer())
        urls = {"GitHub's stand-in": github.url}
        for name, on in ((MEMORY, None), (REDIS, redis)):
            mirror = stack.enter_context(BlockingMirror(settings(github.url, on)))
            warm(mirror.url, list(islice(_asked(), _RESOURCES * _USERS)))
            urls[name] = mirror.url
        for rate in options.rates:
            tallies = {name: Tally() for name in urls}
            for _ in range(options.rounds):
                for name, url in urls.items():
                    questions = islice(_asked(), max(1, round(rate * options.seconds)))
                    asyncio.run(keep_up(url, questions, rate, tallies[name]))
            table += report(rate, tallies, results)
    results.tables[PART] = table


def report(rate: float, tallies: dict[str, Tally], results: Results) -> list[dict[str, Any]]:
    """Print and judge what came of one rate."""
    print(f"\n{rate:g} requests/s, milliseconds {'median':>26}{'p90':>9}{'p99':>9}")
    table: list[dict[str, Any]] = []
    direct: list[float] = []
    for name, tally in tallies.items():
        outcomes = set(tally.outcomes) if direct else {"revalidated"}
        if tally.failed or outcomes != {"revalidated"}:
            raise SystemExit(f"{name}: {dict(tally.statuses)}, {dict(tally.outcomes)}")
        took, late = percentiles(tally.seconds), percentiles(tally.late)
        direct = direct or took
        busy = "  TOO BUSY A MACHINE: this tells little" if late[-1] > _TOO_LATE_MS else ""
        for what, each, more in ((name, took, ""), ("  (the client itself was late)", late, busy)):
            print(f"  {what:44}" + "".join(f"{value:9.2f}" for value in each) + more)
        added = [own - his for own, his in zip(took, direct, strict=True)]
        table.append(
            {"subject": name, "rate": rate, "ms": took, "late_ms": late, "added_ms": added}
        )
    for row in table[1:]:
        name, added = row["subject"], row["added_ms"]
        judged = rate == RATE and name == MEMORY
        for what, value, most in (
            ("median", added[0], MEDIAN_MS),
            ("99th percentile", added[-1], P99_MS),
        ):
            results.figure(
                PART,
                f"added to the {what}, {name}, {rate:g}/s",
                value,
                "ms",
                most=most if judged else None,
            )
    return table
