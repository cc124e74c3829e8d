"""Driving one subject for a while, and being sure that what is measured is what is meant."""

from __future__ import annotations

import asyncio
import gzip
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from attrs import frozen

from benchmarks import usage
from benchmarks.bars import MIB
from benchmarks.beside import Mirrored, Subject
from benchmarks.driving import Question, Tally, poll_all
from benchmarks.fast_github import UNCHANGED, FastGitHub
from benchmarks.python import compiles
from benchmarks.wrk import drive

ENOUGH = 0.9
"""So many questions to GitHub, for one answer, there have to be at least: a few are collapsed."""

_COMPILING_S = 20
"""For so long a mirror is driven before it is measured, if its Python compiles."""

_EDGE_S = 0.5
"""For so long, at both ends, it is driven without being measured."""

BUSY = 0.95
"""Where the stand-in takes so much of a CPU, it is what is measured."""


@frozen
class Row:
    """What was measured of a subject: by default, the median of what its rounds came to.

    *cpu_us*: CPU time of all its processes for a question to GitHub; *own_us*: without Redis's.
    *forwarded*: questions to GitHub for an answer; *busy*: how much of a CPU the stand-in took
    beside it.
    """

    subject: str
    connections: int
    cpu_us: float
    own_us: float
    rate: float
    mb_per_s: float
    p50_ms: float
    p99_ms: float
    memory_mb: float
    forwarded: float
    busy: float

    @property
    def mb_per_cpu_s(self) -> float:
        """Megabytes for each second of CPU time."""
        return self.mb_per_s / (self.rate * self.cpu_us / 1e6)


NUMBERS = tuple(name for name in Row.__annotations__ if name not in {"subject", "connections"})


def typical(rounds: Sequence[Row]) -> Row:
    """Return the median of each figure."""
    first = rounds[0]
    values = {name: median(getattr(each, name) for each in rounds) for name in NUMBERS}
    return Row(first.subject, first.connections, **values)


def ratio(some: Sequence[Row], others: Sequence[Row], name: str = "cpu_us") -> float:
    """Return the median of the ratios in single rounds, since what disturbs one disturbs both."""
    pairs = zip(some, others, strict=True)
    ratios: list[float] = [getattr(one, name) / getattr(other, name) for one, other in pairs]
    return median(ratios)


def warm(url: str, questions: Sequence[Question], *, is_mirror: bool = True) -> None:
    """Have all of it asked twice: stored, and validated by the credential's own tag."""
    for _ in range(2):
        tally = Tally()
        asyncio.run(poll_all(url, questions, 16, tally))
        if tally.failed:
            raise SystemExit(f"warming {url} failed: {dict(tally.statuses)}")
    if is_mirror:
        have_compiled(url, questions)


def have_compiled(
    url: str, questions: Sequence[Question], mark: str = "", fields: Sequence[str] = ()
) -> None:
    """Give a mirror the time to compile what it sees often, if its Python does that."""
    if compiles():
        drive(url, questions, connections=16, seconds=_COMPILING_S, mark=mark, fields=fields)


def same_content(
    github: FastGitHub, subjects: Sequence[Subject], questions: list[Question]
) -> None:
    """Stop the program if a subject's answer is not what GitHub's stand-in has, but for its URLs.

    Addresses have the same length, so sizes are equal, too.
    """
    for subject in subjects:
        for target, token in questions:
            wanted = github.things[target].content(github.url)
            request = urllib.request.Request(
                subject.url + target,
                headers={"Authorization": f"token {token}", "Accept-Encoding": "gzip"},
            )
            with urllib.request.urlopen(request) as response:
                coding, content = response.headers.get("Content-Encoding"), response.read()
            if coding != "gzip":
                raise SystemExit(f"{subject.name} answers {target} with coding {coding}")
            plain = gzip.decompress(content)
            own = plain.replace(subject.url.encode(), github.url.encode())
            if own != wanted or len(plain) != len(wanted):
                raise SystemExit(f"{subject.name} answers {target} with something else")


def measure(
    github: FastGitHub,
    subject: Subject,
    questions: Sequence[Question],
    *,
    connections: int,
    seconds: float,
    outcome: str,
    forwarded: str,
    mark: str = "",
    fields: Sequence[str] = (),
) -> Row:
    """Drive a subject for so many *seconds*.

    Every answer of a mirror has to have *outcome*, and each has to come of a question to GitHub
    that is called *forwarded* (see `FastGitHub.upstream_requests`); else the program is stopped.
    """
    github.quiet()
    before = subject.outcomes() if isinstance(subject, Mirrored) else Counter[str]()
    pids = tuple(subject.pids)
    with ThreadPoolExecutor(1) as aside:
        driving = aside.submit(
            drive,
            subject.url,
            questions,
            connections=connections,
            seconds=seconds + 2 * _EDGE_S,
            mark=mark,
            fields=fields,
        )
        # Neither connections that are made count, nor questions of those who hang up at the end.
        time.sleep(_EDGE_S)
        counted, began = github.upstream_requests(), time.monotonic()
        cpu, own, busy = (usage.cpu_s(each) for each in (pids, pids[:1], github.pids))
        time.sleep(seconds)
        cpu, own, busy = (
            usage.cpu_s(each) - so_far
            for each, so_far in ((pids, cpu), (pids[:1], own), (github.pids, busy))
        )
        meanwhile, took = github.upstream_requests(), time.monotonic() - began
        driven = driving.result()
    counted += meanwhile + github.upstream_requests()
    outcomes = subject.outcomes() - before if isinstance(subject, Mirrored) else Counter[str]()
    what = f"{subject.name}: {driven.requests} answers, {dict(counted)}, {dict(outcomes)}"
    if set(counted) - {forwarded} or counted[forwarded] < ENOUGH * driven.requests:
        raise SystemExit(f"{what}: a question to GitHub that is {forwarded} belongs to each")
    # whoever wrk has hung up on at the end is no answer of its
    if outcomes and (
        outcomes[outcome] < driven.requests or outcomes.total() - outcomes[outcome] > connections
    ):
        raise SystemExit(f"{what}: each answer has to be {outcome}")
    if not meanwhile:
        raise SystemExit(f"{what}: too few to be measured; give it more --seconds")
    return Row(
        subject.name,
        connections,
        1e6 * cpu / meanwhile.total(),
        1e6 * own / meanwhile.total(),
        driven.rate,
        driven.size_bytes / driven.seconds / 1e6,
        1e3 * driven.p50_s,
        1e3 * driven.p99_s,
        usage.memory(pids) / MIB,
        counted[forwarded] / driven.requests,
        0.0 if pids == github.pids else busy / took,
    )


def revalidated(
    github: FastGitHub,
    subject: Subject,
    questions: Sequence[Question],
    *,
    connections: int,
    seconds: float,
) -> Row:
    """Drive a subject with what it has stored, and be sure that it validates each time."""
    return measure(
        github,
        subject,
        questions,
        connections=connections,
        seconds=seconds,
        outcome="revalidated",
        forwarded=UNCHANGED if subject.stores else "200 plain",
    )


HEAD = f"  {'':24}{'conn.':>6}" + "".join(
    f"{name:>{width}}"
    for name, width in (
        ("CPU us", 9),
        ("req/s", 10),
        ("p50 ms", 9),
        ("p99 ms", 9),
        ("MB", 8),
        ("forwarded", 10),
    )
)


def show(row: Row) -> None:
    """Print a row under `HEAD`."""
    more = "  THE STAND-IN IS THE BOTTLENECK" if row.busy > BUSY else ""
    print(
        f"  {row.subject:24}{row.connections:6}{row.cpu_us:9.0f}{row.rate:10,.0f}{row.p50_ms:9.2f}"
        f"{row.p99_ms:9.2f}{row.memory_mb:8.0f}{row.forwarded:7.3f}{more}",
        flush=True,
    )
