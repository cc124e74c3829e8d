"""A mirror's figures on a whole terminal, until nobody looks any more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

from attrs import define
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ghmirror_tw.cli.status_tables import Board, Section

#: How many rows of a table are shown, so that all tables are seen.
_ROWS: Final = 9
#: From so many columns on, there are tables beside each other.
_WIDE: Final = 100


@define(eq=False)
class Screen:
    """Shows one board after the other."""

    live: Live

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Self]:
        """Take the terminal, and give it back as it was."""
        console = Console(highlight=False)
        with Live(console=console, screen=True, auto_refresh=False) as live:
            yield cls(live)

    def show(self, board: Board, bars: str, trouble: str) -> None:
        """Draw a board; *trouble*: why it is not of now."""
        console = self.live.console
        head = Text(board.head, style="bold")
        if trouble:
            head.append(f"\n{trouble}", style="bold red")
        requests = Text(f"\nrequests a minute, for an hour  {bars}\n", style="cyan")
        columns: list[Any] = [_stack(board.left), _stack(board.right)]
        if console.width >= _WIDE:
            grid = Table.grid(expand=True, padding=(0, 2))
            grid.add_column(ratio=1)
            grid.add_column(ratio=1)
            grid.add_row(*columns)
            columns = [grid]
        self.live.update(Group(head, requests, *columns, _drawn(board.below)), refresh=True)


def _stack(sections: Sequence[Section]) -> Group:
    return Group(*map(_drawn, sections))


def _drawn(section: Section) -> Group:
    """Return a table as it is drawn: its title, and not more than some of its rows."""
    title = Text(section.title, style="bold")
    if not section.rows:
        return Group(title, Text(f"{section.nothing}\n", style="dim"))
    table = Table.grid(padding=(0, 2, 0, 0))
    for number, name in enumerate(section.header):
        justify: Any = "right" if number in section.right else "left"
        table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis")
    if any(section.header):
        table.add_row(*(Text(name, style="dim") for name in section.header))
    for row in section.rows[:_ROWS]:
        table.add_row(*map(Text, row))
    more = len(section.rows) - _ROWS
    return Group(title, table, Text(f"and {more:,} more\n" if more > 0 else "", style="dim"))
