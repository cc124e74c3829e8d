"""500 GETs, each validated with GitHub: the mirror in comparison with Varnish and nginx.

The subjects are measured in turn with each number of connections, and again in each round, so that
other load on the machine affects all of them.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.interpreters import OWN
from benchmarks.measurement import (
    HEAD,
    Row,
    measure_revalidated,
    medians,
    ratio,
    same_content,
    show,
    warm,
)
from benchmarks.nginx_github import NginxGitHub, Resource
from benchmarks.results import Results
from benchmarks.subjects import (
    MirrorSubject,
    Nginx,
    RunningSubject,
    Subject,
    TwistedAlone,
    Varnish,
    settings,
)
from tests.harness.redis_servers import RedisServer
from tests.harness.running import PYTHON, BlockingMirror

PART: Final = "revalidated"
MEMORY, REDIS, VARNISH = "mirror, memory store", "mirror, Redis", "Varnish"
OTHER_MEMORY, OTHER_REDIS = "on CPython, memory store", "on CPython, Redis"
"""Those on the Python of this program, where mirrors are measured on another one."""
RESOURCES: Final = 500
SIZE: Final = 23_000
OVER_VARNISH: Final = 1.0
OVER_MEMORY: Final = 1.4
P99_OVER_P50: Final = 3.0
AT_FULL: Final = 256
_COMPARED: Final = 20
_PER_CONNECTION_S: Final = 0.05
"""The least seconds of load for each connection. The first response on each is slower; so it does
not determine the 99th percentile."""


def make_resources(
    options: argparse.Namespace, count: int = RESOURCES, size: int = SIZE
) -> dict[str, Resource]:
    """Make the requested resources, by target."""
    return {
        f"/repos/bench/repo-{number}": Resource(number, size, options.urls)
        for number in range(count)
    }


def start_subjects(stack: ExitStack, github: NginxGitHub) -> list[Subject]:
    """Start the subjects with a running GitHub: mirrors with each store, Varnish and nginx."""
    memory, redis = _mirrors(stack, github, (MEMORY, REDIS), PYTHON)
    varnish, nginx = Varnish(github.port), Nginx(github.port)
    return [
        memory,
        stack.enter_context(varnish),
        redis,
        stack.enter_context(nginx),
    ]


def _mirrors(
    stack: ExitStack, github: NginxGitHub, names: tuple[str, str], python: Path
) -> list[MirrorSubject]:
    """Start a mirror with each store on an interpreter."""
    redis = stack.enter_context(RedisServer())
    return [
        _mirror(stack, github, name, on, python)
        for name, on in zip(names, (None, redis), strict=True)
    ]


def _mirror(
    stack: ExitStack, github: NginxGitHub, name: str, redis: RedisServer | None, python: Path
) -> MirrorSubject:
    mirror = BlockingMirror(settings(github.url, redis), python=python)
    return MirrorSubject(name, stack.enter_context(mirror), redis)


def measure(options: argparse.Namespace, results: Results) -> None:
    """Measure, print the results, and compare them with the thresholds."""
    rounds: dict[tuple[str, int], list[Row]] = {}
    with ExitStack() as stack:
        github = stack.enter_context(NginxGitHub(make_resources(options)))
        subjects = [*start_subjects(stack, github), stack.enter_context(TwistedAlone(github.port))]
        if PYTHON != OWN:
            subjects += _mirrors(stack, github, (OTHER_MEMORY, OTHER_REDIS), OWN)
        requests = [(target, "token0") for target in github.resources]
        for subject in subjects:
            warm(subject.url, requests, is_mirror=isinstance(subject, MirrorSubject | TwistedAlone))
        same_content(github, subjects, requests[:_COMPARED])
        subjects.append(RunningSubject("GitHub's stand-in", github.url, github.pids, stores=False))
        for number in range(options.rounds):
            print(f"\nround {number + 1} of {options.rounds}\n{HEAD}")
            for connections in options.connections:
                for subject in subjects:
                    row = measure_revalidated(
                        github,
                        subject,
                        requests,
                        connections=connections,
                        seconds=max(options.seconds, connections * _PER_CONNECTION_S),
                    )
                    show(row)
                    rounds.setdefault((subject.name, connections), []).append(row)
    print(f"\nRevalidated GETs of {SIZE} bytes, medians of {options.rounds} rounds\n{HEAD}")
    table = [medians(each) for each in rounds.values()]
    for row in table:
        show(row)
    results.tables[PART] = table
    judge(options, results, rounds)


def judge(
    options: argparse.Namespace, results: Results, rounds: dict[tuple[str, int], list[Row]]
) -> None:
    """Print the medians of the ratios in each round."""
    print()
    for connections in options.connections:
        memory, redis, varnish, alone = (
            rounds[name, connections] for name in (MEMORY, REDIS, VARNISH, TwistedAlone.name)
        )
        load = f"{connections} connections"
        for what, value, most in (
            ("CPU, memory store / Varnish", ratio(memory, varnish), OVER_VARNISH),
            ("CPU, Twisted alone / Varnish", ratio(alone, varnish), None),
            ("CPU, Redis / memory store", ratio(redis, memory), OVER_MEMORY),
            ("  without that of Redis", ratio(redis, memory, "own_us"), None),
            ("requests/s, memory store / Varnish", ratio(memory, varnish, "rate"), None),
        ):
            results.figure(PART, f"{what}, {load}", value, most=most)
        if (OTHER_MEMORY, connections) in rounds:
            other = ratio(rounds[OTHER_MEMORY, connections], varnish)
            what = f"CPU, on CPython, memory store / Varnish, {load}"
            results.figure(PART, what, other)
        for name in (MEMORY, REDIS, VARNISH):
            row = medians(rounds[name, connections])
            judged = connections == AT_FULL and name != VARNISH
            results.figure(
                PART,
                f"p99 / p50, {name}, {load}",
                row.p99_ms / row.p50_ms,
                most=P99_OVER_P50 if judged else None,
            )
