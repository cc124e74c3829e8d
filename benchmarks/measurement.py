"""Measurement of one subject under load, with checks that the intended case was measured."""

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

from benchmarks import process_usage
from benchmarks.interpreters import has_compiler
from benchmarks.load_generator import Request, Tally, request_concurrently
from benchmarks.nginx_github import UNCHANGED, NginxGitHub
from benchmarks.subjects import MirrorSubject, Subject
from benchmarks.thresholds import MIB
from benchmarks.wrk import run_load

LEAST_FORWARDED = 0.9
"""The least number of requests to GitHub for each response: a few are collapsed."""

_COMPILING_S = 20
"""The seconds of load before a measurement, if the mirror's Python compiles."""

_MARGIN_S = 0.5
"""The seconds of load before and after those that are measured."""

BUSY = 0.95
"""The share of a CPU at which the stand-in is the bottleneck."""


@frozen
class Row:
    """The figures of a subject in one round, or their medians.

    *cpu_us*: CPU time of all its processes for each request to GitHub; *own_us*: without Redis.
    *forwarded*: requests to GitHub for each response. *busy*: the share of a CPU that the stand-in
    used.
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


def medians(rounds: Sequence[Row]) -> Row:
    """Return the median of each figure."""
    first = rounds[0]
    values = {name: median(getattr(each, name) for each in rounds) for name in NUMBERS}
    return Row(first.subject, first.connections, **values)


def ratio(some: Sequence[Row], others: Sequence[Row], name: str = "cpu_us") -> float:
    """Return the median of the ratios in each round: other load on the machine affects both."""
    pairs = zip(some, others, strict=True)
    ratios: list[float] = [getattr(one, name) / getattr(other, name) for one, other in pairs]
    return median(ratios)


def warm(url: str, requests: Sequence[Request], *, is_mirror: bool = True) -> None:
    """Send each request twice: its response is stored, then validated by the credential's tag."""
    for _ in range(2):
        tally = Tally()
        asyncio.run(request_concurrently(url, requests, 16, tally))
        if tally.failed:
            raise SystemExit(f"warming {url} failed: {dict(tally.statuses)}")
    if is_mirror:
        warm_compiler(url, requests)


def warm_compiler(
    url: str, requests: Sequence[Request], mark: str = "", fields: Sequence[str] = ()
) -> None:
    """Send load to a mirror until its Python has compiled, if it is one that compiles."""
    if has_compiler():
        run_load(url, requests, connections=16, seconds=_COMPILING_S, mark=mark, fields=fields)


def same_content(github: NginxGitHub, subjects: Sequence[Subject], requests: list[Request]) -> None:
    """Exit if a subject's content differs from that of GitHub's stand-in, except for URLs.

    Addresses have equal lengths, so that sizes are equal, too.
    """
    for subject in subjects:
        for target, token in requests:
            wanted = github.resources[target].content(github.url)
            request = urllib.request.Request(
                subject.url + target,
                headers={"Authorization": f"token {token}", "Accept-Encoding": "gzip"},
            )
            with urllib.request.urlopen(request) as response:
                coding, content = response.headers.get("Content-Encoding"), response.read()
            if coding != "gzip":
                raise SystemExit(f"{subject.name}: {target} has the coding {coding}")
            plain = gzip.decompress(content)
            own = plain.replace(subject.url.encode(), github.url.encode())
            if own != wanted or len(plain) != len(wanted):
                raise SystemExit(f"{subject.name}: {target} has other content")


def measure(
    github: NginxGitHub,
    subject: Subject,
    requests: Sequence[Request],
    *,
    connections: int,
    seconds: float,
    outcome: str,
    forwarded: str,
    mark: str = "",
    fields: Sequence[str] = (),
) -> Row:
    """Measure a subject under load for so many *seconds*.

    Exit unless each response of a mirror has the *outcome*, and each response has a request to
    GitHub of the kind *forwarded* (see `NginxGitHub.upstream_requests`).
    """
    github.wait_until_idle()
    before = subject.outcomes() if isinstance(subject, MirrorSubject) else Counter[str]()
    pids = tuple(subject.pids)
    with ThreadPoolExecutor(1) as executor:
        load = executor.submit(
            run_load,
            subject.url,
            requests,
            connections=connections,
            seconds=seconds + 2 * _MARGIN_S,
            mark=mark,
            fields=fields,
        )
        # Without the time in which connections are opened, and in which they are closed.
        time.sleep(_MARGIN_S)
        counted, began = github.upstream_requests(), time.monotonic()
        cpu, own, busy = (process_usage.cpu_s(each) for each in (pids, pids[:1], github.pids))
        time.sleep(seconds)
        cpu, own, busy = (
            process_usage.cpu_s(each) - so_far
            for each, so_far in ((pids, cpu), (pids[:1], own), (github.pids, busy))
        )
        meanwhile, duration = github.upstream_requests(), time.monotonic() - began
        result = load.result()
    counted += meanwhile + github.upstream_requests()
    outcomes = subject.outcomes() - before if isinstance(subject, MirrorSubject) else Counter[str]()
    counts = f"{subject.name}: {result.responses} responses, {dict(counted)}, {dict(outcomes)}"
    if set(counted) - {forwarded} or counted[forwarded] < LEAST_FORWARDED * result.responses:
        raise SystemExit(f"{counts}: not each has a request to GitHub that is {forwarded}")
    # wrk does not count the responses on the connections that it closes at the end
    if outcomes and (
        outcomes[outcome] < result.responses or outcomes.total() - outcomes[outcome] > connections
    ):
        raise SystemExit(f"{counts}: not each outcome is {outcome}")
    if not meanwhile:
        raise SystemExit(f"{counts}: too few for a measurement; increase --seconds")
    return Row(
        subject.name,
        connections,
        1e6 * cpu / meanwhile.total(),
        1e6 * own / meanwhile.total(),
        result.rate,
        result.size_bytes / result.seconds / 1e6,
        1e3 * result.p50_s,
        1e3 * result.p99_s,
        process_usage.memory(pids) / MIB,
        counted[forwarded] / result.responses,
        0.0 if pids == github.pids else busy / duration,
    )


def measure_revalidated(
    github: NginxGitHub,
    subject: Subject,
    requests: Sequence[Request],
    *,
    connections: int,
    seconds: float,
) -> Row:
    """Measure a subject with stored responses, each of which it must validate."""
    return measure(
        github,
        subject,
        requests,
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
