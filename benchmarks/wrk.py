"""Load by wrk, a closed loop: each connection has one request in flight at a time."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from benchmarks.load_generator import Request

_SCRIPT: Final = Path(__file__).with_suffix(".lua")
_ERRORS: Final = ("connect", "read", "write", "status", "timeout")
_TIMEOUT_S: Final = 30


@frozen
class LoadResult:
    """The number and size of the responses, and percentiles of their latency."""

    responses: int
    seconds: float
    size_bytes: int
    p50_s: float
    p99_s: float
    errors: dict[str, int]

    @property
    def rate(self) -> float:
        """Responses in a second."""
        return self.responses / self.seconds


def run_load(
    url: str,
    requests: Iterable[Request],
    *,
    connections: int,
    seconds: float,
    mark: str = "",
    fields: Sequence[str] = (),
) -> LoadResult:
    """Send *requests* in a loop, and exit unless each has a response.

    A single thread sends them in their order, so that two equal ones are in flight at once only
    with more connections than requests. With a *mark*, each target has a unique query with this
    mark.
    """
    with tempfile.NamedTemporaryFile("w", prefix="requests-") as file:
        file.writelines(f"{target}\t{token}\n" for target, token in requests)
        file.flush()
        command = ["wrk", "--threads=1", f"--connections={connections}", f"--script={_SCRIPT}"]
        command += [f"--duration={max(1, round(seconds))}s", f"--timeout={_TIMEOUT_S}s", url]
        done = subprocess.run(
            [*command, "--", file.name, mark, *fields], capture_output=True, text=True, check=False
        )
    if done.returncode or not done.stdout.rstrip().endswith("}"):
        raise SystemExit(f"wrk failed: {done.stdout}{done.stderr}")
    report = json.loads(done.stdout.rstrip().splitlines()[-1])
    result = LoadResult(
        report["responses"],
        report["microseconds"] / 1e6,
        report["size_bytes"],
        report["p50"] / 1e6,
        report["p99"] / 1e6,
        {name: report[name] for name in _ERRORS if report[name]},
    )
    if result.errors or not result.responses:
        raise SystemExit(f"{url}: {result.responses} responses, errors: {result.errors}")
    return result
