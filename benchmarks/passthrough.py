"""The throughput of content that is neither stored nor rewritten, in comparison with nginx."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Final

from benchmarks.measurement import HEAD, Row, measure, medians, ratio, show, warm_compiler
from benchmarks.nginx_github import DOWNLOAD, NginxGitHub
from benchmarks.results import Results
from benchmarks.revalidation import MEMORY
from benchmarks.subjects import MirrorSubject, Nginx, Subject, settings
from tests.harness.running import BlockingMirror

PART: Final = "passing"
CONNECTIONS: Final = 16
SIZE: Final = 1_000_000
OF_NGINX: Final = 2.0
"""The threshold: bytes by CPU time of nginx, as a multiple of the mirror's."""

_NO_STORE: Final = ("Cache-Control: no-store",)
"""A request with this field is forwarded by `Passthrough`."""


def measure_passthrough(options: argparse.Namespace, results: Results) -> None:
    """Measure both in turn, in each round."""
    rounds: dict[str, list[Row]] = {}
    with ExitStack() as stack:
        github = stack.enter_context(NginxGitHub({}, download_bytes=SIZE))
        mirror = stack.enter_context(BlockingMirror(settings(github.url)))
        subjects: list[Subject] = [
            MirrorSubject(MEMORY, mirror),
            stack.enter_context(Nginx(github.port)),
        ]
        requests = [(DOWNLOAD, "token0")]
        warm_compiler(mirror.url, requests, fields=_NO_STORE)
        for _ in range(options.rounds):
            for subject in subjects:
                row = measure(
                    github,
                    subject,
                    requests,
                    connections=CONNECTIONS,
                    seconds=options.seconds,
                    outcome="pass",
                    forwarded="200 plain",
                    fields=_NO_STORE,
                )
                rounds.setdefault(subject.name, []).append(row)
    print(f"\nPassthrough of {SIZE} bytes, {CONNECTIONS} connections, medians\n{HEAD}")
    table = [medians(each) for each in rounds.values()]
    for row in table:
        show(row)
    print()
    for row in table:
        results.figure(PART, f"{row.subject}, a second", row.mb_per_s, "MB")
        results.figure(PART, f"{row.subject}, a second of CPU", row.mb_per_cpu_s, "MB")
    times = ratio(rounds["nginx"], rounds[MEMORY], "mb_per_cpu_s")
    results.figure(PART, "MB/s of a CPU, nginx / mirror", times, most=OF_NGINX)
    results.tables[PART] = table
