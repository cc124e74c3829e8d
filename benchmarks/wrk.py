"""wrk, which asks as fast as it is answered: so many connections, each one question at a time."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from benchmarks.driving import Question

_SCRIPT: Final = Path(__file__).with_suffix(".lua")
_ERRORS: Final = ("connect", "read", "write", "status", "timeout")
_ANSWER_S: Final = 30


@frozen
class Driven:
    """What came of it: how many answers of how many bytes, and how long they took."""

    requests: int
    seconds: float
    size_bytes: int
    p50_s: float
    p99_s: float
    errors: dict[str, int]

    @property
    def rate(self) -> float:
        """Answers in a second."""
        return self.requests / self.seconds


def drive(
    url: str,
    questions: Iterable[Question],
    *,
    connections: int,
    seconds: float,
    mark: str = "",
    fields: Sequence[str] = (),
) -> Driven:
    """Ask *questions* over and over, and stop the program if anything but answers came.

    One thread gives out the questions in their order, so that two of the same are under way only
    where there are more connections than questions. With a *mark*, each has a query of its own
    that nobody has asked before with this mark.
    """
    with tempfile.NamedTemporaryFile("w", prefix="questions-") as file:
        file.writelines(f"{target}\t{token}\n" for target, token in questions)
        file.flush()
        command = ["wrk", "--threads=1", f"--connections={connections}", f"--script={_SCRIPT}"]
        command += [f"--duration={max(1, round(seconds))}s", f"--timeout={_ANSWER_S}s", url]
        done = subprocess.run(
            [*command, "--", file.name, mark, *fields], capture_output=True, text=True, check=False
        )
    if done.returncode or not done.stdout.rstrip().endswith("}"):
        raise SystemExit(f"wrk failed: {done.stdout}{done.stderr}")
    report = json.loads(done.stdout.rstrip().splitlines()[-1])
    driven = Driven(
        report["requests"],
        report["microseconds"] / 1e6,
        report["size_bytes"],
        report["p50"] / 1e6,
        report["p99"] / 1e6,
        {name: report[name] for name in _ERRORS if report[name]},
    )
    if driven.errors or not driven.requests:
        raise SystemExit(f"{url}: {driven.requests} answers, and these errors: {driven.errors}")
    return driven
