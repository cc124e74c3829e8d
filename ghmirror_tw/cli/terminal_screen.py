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

#: The most rows of a table, so that all tables fit.
_ROWS: Final = 9
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
        requests = Text(f"\nrequests a minute, for an hour  {bars}\n", style="cyan")
        columns: list[Any] = [_stack(view.left), _stack(view.right)]
        if console.width >= _WIDE:
            grid = Table.grid(expand=True, padding=(0, 2))
            grid.add_column(ratio=1)
            grid.add_column(ratio=1)
            grid.add_row(*columns)
            columns = [grid]
        self.live.update(Group(head, requests, *columns, _draw(view.below)), refresh=True)


def _stack(sections: Sequence[Section]) -> Group:
    return Group(*map(_draw, sections))


def _draw(section: Section) -> Group:
    """Return the title of a table and its first rows."""
    title = Text(section.title, style="bold")
    if not section.rows:
        return Group(title, Text(f"{section.empty}\n", style="dim"))
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
