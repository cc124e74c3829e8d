"""The same 500 GETs, each validated with GitHub: the mirror beside Varnish and nginx.

Each is driven in turn with so many connections, and all of it again in each round, so that
whatever disturbs the machine doesn't always find the same one.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.beside import (
    Listening,
    Mirrored,
    Nginx,
    Subject,
    TwistedAlone,
    Varnish,
    settings,
)
from benchmarks.fast_github import FastGitHub, Thing
from benchmarks.measuring import HEAD, Row, ratio, revalidated, same_content, show, typical, warm
from benchmarks.python import OWN
from benchmarks.results import Results
from tests.harness.redis_servers import RedisServer
from tests.harness.running import PYTHON, BlockingMirror

PART: Final = "revalidated"
MEMORY, REDIS, VARNISH = "mirror, memory store", "mirror, Redis", "Varnish"
OTHER_MEMORY, OTHER_REDIS = "on CPython, memory store", "on CPython, Redis"
"""The same on this program's Python, where mirrors are measured on another one."""
RESOURCES: Final = 500
SIZE: Final = 23_000
OVER_VARNISH: Final = 1.0
OVER_MEMORY: Final = 1.4
P99_OVER_P50: Final = 3.0
AT_FULL: Final = 256
_LOOKED_AT: Final = 20
_EACH_S: Final = 0.05
"""So long at least for each connection: the first answer on each, which takes longer, is to be less
than the slowest hundredth of all."""


def things(
    options: argparse.Namespace, count: int = RESOURCES, size: int = SIZE
) -> dict[str, Thing]:
    """Make what is asked for, by target."""
    return {
        f"/repos/bench/repo-{number}": Thing(number, size, options.urls) for number in range(count)
    }


def beside(stack: ExitStack, github: FastGitHub) -> list[Subject]:
    """Start what is compared, each before a GitHub that is there: mirrors, Varnish and nginx."""
    memory, redis = _mirrors(stack, github, (MEMORY, REDIS), PYTHON)
    varnish, nginx = Varnish(github.port), Nginx(github.port)
    return [
        memory,
        stack.enter_context(varnish),
        redis,
        stack.enter_context(nginx),
    ]


def _mirrors(
    stack: ExitStack, github: FastGitHub, names: tuple[str, str], python: Path
) -> list[Mirrored]:
    """Start a mirror with either store on an interpreter."""
    redis = stack.enter_context(RedisServer())
    return [
        _mirror(stack, github, name, on, python)
        for name, on in zip(names, (None, redis), strict=True)
    ]


def _mirror(
    stack: ExitStack, github: FastGitHub, name: str, redis: RedisServer | None, python: Path
) -> Mirrored:
    mirror = BlockingMirror(settings(github.url, redis), python=python)
    return Mirrored(name, stack.enter_context(mirror), redis)


def measure(options: argparse.Namespace, results: Results) -> None:
    """Measure, print and judge."""
    rounds: dict[tuple[str, int], list[Row]] = {}
    with ExitStack() as stack:
        github = stack.enter_context(FastGitHub(things(options)))
        subjects = [*beside(stack, github), stack.enter_context(TwistedAlone(github.port))]
        if PYTHON != OWN:
            subjects += _mirrors(stack, github, (OTHER_MEMORY, OTHER_REDIS), OWN)
        questions = [(target, "token0") for target in github.things]
        for subject in subjects:
            warm(subject.url, questions, is_mirror=isinstance(subject, Mirrored | TwistedAlone))
        same_content(github, subjects, questions[:_LOOKED_AT])
        subjects.append(Listening("the stand-in itself", github.url, github.pids, stores=False))
        for number in range(options.rounds):
            print(f"\nround {number + 1} of {options.rounds}\n{HEAD}")
            for connections in options.connections:
                for subject in subjects:
                    row = revalidated(
                        github,
                        subject,
                        questions,
                        connections=connections,
                        seconds=max(options.seconds, connections * _EACH_S),
                    )
                    show(row)
                    rounds.setdefault((subject.name, connections), []).append(row)
    print(f"\nRevalidated GETs of {SIZE} bytes, medians of {options.rounds} rounds\n{HEAD}")
    table = [typical(each) for each in rounds.values()]
    for row in table:
        show(row)
    results.tables[PART] = table
    judge(options, results, rounds)


def judge(
    options: argparse.Namespace, results: Results, rounds: dict[tuple[str, int], list[Row]]
) -> None:
    """Print the ratios, which are taken round by round."""
    print()
    for connections in options.connections:
        memory, redis, varnish, alone = (
            rounds[name, connections] for name in (MEMORY, REDIS, VARNISH, TwistedAlone.name)
        )
        with_so_many = f"{connections} connections"
        for what, value, most in (
            ("CPU, memory store / Varnish", ratio(memory, varnish), OVER_VARNISH),
            ("CPU, Twisted alone / Varnish", ratio(alone, varnish), None),
            ("CPU, Redis / memory store", ratio(redis, memory), OVER_MEMORY),
            ("  without Redis's own", ratio(redis, memory, "own_us"), None),
            ("requests/s, memory store / Varnish", ratio(memory, varnish, "rate"), None),
        ):
            results.figure(PART, f"{what}, {with_so_many}", value, most=most)
        if (OTHER_MEMORY, connections) in rounds:
            other = ratio(rounds[OTHER_MEMORY, connections], varnish)
            what = f"CPU, on CPython, memory store / Varnish, {with_so_many}"
            results.figure(PART, what, other)
        for name in (MEMORY, REDIS, VARNISH):
            row = typical(rounds[name, connections])
            judged = connections == AT_FULL and name != VARNISH
            results.figure(
                PART,
                f"p99 / p50, {name}, {with_so_many}",
                row.p99_ms / row.p50_ms,
                most=P99_OVER_P50 if judged else None,
            )
