"""The latency that the mirror adds to a response of GitHub of 100 ms, at a fixed rate.

The load is an open loop: a request is sent when it is due, whether or not earlier ones have ended,
and its duration counts from then. GitHub's stand-in receives the same load directly, in turn with
the mirrors. The added latency is the difference between two percentiles.
"""

from __future__ import annotations

import argparse
import asyncio
import math
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle, islice
from typing import Any, Final

from benchmarks.github_process import GitHubProcess
from benchmarks.load_generator import Request, Tally, request_at_rate
from benchmarks.measurement import warm
from benchmarks.results import Results
from benchmarks.revalidation import MEMORY, REDIS, SIZE
from benchmarks.subjects import settings
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

PART: Final = "latency"
RATE: Final = 200
MEDIAN_MS: Final = 5
P99_MS: Final = 15
"""Thresholds at this rate for the latency added to the median and to the 99th percentile."""

_GITHUB_S: Final = 0.1
_RESOURCES: Final = 100
_USERS: Final = 10
_SHARES: Final = (0.5, 0.9, 0.99)
_TOO_LATE_MS: Final = 5


def percentiles(seconds: list[float]) -> list[float]:
    """Return median, 90th and 99th percentile, in milliseconds."""
    ordered = sorted(seconds)
    return [1000 * ordered[math.ceil(share * len(ordered)) - 1] for share in _SHARES]


def _requests() -> Iterator[Request]:
    return cycle(
        (f"/repos/bench/repo-{resource}", f"token{user}")
        for user in range(_USERS)
        for resource in range(_RESOURCES)
    )


def measure_added_latency(options: argparse.Namespace, results: Results) -> None:
    """Measure at each rate in turn."""
    table: list[dict[str, Any]] = []
    with ExitStack() as stack:
        github = stack.enter_context(
            GitHubProcess(resources=_RESOURCES, users=_USERS, size=SIZE, delay=_GITHUB_S, log=0)
        )
        redis = stack.enter_context(RedisServer())
        urls = {"GitHub's stand-in": github.url}
        for name, on in ((MEMORY, None), (REDIS, redis)):
            mirror = stack.enter_context(BlockingMirror(settings(github.url, on)))
            warm(mirror.url, list(islice(_requests(), _RESOURCES * _USERS)))
            urls[name] = mirror.url
        for rate in options.rates:
            tallies = {name: Tally() for name in urls}
            for _ in range(options.rounds):
                for name, url in urls.items():
                    requests = islice(_requests(), max(1, round(rate * options.seconds)))
                    asyncio.run(request_at_rate(url, requests, rate, tallies[name]))
            table += report(rate, tallies, results)
    results.tables[PART] = table


def report(rate: float, tallies: dict[str, Tally], results: Results) -> list[dict[str, Any]]:
    """Print the results of one rate, and compare them with the thresholds."""
    print(f"\n{rate:g} requests/s, milliseconds {'median':>26}{'p90':>9}{'p99':>9}")
    table: list[dict[str, Any]] = []
    direct: list[float] = []
    for name, tally in tallies.items():
        outcomes = set(tally.outcomes) if direct else {"revalidated"}
        if tally.failed or outcomes != {"revalidated"}:
            raise SystemExit(f"{name}: {dict(tally.statuses)}, {dict(tally.outcomes)}")
        latency, late = percentiles(tally.seconds), percentiles(tally.late)
        direct = direct or latency
        busy = "  THE MACHINE IS TOO BUSY for valid results" if late[-1] > _TOO_LATE_MS else ""
        for label, each, more in ((name, latency, ""), ("  (delay of the client)", late, busy)):
            print(f"  {label:44}" + "".join(f"{value:9.2f}" for value in each) + more)
        added = [total - github for total, github in zip(latency, direct, strict=True)]
        table.append(
            {"subject": name, "rate": rate, "ms": latency, "late_ms": late, "added_ms": added}
        )
    for row in table[1:]:
        name, added = row["subject"], row["added_ms"]
        judged = rate == RATE and name == MEMORY
        for percentile, value, most in (
            ("median", added[0], MEDIAN_MS),
            ("99th percentile", added[-1], P99_MS),
        ):
            results.figure(
                PART,
                f"added to the {percentile}, {name}, {rate:g}/s",
                value,
                "ms",
                most=most if judged else None,
            )
    return table
