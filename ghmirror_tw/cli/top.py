"""`ghmirror top`: the figures of a mirror's status page in a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from twisted.internet.task import deferLater

from ghmirror_tw.cli import text_format
from ghmirror_tw.cli.admin_client import StatusAnswer, place_of
from ghmirror_tw.cli.commands import explaining
from ghmirror_tw.cli.exit_status import CommandError, Status
from ghmirror_tw.cli.output import Output
from ghmirror_tw.cli.run_in_reactor import run
from ghmirror_tw.cli.status_tables import Board, Section, board, sparkline
from ghmirror_tw.config.settings_loader import read_settings


def look(path: str | None, url: str | None, out: Output, interval_s: float, *, once: bool) -> int:
    """Show the figures: on a terminal until it is ended, elsewhere once."""
    with explaining(out):
        place = place_of(url, read_settings(path))
        lasts = not once and not out.as_json and _can_draw()

        async def work(reactor: Any) -> Status:
            asked = StatusAnswer(reactor, place)
            figures = await asked.figures()
            if lasts:
                await _watch(reactor, asked, figures, interval_s)
            with _understood(asked):
                _print(board(figures), out)
            out.document(figures)
            return Status.OK

        try:
            return run(work, out, at_once=True)
        except CommandError as error:
            if lasts and error.code == "interrupted":  # as it is meant to end
                return error.status
            raise


def _can_draw() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def _understood(asked: StatusAnswer) -> Iterator[None]:
    """Say of figures that are none of ours that they are not."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        text = f"{asked.place.name}: its figures are not those of a mirror of this version"
        raise CommandError("mirror", text, Status.UNREACHABLE) from error


async def _watch(reactor: Any, asked: StatusAnswer, figures: Any, interval_s: float) -> NoReturn:
    """Show what there is now and then, until it is cancelled."""
    from ghmirror_tw.cli.terminal_screen import Screen  # noqa: PLC0415 - it takes a while, for terminals only

    trouble = ""
    with Screen.open() as screen:
        while True:
            with _understood(asked):
                screen.show(board(figures), sparkline(figures), trouble)
            await deferLater(reactor, interval_s)
            try:
                figures, trouble = await asked.figures(), ""
            except CommandError as error:
                seen = text_format.moment(round(figures["at"] * 1000))
                trouble = f"What is shown is of {seen}. {error.message}"


def _print(shown: Board, out: Output) -> None:
    out.line(shown.head)
    for section in (*shown.left, *shown.right, shown.below):
        out.line("")
        for line in _lines(section):
            out.line(line)


def _lines(section: Section) -> list[str]:
    if not section.rows:
        return [f"{section.title}: {section.nothing}"]
    header = [section.header] if any(section.header) else []
    return [section.title, *text_format.table([*header, *section.rows], section.right)]
