"""GitHub's stand-in as a process."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from typing import Any, Self

from tests.harness.running import ROOT, environment


class GitHubProcess:
    """GitHub's stand-in in a process of its own; it runs inside a ``with``."""

    def __init__(self, **options: object) -> None:
        command = [sys.executable, "-m", "tests.fakes.github"]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise SystemExit("GitHub's stand-in did not start")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def control(self, name: str, **arguments: object) -> Any:
        """Execute a command of the stand-in and return its result; see ``GitHub._control``."""
        request = urllib.request.Request(
            f"{self.url}/_control/{name}",
            json.dumps(arguments).encode(),
            {"Content-Type": "application/json", "User-Agent": "benchmark"},
            method="POST",
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def counts(self) -> dict[str, Any]:
        """Return the counts since the last ``reset_counts``."""
        request = urllib.request.Request(
            f"{self.url}/_control/counts", headers={"User-Agent": "benchmark"}
        )
        with urllib.request.urlopen(request) as response:
            counts: dict[str, Any] = json.load(response)
            return counts
