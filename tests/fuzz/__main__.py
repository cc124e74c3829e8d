"""Runs the fuzzers: ``python -m tests.fuzz --minutes 5 [--jobs 2] [TARGET...]``; see `make fuzz`.

What they learn stays in ``.fuzz/corpus``, findings in ``.fuzz/findings``, and what they print in
``.fuzz/logs``. The exit status is 1 if there is a finding.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.fuzz.targets import CORPUS, TARGETS

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent.parent
WORK: Final = ROOT / ".fuzz"
#: An input with a longer run than this is a finding, in seconds; other inputs may share one core.
_SLOW_S: Final = 20
_MOST_MIB: Final = 2048
_LONGEST_BYTES: Final = 4096


@frozen
class Run:
    """The result of one target: the number of inputs, and the files of its findings."""

    target: str
    executions: int
    findings: tuple[Path, ...]
    failed: bool


def run(target: str, minutes: float) -> Run:
    """Run the fuzzer for one target."""
    learned, findings, logs = WORK / "corpus" / target, WORK / "findings", WORK / "logs"
    for folder in (learned, findings, logs):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(findings.glob(f"{target}-*"))
    log = logs / f"{target}.txt"
    command = [
        *(sys.executable, "-m", "tests.fuzz.driver", target),
        f"-max_total_time={round(minutes * 60)}",
        f"-timeout={_SLOW_S}",
        f"-rss_limit_mb={_MOST_MIB}",
        f"-max_len={_LONGEST_BYTES}",
        f"-dict={HERE / 'dictionary.txt'}",
        f"-artifact_prefix={findings / target}-",
        "-print_final_stats=1",
        *(str(learned), str(CORPUS / target)),
    ]
    with log.open("wb") as out:
        ended = subprocess.run(command, cwd=ROOT, stdout=out, stderr=out, check=False)
    printed = log.read_text(errors="replace")
    counts = re.findall(r"number_of_executed_units: (\d+)|^#(\d+)\t", printed, re.MULTILINE)
    found = tuple(sorted(set(findings.glob(f"{target}-*")) - before))
    executions = max((int(one or other) for one, other in counts), default=0)
    return Run(target, executions, found, ended.returncode != 0)


def main() -> int:
    """Run the targets, and return the exit status."""
    parser = ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="for each target (default: 5)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="targets at a time")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    options = parser.parse_args()
    unknown = sorted(set(options.targets) - set(TARGETS))
    if unknown:
        parser.error(f"{', '.join(unknown)}: the targets are {', '.join(TARGETS)}")
    names = options.targets or list(TARGETS)
    failed = 0
    with ThreadPoolExecutor(max(options.jobs, 1)) as pool:
        for each in pool.map(lambda name: run(name, options.minutes), names):
            failed += each.failed
            sys.stdout.write(f"{each.target}: {each.executions} inputs\n")
            for path in each.findings:
                sys.stdout.write(f"FOUND {path.relative_to(ROOT)}\n")
            if each.failed:
                log = WORK / "logs" / f"{each.target}.txt"
                sys.stdout.write(f"FAILED {each.target}: see {log.relative_to(ROOT)}\n")
            sys.stdout.flush()
    if failed:
        sys.stdout.write("`python -m tests.fuzz.replay FILE` runs a finding again\n")
    return failed and 1


if __name__ == "__main__":
    sys.exit(main())
