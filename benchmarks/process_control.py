"""Signals and priorities of the processes of a benchmark."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

_HIGH_PRIORITY = -15


def exit_cleanly_on_signals() -> None:
    """Raise `KeyboardInterrupt` at SIGTERM and SIGINT, so that all started processes are ended.

    A shell starts background jobs with SIGINT ignored; here it is handled in any case.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)


def raise_priority(pid: int) -> None:
    """Schedule a process before others, as if it had its own machine; without root, do nothing."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, _HIGH_PRIORITY)
