"""How far a long piece of work has come, for who waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from attrs import define, field

from ghmirror_tw.cli import text_format

#: Where nothing can be drawn, a line tells so often that work goes on, in seconds.
_OFTEN_S: Final = 10.0


class Progress(Protocol):
    """One piece of work at a time."""

    def begin(self, what: str, size_bytes: int | None) -> None:
        """Begin to show *what* is done with so many bytes; None: nobody knows how many."""

    def advance(self, size_bytes: int) -> None:
        """So many more bytes are done."""

    def count(self, records: int) -> None:
        """So many more records are done."""

    def end(self) -> None:
        """Show it no longer. May be called again."""


class Silent:
    """Shows nothing."""

    def begin(self, what: str, size_bytes: int | None) -> None:
        """Do nothing."""

    def advance(self, size_bytes: int) -> None:
        """Do nothing."""

    def count(self, records: int) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


@define(eq=False)
class Plain:
    """Says in a line what begins, and in another one from time to time how far it is."""

    say: Callable[[str], object]
    clock: Callable[[], float] = time.monotonic
    _what: str = field(init=False, default="")
    _of_bytes: int | None = field(init=False, default=None)
    _bytes: int = field(init=False, default=0)
    _records: int = field(init=False, default=0)
    _said_at: float = field(init=False, default=0.0)

    def begin(self, what: str, size_bytes: int | None) -> None:
        """Say what begins."""
        self._what, self._of_bytes = what, size_bytes
        self._bytes = self._records = 0
        self._said_at = self.clock()
        self.say(what if size_bytes is None else f"{what} ({text_format.size(size_bytes)})")

    def advance(self, size_bytes: int) -> None:
        """Say how far it is, if nothing was said for long."""
        self._bytes += size_bytes
        if self.clock() - self._said_at >= _OFTEN_S:
            self._said_at = self.clock()
            self.say(f"{self._what}: {self._far()}")

    def _far(self) -> str:
        if self._of_bytes:
            return f"{100 * self._bytes // self._of_bytes} %"
        return f"{text_format.count(self._records, 'record')}, {text_format.size(self._bytes)}"

    def count(self, records: int) -> None:
        """Count them for the next line."""
        self._records += records

    def end(self) -> None:
        """Say nothing: the result tells."""
