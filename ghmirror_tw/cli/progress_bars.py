"""Progress bars on a terminal, which are removed when their task ends."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ghmirror_tw.cli import value_formatting


@define(eq=False)
class ProgressBars:
    """Draws a bar on stderr for each task."""

    _drawn: Progress | None = field(init=False, default=None)
    _task: Any = field(init=False, default=None)
    _records: int = field(init=False, default=0)

    def begin(self, task: str, size_bytes: int | None) -> None:
        """Draw a bar, which pulses if the size is unknown."""
        self.end()
        self._records = 0
        self._drawn = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TextColumn("{task.fields[records]}", markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._task = self._drawn.add_task(task, total=size_bytes, records="")
        self._drawn.start()

    def advance(self, size_bytes: int) -> None:
        """Add processed bytes."""
        if self._drawn is not None:
            self._drawn.advance(self._task, size_bytes)

    def count(self, records: int) -> None:
        """Add processed records."""
        self._records += records
        if self._drawn is not None:
            self._drawn.update(self._task, records=value_formatting.count(self._records, "record"))

    def end(self) -> None:
        """Remove the bar, and show the cursor."""
        drawn, self._drawn = self._drawn, None
        if drawn is not None:
            drawn.stop()
