"""Writes the tables of capacity in docs/deployment.rst, from measured figures.

    python -m benchmarks.trace --json trace.json
    python -m benchmarks.capacity trace.json

The first command needs a machine with nothing else to do. The second one writes cores and pods by
requests per second, by the CPU time of a request in the fleet trace, that of Redis included. Pods
are those of the HorizontalPodAutoscaler. Memory of Redis is from ``benchmarks.redis_memory``, whose
figures do not depend on the machine's load.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.harness.running import ROOT

PAGE: Final = ROOT / "docs" / "deployment.rst"
RATES: Final = (50, 200, 500, 1_000, 2_000, 5_000, 10_000)
RESOURCES: Final = (1_000, 10_000, 100_000)
CREDENTIALS: Final = (1, 50, 500)
SUBJECT: Final = "mirror, Redis"
#: Of the HorizontalPodAutoscaler: 70 % of the half core that a pod requests, and three pods.
CORES_A_POD: Final = 0.35
LEAST_PODS: Final = 3
#: Bytes, as docs/redis.rst has them by ``benchmarks.redis_memory``.
GRANT: Final = 400
REPRESENTATION: Final = 1_230
LIST: Final = 500
CONTENT: Final = 7_700
_BEGIN: Final = ".. begin of the table of cores\n"
_END: Final = ".. end of the table of cores\n"


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of reStructuredText, numbers to the right."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    line = "  ".join("=" * width for width in widths)
    texts = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (head, *rows)
    ]
    return "\n".join([line, texts[0], line, *texts[1:], line, ""])


def cores(found: dict[str, Any]) -> str:
    """Return the table of cores and pods, from the JSON of ``benchmarks.trace``."""
    (row,) = [each for each in found["tables"]["trace"] if each["subject"] == SUBJECT]
    busy = {rate: rate * row["cpu_us"] / 1e6 for rate in RATES}
    rows = [
        (f"{rate:,}", f"{used:.2f}", str(max(LEAST_PODS, math.ceil(used / CORES_A_POD))))
        for rate, used in busy.items()
    ]
    about = (
        f"By {row['cpu_us']:.0f} µs of CPU time a request, that of Redis included; one process\n"
        f"sends {row['rate']:,.0f} requests/s at most. Measured with ``{found['command']}`` at\n"
        f"{found['when']}, of commit {found['commit']}, on {found['machine']['CPU']},\n"
        f"{found['programs']['Python']}.\n"
    )
    return f"{grid(('requests/s', 'cores busy', 'pods'), rows)}\n{about}"


def redis_bytes(resources: int, credentials: int) -> int:
    """Return the memory of so many resources that each of so many credentials was granted."""
    return resources * (CONTENT + REPRESENTATION + LIST + credentials * GRANT)


def redis() -> str:
    """Return the table of Redis' memory."""
    head = ("resources", *(f"{each} credential{'s' * (each > 1)}" for each in CREDENTIALS))
    rows = [
        (f"{each:,}", *(f"{redis_bytes(each, count) / 1e6:,.0f} MB" for count in CREDENTIALS))
        for each in RESOURCES
    ]
    return grid(head, rows)


def with_cores(page: str, table: str) -> str:
    """Return the page with another table of cores."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{table}\n{_END}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table of cores into the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("trace", type=Path, help="the JSON of benchmarks.trace")
    found = json.loads(parser.parse_args(arguments).trace.read_text())
    PAGE.write_text(with_cores(PAGE.read_text(), cores(found)))


if __name__ == "__main__":
    main()
