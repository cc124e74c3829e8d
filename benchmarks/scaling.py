"""The cost of a revalidated GET by size of content, by stored records and by credentials."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Final

from attrs import asdict

from benchmarks import process_usage
from benchmarks.instrumented_mirror import InstrumentedMirror
from benchmarks.interpreters import has_compiler
from benchmarks.measurement import HEAD, Row, measure_revalidated, show, warm
from benchmarks.nginx_github import NginxGitHub
from benchmarks.results import Results
from benchmarks.revalidation import MEMORY, make_resources
from benchmarks.subjects import MirrorSubject, Nginx, RunningSubject, Subject, Varnish, settings
from tests.harness.running import BlockingMirror

CONNECTIONS: Final = 16
OVERHEAD_BYTES: Final = 1000
"""The threshold: memory of a stored representation with one grant, above its content."""

LEAST, LEAST_ON_PYPY = 10_000, 100_000
"""With fewer representations, other memory of the process dominates the figure."""

_ALL_BYTES: Final = 32_000_000
_MOST_RESOURCES: Final = 100
_RESOURCES: Final = 10


def measure_sizes(options: argparse.Namespace, results: Results) -> None:
    """Measure each size of content in turn."""
    table = []
    print(f"\nRevalidated GETs by size, {CONNECTIONS} connections")
    for size in options.sizes:
        count = max(4, min(_MOST_RESOURCES, _ALL_BYTES // size))
        with ExitStack() as stack:
            github = stack.enter_context(NginxGitHub(make_resources(options, count, size)))
            mirror = stack.enter_context(BlockingMirror(settings(github.url)))
            subjects: list[Subject] = [
                MirrorSubject(MEMORY, mirror),
                stack.enter_context(Varnish(github.port)),
                stack.enter_context(Nginx(github.port)),
            ]
            requests = [(target, "token0") for target in github.resources]
            print(f"\n{size} bytes, {count} of them\n{HEAD}")
            for subject in subjects:
                warm(subject.url, requests, is_mirror=isinstance(subject, MirrorSubject))
                row = measure_revalidated(
                    github,
                    subject,
                    requests,
                    # equal requests in flight would be collapsed
                    connections=min(CONNECTIONS, count),
                    seconds=options.seconds,
                )
                show(row)
                table.append({"size": size, **asdict(row)})
    results.tables["sizes"] = table


def measure_stored(options: argparse.Namespace, results: Results) -> None:
    """Measure with further stored representations, and their memory."""
    table = []
    least = LEAST_ON_PYPY if has_compiler() else LEAST
    sections = {"memory": {"max_size": "1TiB"}}
    for count in options.stored:
        with ExitStack() as stack:
            github = stack.enter_context(NginxGitHub(make_resources(options)))
            mirror = stack.enter_context(
                InstrumentedMirror({**settings(github.url), **sections}, {})
            )
            subject = RunningSubject("mirror", mirror.url, (mirror.pid,), stores=True)
            requests = [(target, "token0") for target in github.resources]
            warm(mirror.url, requests)

            def measure(
                github: NginxGitHub = github,
                subject: Subject = subject,
                requests: list[tuple[str, str]] = requests,
            ) -> Row:
                return measure_revalidated(
                    github,
                    subject,
                    requests,
                    connections=CONNECTIONS,
                    seconds=options.seconds,
                )

            print(f"\nRevalidated GETs with {count} more representations stored\n{HEAD}")
            before, empty = measure(), process_usage.memory(subject.pids)
            filled = mirror.control("fill", count=count, credentials=1)
            full = process_usage.memory(subject.pids)
            after = measure()
        for row in (before, after):
            show(row)
        above = (full - empty - filled["packed"]) / count
        results.figure(
            "stored",
            f"memory for each of {count}, above its content",
            above,
            "bytes",
            most=OVERHEAD_BYTES if count >= least else None,
        )
        results.figure("stored", f"CPU with {count} / without", after.cpu_us / before.cpu_us)
        table.append(
            {
                "count": count,
                "above_bytes": above,
                "packed_bytes": filled["packed"] / count,
                "plain_bytes": filled["plain"] / count,
                **asdict(after),
            }
        )
    results.tables["stored"] = table


def measure_credentials(options: argparse.Namespace, results: Results) -> None:
    """Measure with further credentials that have grants for the same resources."""
    table = []
    print(f"\nRevalidated GETs of {_RESOURCES} resources by so many credentials each\n{HEAD}")
    with NginxGitHub(make_resources(options, _RESOURCES), users=max(options.credentials)) as github:
        for count in options.credentials:
            requests = [
                (target, f"token{user}") for user in range(count) for target in github.resources
            ]
            with BlockingMirror(settings(github.url)) as mirror:
                subject = MirrorSubject(f"credentials: {count}", mirror)
                warm(mirror.url, requests)
                row = measure_revalidated(
                    github,
                    subject,
                    requests,
                    connections=min(CONNECTIONS, len(requests)),
                    seconds=options.seconds,
                )
            show(row)
            table.append({"count": count, **asdict(row)})
    results.tables["credentials"] = table
