"""Progress bars on a terminal; they are gone when the work is done."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ghmirror_tw.cli import text_format


def _made() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TextColumn("{task.fields[records]}", markup=False),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False),
        transient=True,
    )


@define(eq=False)
class Bars:
    """Draws a bar on stderr for each piece of work."""

    _drawn: Progress | None = field(init=False, default=None)
    _task: Any = field(init=False, default=None)
    _records: int = field(init=False, default=0)

    def begin(self, what: str, size_bytes: int | None) -> None:
        """Draw a bar; one that swings to and fro if nobody knows how long it gets."""
        self.end()
        self._records = 0
        self._drawn = _made()
        self._task = self._drawn.add_task(what, total=size_bytes, records="")
        self._drawn.start()

    def advance(self, size_bytes: int) -> None:
        """Have it grow."""
        if self._drawn is not None:
            self._drawn.advance(self._task, size_bytes)

    def count(self, records: int) -> None:
        """Have it say how many records there were."""
        self._records += records
        if self._drawn is not None:
            self._drawn.update(self._task, records=text_format.count(self._records, "record"))

    def end(self) -> None:
        """Wipe it, and give the cursor back."""
        drawn, self._drawn = self._drawn, None
        if drawn is not None:
            drawn.stop()
