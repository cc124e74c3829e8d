"""The time that processes wait for a CPU because of other load on the machine."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Self

from attrs import define, field

_INTERVAL_S = 0.02


def cpu_wait_s(path: str) -> float:
    """Return the seconds that a thread has waited for a CPU so far, by its ``schedstat``.

    Its second number is the nanoseconds on a run queue (Linux, sched-stats).
    """
    return int(Path(path).read_text().split()[1]) / 1e9


@define(eq=False)
class CpuWait:
    """Samples the main threads of processes, from a thread; it runs inside a ``with``."""

    pids: tuple[int, ...]
    _at: list[float] = field(init=False, factory=list)
    _waited: dict[int, list[float]] = field(init=False)
    _stop: threading.Event = field(init=False, factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._waited = {pid: [] for pid in self.pids}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        self._at.append(time.monotonic())
        for pid, so_far in self._waited.items():
            so_far.append(cpu_wait_s(f"/proc/{pid}/schedstat"))

    def during(self, pid: int, begin: float, end: float) -> float:
        """Return the seconds a process waited between two moments of `time.monotonic`, about."""
        so_far = self._waited[pid]
        first = max(bisect_right(self._at, begin) - 1, 0)
        last = min(bisect_left(self._at, end), len(so_far) - 1)
        return min(so_far[last] - so_far[first], end - begin)
