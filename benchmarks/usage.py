"""What processes have used: CPU time and memory, of one or of a whole family, from ``/proc``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> Iterator[int]:
    """Give a process and all that it has started, and what those have started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def cpu_s(pids: Iterable[int]) -> float:
    """Return how many seconds of CPU processes have taken so far, as users and in the kernel.

    Fields 14 and 15 of ``stat`` (proc(5)); Linux makes them add up to what the scheduler has
    measured, so all that is lost is the last hundredth of a second.
    """
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def memory(pids: Iterable[int]) -> int:
    """Return how many bytes processes hold; what several hold is counted once (``Pss``)."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total
