"""The results of a benchmark: figures with their thresholds, and tables, written as JSON."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from attrs import asdict, define, field, has

from benchmarks.interpreters import OWN, interpreter_name
from benchmarks.programs import find
from benchmarks.thresholds import Thresholds
from tests.harness.running import PYTHON, ROOT

_VERSIONS: Final = {
    "Varnish": ("varnishd", "-V"),
    "nginx": ("nginx", "-v"),
    "Redis": ("redis-server", "--version"),
    "wrk": ("wrk", "-v"),
}

OTHER_PYTHON: Final = "other Python"
"""The label of the second Python, where mirrors are measured on two."""

_VERSION: Final = re.compile(r"\d+(?:\.\d+)+")
NEEDED: Final = ("command", "options", "when", "commit", "machine", "programs", "figures", "tables")
"""The names in the JSON that `Results.write` writes."""


@define(eq=False)
class Results:
    """Tables by the name of their part, and figures compared with their thresholds."""

    thresholds: Thresholds = field(factory=Thresholds)
    tables: dict[str, Any] = field(factory=dict)
    figures: list[dict[str, Any]] = field(factory=list)

    def figure(
        self, part: str, name: str, value: float, unit: str = "", *, most: float | None = None
    ) -> None:
        """Print a figure with its threshold, if it has one, and add it to the results."""
        self.thresholds.figure(name, value, unit, most=most)
        holds = None if most is None else value <= most
        self.figures.append(
            {"part": part, "name": name, "value": value, "unit": unit, "most": most, "holds": holds}
        )

    def write(self, path: Path, command: str, options: dict[str, Any]) -> None:
        """Write all results, with the machine and the versions of the programs."""
        found = {
            "command": command,
            "options": options,
            "when": datetime.now(UTC).isoformat(timespec="minutes"),
            "commit": _commit(),
            "machine": machine(),
            "programs": programs(),
            "figures": self.figures,
            "tables": self.tables,
        }
        text = json.dumps(
            found, indent=1, default=lambda each: asdict(each) if has(type(each)) else str(each)
        )
        path.write_text(f"{text}\n")


def _output_of(*command: str) -> str:
    """Return the output of a program on stdout and stderr."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def _commit() -> str:
    """Return the present commit, and whether files differ from it; empty without git."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return ""
    return _output_of("git", "-C", str(ROOT), "describe", "--always", "--dirty")


def machine() -> dict[str, str]:
    """Describe the machine."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "CPU": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "memory": f"{memory / (1 << 30):.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
    }


def programs() -> dict[str, str]:
    """Return the versions of the programs."""
    found = {"Python": interpreter_name()}
    if PYTHON != OWN:
        found[OTHER_PYTHON] = interpreter_name(OWN)
    for name, (program, flag) in _VERSIONS.items():
        output = _output_of(find(program), flag)
        version = _VERSION.search(output)
        found[name] = version[0] if version else output
    return found
