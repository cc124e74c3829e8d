"""The cost of a miss: a 200 that is stored, in comparison with Varnish and nginx."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Final

from benchmarks.measurement import HEAD, measure, show, warm, warm_compiler
from benchmarks.nginx_github import NginxGitHub
from benchmarks.results import Results
from benchmarks.revalidation import MEMORY, REDIS, VARNISH, make_resources, start_subjects
from benchmarks.scaling import CONNECTIONS
from benchmarks.subjects import MirrorSubject

PART: Final = "misses"
MISS_OVER_VARNISH: Final = {MEMORY: 1.5, REDIS: 2.0}
"""The thresholds: CPU time of a miss, as a multiple of Varnish's."""


def measure_misses(options: argparse.Namespace, results: Results) -> None:
    """Measure requests for targets without a stored response."""
    table = []
    print(f"\nMisses, {CONNECTIONS} connections\n{HEAD}")
    with ExitStack() as stack:
        github = stack.enter_context(NginxGitHub(make_resources(options)))
        subjects = start_subjects(stack, github)
        requests = [(target, "token0") for target in github.resources]
        for subject in subjects:
            is_mirror = isinstance(subject, MirrorSubject)
            if is_mirror:
                # the credential becomes accepted: its first request is sent without validators
                warm(subject.url, requests[:1])
                warm_compiler(subject.url, requests, "before")
            row = measure(
                github,
                subject,
                requests,
                connections=CONNECTIONS,
                seconds=options.seconds,
                outcome="miss",
                # the mirror's first request has the entity-tag of an empty list
                forwarded="200 conditional" if is_mirror else "200 plain",
                mark="unknown",
            )
            show(row)
            table.append(row)
    by_name = {row.subject: row for row in table}
    varnish_us = by_name[VARNISH].cpu_us
    for name, most in MISS_OVER_VARNISH.items():
        over = by_name[name].cpu_us / varnish_us
        results.figure(PART, f"CPU of a miss, {name} / Varnish", over, most=most)
    results.tables[PART] = table
