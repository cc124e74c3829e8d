"""How fast content goes through that is neither stored nor looked at, beside nginx."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Final

from benchmarks.beside import Mirrored, Nginx, Subject, settings
from benchmarks.fast_github import DOWNLOAD, FastGitHub
from benchmarks.measuring import HEAD, Row, have_compiled, measure, ratio, show, typical
from benchmarks.results import Results
from benchmarks.revalidating import MEMORY
from tests.harness.running import BlockingMirror

PART: Final = "passing"
CONNECTIONS: Final = 16
SIZE: Final = 1_000_000
OF_NGINX: Final = 2.0
"""Bar: nginx moves so many times the bytes for its CPU time, at most."""

_PASSED: Final = ("Cache-Control: no-store",)
"""With this the mirror keeps out of it."""


def passing(options: argparse.Namespace, results: Results) -> None:
    """Measure, round by round in turn."""
    rounds: dict[str, list[Row]] = {}
    with ExitStack() as stack:
        github = stack.enter_context(FastGitHub({}, download_bytes=SIZE))
        mirror = stack.enter_context(BlockingMirror(settings(github.url)))
        subjects: list[Subject] = [
            Mirrored(MEMORY, mirror),
            stack.enter_context(Nginx(github.port)),
        ]
        questions = [(DOWNLOAD, "token0")]
        have_compiled(mirror.url, questions, fields=_PASSED)
        for _ in range(options.rounds):
            for subject in subjects:
                row = measure(
                    github,
                    subject,
                    questions,
                    connections=CONNECTIONS,
                    seconds=options.seconds,
                    outcome="pass",
                    forwarded="200 plain",
                    fields=_PASSED,
                )
                rounds.setdefault(subject.name, []).append(row)
    print(f"\nPassing on {SIZE} bytes, {CONNECTIONS} connections, medians\n{HEAD}")
    table = [typical(each) for each in rounds.values()]
    for row in table:
        show(row)
    print()
    for row in table:
        results.figure(PART, f"{row.subject}, a second", row.mb_per_s, "MB")
        results.figure(PART, f"{row.subject}, a second of CPU", row.mb_per_cpu_s, "MB")
    times = ratio(rounds["nginx"], rounds[MEMORY], "mb_per_cpu_s")
    results.figure(PART, "MB/s of a CPU, nginx / mirror", times, most=OF_NGINX)
    results.tables[PART] = table
