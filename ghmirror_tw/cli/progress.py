"""Progress of a command, shown as lines where no bar can be drawn (bars: `progress_bars`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from attrs import define, field

from ghmirror_tw.cli import value_formatting

#: The interval of lines that show progress where no bar can be drawn, in seconds.
_PROGRESS_INTERVAL_S: Final = 10.0


class Progress(Protocol):
    """Shows the progress of one task at a time."""

    def begin(self, task: str, size_bytes: int | None) -> None:
        """Show the start of *task*, which has so many bytes; None if that is unknown."""

    def advance(self, size_bytes: int) -> None:
        """Add processed bytes."""

    def count(self, records: int) -> None:
        """Add processed records."""

    def end(self) -> None:
        """End the task; may be called twice."""


class NoProgress:
    """Shows nothing."""

    def begin(self, task: str, size_bytes: int | None) -> None:
        """Do nothing."""

    def advance(self, size_bytes: int) -> None:
        """Do nothing."""

    def count(self, records: int) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


@define(eq=False)
class ProgressLines:
    """Writes a line at the start of a task, and one from time to time."""

    write: Callable[[str], object]
    clock: Callable[[], float] = time.monotonic
    _task: str = field(init=False, default="")
    _total_bytes: int | None = field(init=False, default=None)
    _bytes: int = field(init=False, default=0)
    _records: int = field(init=False, default=0)
    _written_at: float = field(init=False, default=0.0)

    def begin(self, task: str, size_bytes: int | None) -> None:
        """Write the first line."""
        self._task, self._total_bytes = task, size_bytes
        self._bytes = self._records = 0
        self._written_at = self.clock()
        self.write(task if size_bytes is None else f"{task} ({value_formatting.size(size_bytes)})")

    def advance(self, size_bytes: int) -> None:
        """Add processed bytes, and write a line if the last one is old."""
        self._bytes += size_bytes
        if self.clock() - self._written_at >= _PROGRESS_INTERVAL_S:
            self._written_at = self.clock()
            self.write(f"{self._task}: {self._amount()}")

    def _amount(self) -> str:
        if self._total_bytes:
            return f"{100 * self._bytes // self._total_bytes} %"
        records = value_formatting.count(self._records, "record")
        return f"{records}, {value_formatting.size(self._bytes)}"

    def count(self, records: int) -> None:
        """Add records, which the next line shows."""
        self._records += records

    def end(self) -> None:
        """Write nothing, since the result follows."""
