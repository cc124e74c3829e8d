"""What a benchmark has found out: figures beside their bars, and tables, as JSON at last."""

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

from benchmarks.bars import Bars
from benchmarks.programs import find
from benchmarks.python import OWN, named
from tests.harness.running import PYTHON, ROOT

_VERSIONS: Final = {
    "Varnish": ("varnishd", "-V"),
    "nginx": ("nginx", "-v"),
    "Redis": ("redis-server", "--version"),
    "wrk": ("wrk", "-v"),
}

BESIDE: Final = "beside it"
"""What the other Python is called, where mirrors are measured on two."""

_VERSION: Final = re.compile(r"\d+(?:\.\d+)+")
NEEDED: Final = ("command", "options", "when", "commit", "machine", "programs", "figures", "tables")
"""What `Results.write` writes."""


@define(eq=False)
class Results:
    """Tables by the part that they belong to, and figures with what they were judged to be."""

    bars: Bars = field(factory=Bars)
    tables: dict[str, Any] = field(factory=dict)
    figures: list[dict[str, Any]] = field(factory=list)

    def figure(
        self, part: str, what: str, value: float, unit: str = "", *, most: float | None = None
    ) -> None:
        """Print a figure with its bar, if any, and remember both."""
        self.bars.figure(what, value, unit, most=most)
        holds = None if most is None else value <= most
        self.figures.append(
            {"part": part, "what": what, "value": value, "unit": unit, "most": most, "holds": holds}
        )

    def write(self, path: Path, command: str, options: dict[str, Any]) -> None:
        """Write all of it, with the machine and the programs that it comes from."""
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
    """Return what a program says, on whatever channel."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def _commit() -> str:
    """Return which commit this is, and whether there is more; empty where there is none."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return ""
    return _output_of("git", "-C", str(ROOT), "describe", "--always", "--dirty")


def machine() -> dict[str, str]:
    """Name the machine."""
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
    """Name the versions of what was measured, and measured with."""
    found = {"Python": named()}
    if PYTHON != OWN:
        found[BESIDE] = named(OWN)
    for name, (program, flag) in _VERSIONS.items():
        output = _output_of(find(program), flag)
        version = _VERSION.search(output)
        found[name] = version[0] if version else output
    return found
