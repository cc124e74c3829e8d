"""The status of a mirror on the full screen of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

from attrs import define
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ghmirror_tw.cli.status_tables import Section, StatusView

#: The most rows of a table in one column and in two, so that all tables fit.
_ROWS: Final = (4, 9)
#: The width from which tables are shown in two columns.
_WIDE: Final = 100


@define(eq=False)
class Screen:
    """Shows a status view until the next one."""

    live: Live

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Self]:
        """Use the alternate screen of the terminal, and restore the terminal at the end."""
        console = Console(highlight=False)
        with Live(console=console, screen=True, auto_refresh=False) as live:
            yield cls(live)

    def show(self, view: StatusView, bars: str, problem: str) -> None:
        """Draw a view; *problem* is shown if it is not current."""
        console = self.live.console
        head = Text(view.headline, style="bold")
        if problem:
            head.append(f"\n{problem}", style="bold red")
        wide = console.width >= _WIDE
        requests = Text(f"requests a minute {bars}", style="cyan", no_wrap=True)
        state = _draw(view.state, len(view.state.rows), wrap=True)
        if wide:
            grid = Table.grid(expand=True, padding=(0, 2))
            grid.add_column(ratio=1)
            grid.add_column(ratio=1)
            grid.add_row(_stack(view.left, _ROWS[1]), _stack(view.right, _ROWS[1]))
            tables: list[Any] = [grid]
        else:
            tables = [_stack(view.in_one_column[1:], _ROWS[0])]
        self.live.update(Group(head, state, requests, Text(), *tables), refresh=True)


def _stack(sections: Sequence[Section], most: int) -> Group:
    """Return the sections below each other, with an empty line after each."""
    return Group(*(part for each in sections for part in (_draw(each, most), Text())))


def _draw(section: Section, most: int, *, wrap: bool = False) -> Group:
    """Return the first *most* rows of a table, below its header.

    Of a table that is too wide, the column with the longest cell is cut; *wrap*: it is wrapped.
    """
    if not section.rows:
        empty = Text(section.title, style="bold").append(f" {section.empty}", style="not bold dim")
        return Group(empty)
    shown = section.rows[:most]
    columns = range(len(section.header))
    widest = max(columns, key=lambda number: max(len(row[number]) for row in shown))
    table = Table.grid(padding=(0, 2, 0, 0))
    for number in columns:
        justify: Any = "right" if number in section.right else "left"
        # rich narrows columns that wrap before others; the cells themselves do not wrap
        table.add_column(justify=justify, no_wrap=number != widest)
    if any(section.header):
        heads = (
            Text(name, style="bold" if name == section.title else "dim") for name in section.header
        )
        table.add_row(*heads)
    for row in shown:
        table.add_row(*[Text(each, overflow="ellipsis", no_wrap=not wrap) for each in row])
    more = len(section.rows) - most
    return Group(table, Text(f"and {more:,} more", style="dim")) if more > 0 else Group(table)
