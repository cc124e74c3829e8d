"""Starting what makes a Debian of its own, from a test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.apart import obstacle
from tests.harness.running import ROOT
from tests.system.test_packaging import clean_environment


@contextmanager
def started(
    module: str, what: str, *arguments: str, temporary: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a module, where that is allowed; else say at the end of ``make test`` *what* was not."""
    why_not = obstacle()
    if why_not:
        pytest.skip(f"NOT RUN: {what}: {why_not}")
    # If this process is killed, the other is told to end, and removes what it has made.
    # A job in the background of a shell is given SIGINT ignored, and would give it on like that.
    command = ["env", "--default-signal=INT", "setpriv", "--pdeathsig", "TERM"]
    command += [sys.executable, "-m", module]
    environment = clean_environment()
    if temporary is not None:
        environment["TMPDIR"] = str(temporary)
    with subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
