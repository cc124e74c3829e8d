"""The output of a command, and its destination."""

from __future__ import annotations

import subprocess
import sys

from tests.harness.running import ROOT

WRITES = """
from ghmirror_tw.cli.output import Output
out = Output(quiet=True)
for _ in range(20_000):
    out.line("a line of a long result")
Output(as_json=True, quiet=True).document({"rest": "nowhere"})
"""


def test_a_reader_that_ends_early_is_no_fault() -> None:
    """As with `head`: the command continues to its own status, and stderr is empty."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITES], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"a line of a long result\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
