"""What a revalidated GET costs as things grow: content, what is stored, who asks; and misses."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Final

from attrs import asdict

from benchmarks import usage
from benchmarks.beside import Listening, Mirrored, Nginx, Subject, Varnish, settings
from benchmarks.fast_github import FastGitHub
from benchmarks.measuring import HEAD, Row, have_compiled, measure, revalidated, show, warm
from benchmarks.python import compiles
from benchmarks.results import Results
from benchmarks.revalidating import MEMORY, REDIS, VARNISH, beside, things
from benchmarks.watched_mirror import WatchedMirror
from tests.harness.running import BlockingMirror

CONNECTIONS: Final = 16
ABOVE_BYTES: Final = 1000
"""Bar: so much memory takes a stored representation with one grant, above its content."""

ENOUGH, ENOUGH_ON_PYPY = 10_000, 100_000
"""Of fewer, the memory that the process takes for itself meanwhile says more than they do."""

MISS_OVER_VARNISH: Final = {MEMORY: 1.5, REDIS: 2.0}
"""Bars: CPU time of a miss, as multiples of Varnish's."""

_ALL_BYTES: Final = 32_000_000
_MOST_THINGS: Final = 100
_RESOURCES: Final = 10


def sizes(options: argparse.Namespace, results: Results) -> None:
    """Measure content of one size after the other."""
    table = []
    print(f"\nRevalidated GETs by size, {CONNECTIONS} connections")
    for size in options.sizes:
        count = max(4, min(_MOST_THINGS, _ALL_BYTES // size))
        with ExitStack() as stack:
            github = stack.enter_context(FastGitHub(things(options, count, size)))
            mirror = stack.enter_context(BlockingMirror(settings(github.url)))
            subjects: list[Subject] = [
                Mirrored(MEMORY, mirror),
                stack.enter_context(Varnish(github.port)),
                stack.enter_context(Nginx(github.port)),
            ]
            questions = [(target, "token0") for target in github.things]
            print(f"\n{size} bytes, {count} of them\n{HEAD}")
            for subject in subjects:
                warm(subject.url, questions, is_mirror=isinstance(subject, Mirrored))
                row = revalidated(
                    github,
                    subject,
                    questions,
                    # two of the same would be answered as one
                    connections=min(CONNECTIONS, count),
                    seconds=options.seconds,
                )
                show(row)
                table.append({"size": size, **asdict(row)})
    results.tables["sizes"] = table


def stored(options: argparse.Namespace, results: Results) -> None:
    """Measure with more and more stored beside what is asked for, and what that takes."""
    table = []
    enough = ENOUGH_ON_PYPY if compiles() else ENOUGH
    sections = {"memory": {"max_size": "1TiB"}}
    for count in options.stored:
        with ExitStack() as stack:
            github = stack.enter_context(FastGitHub(things(options)))
            mirror = stack.enter_context(WatchedMirror({**settings(github.url), **sections}, {}))
            subject = Listening("mirror", mirror.url, (mirror.pid,), stores=True)
            questions = [(target, "token0") for target in github.things]
            warm(mirror.url, questions)

            def drive(
                github: FastGitHub = github,
                subject: Subject = subject,
                questions: list[tuple[str, str]] = questions,
            ) -> Row:
                return revalidated(
                    github,
                    subject,
                    questions,
                    connections=CONNECTIONS,
                    seconds=options.seconds,
                )

            print(f"\nRevalidated GETs with {count} more representations stored\n{HEAD}")
            before, empty = drive(), usage.memory(subject.pids)
            filled = mirror.control("fill", count=count, credentials=1)
            full = usage.memory(subject.pids)
            after = drive()
        for row in (before, after):
            show(row)
        above = (full - empty - filled["packed"]) / count
        results.figure(
            "stored",
            f"memory for each of {count}, above its content",
            above,
            "bytes",
            most=ABOVE_BYTES if count >= enough else None,
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


def credentials(options: argparse.Namespace, results: Results) -> None:
    """Measure with more and more credentials that have been granted the same."""
    table = []
    print(f"\nRevalidated GETs of {_RESOURCES} resources by so many credentials each\n{HEAD}")
    with FastGitHub(things(options, _RESOURCES), users=max(options.credentials)) as github:
        for count in options.credentials:
            questions = [
                (target, f"token{user}") for user in range(count) for target in github.things
            ]
            with BlockingMirror(settings(github.url)) as mirror:
                subject = Mirrored(f"credentials: {count}", mirror)
                warm(mirror.url, questions)
                row = revalidated(
                    github,
                    subject,
                    questions,
                    connections=min(CONNECTIONS, len(questions)),
                    seconds=options.seconds,
                )
            show(row)
            table.append({"count": count, **asdict(row)})
    results.tables["credentials"] = table


def misses(options: argparse.Namespace, results: Results) -> None:
    """Measure what nobody has asked for before."""
    table = []
    print(f"\nMisses, {CONNECTIONS} connections\n{HEAD}")
    with ExitStack() as stack:
        github = stack.enter_context(FastGitHub(things(options)))
        subjects = beside(stack, github)
        questions = [(target, "token0") for target in github.things]
        for subject in subjects:
            mirrored = isinstance(subject, Mirrored)
            if mirrored:
                # GitHub accepts the credential: its first request is sent without validators
                warm(subject.url, questions[:1])
                have_compiled(subject.url, questions, "before")
            row = measure(
                github,
                subject,
                questions,
                connections=CONNECTIONS,
                seconds=options.seconds,
                outcome="miss",
                # the mirror's first guess is an empty list
                forwarded="200 conditional" if mirrored else "200 plain",
                mark="unknown",
            )
            show(row)
            table.append(row)
    by_name = {row.subject: row for row in table}
    varnish_us = by_name[VARNISH].cpu_us
    for name, most in MISS_OVER_VARNISH.items():
        over = by_name[name].cpu_us / varnish_us
        results.figure("misses", f"CPU of a miss, {name} / Varnish", over, most=most)
    results.tables["misses"] = table
