"""A Python process that is controlled by lines on its standard input and output."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.harness.running import ROOT, environment


class ControlledProcess:
    """Runs a module on the interpreter *python* inside a ``with``, and is killed at its end."""

    def __init__(
        self,
        python: str | Path,
        module: str,
        *arguments: str,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [str(python), "-m", module, *arguments],
            cwd=ROOT,
            env=environment(more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def read_line(self) -> str:
        """Return the next line of output; exit if the process has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._module} has ended")
        return line

    def send(self, command: str) -> str:
        """Send a command in one line, and return the line of its result."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self.read_line()
