"""`ghmirror top`: shows the status document of a mirror in a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from ghmirror_tw.cli import value_formatting
from ghmirror_tw.cli.admin_client import StatusClient, admin_address
from ghmirror_tw.cli.command_errors import CommandError, Status
from ghmirror_tw.cli.command_runner import command_errors, run_in_reactor
from ghmirror_tw.cli.output import Output
from ghmirror_tw.cli.quit_key import quit_key
from ghmirror_tw.cli.status_tables import Section, StatusView, sparkline, status_view
from ghmirror_tw.config.settings_loader import read_settings


def show_status(
    path: str | None, url: str | None, out: Output, interval_s: float, *, once: bool
) -> int:
    """Show the status: on a terminal until it is interrupted, elsewhere once."""
    with command_errors(out):
        address = admin_address(url, read_settings(path))
        continuous = not once and not out.as_json and _has_screen()

        async def work(reactor: Any) -> Status:
            client = StatusClient(reactor, address)
            status = await client.fetch()
            if continuous:
                return await _watch_until_quit(reactor, client, status, interval_s)
            with _document_errors(client):
                _print(status_view(status), out)
            out.document(status)
            return Status.OK

        try:
            return run_in_reactor(work, out, announce=False)
        except CommandError as error:
            if continuous and error.code == "interrupted":  # the usual end
                return error.status
            raise


def _has_screen() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def _document_errors(client: StatusClient) -> Iterator[None]:
    """Convert exceptions of tables to the error of a mirror of another version."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        text = f"{client.address.name}: the status document is of another version of the mirror"
        raise CommandError("mirror", text, Status.UNREACHABLE) from error


async def _watch_until_quit(
    reactor: Any, client: StatusClient, status: Any, interval_s: float
) -> Status:
    """Show the status at an interval until a q is pressed, or until this is cancelled."""
    watching = Deferred.fromCoroutine(_watch(reactor, client, status, interval_s))
    with quit_key(reactor, watching.cancel) as key:
        try:
            await watching
        except CancelledError:
            if not key.pressed:
                raise
    return Status.OK


async def _watch(reactor: Any, client: StatusClient, status: Any, interval_s: float) -> NoReturn:
    """Show the status at an interval until it is cancelled."""
    from ghmirror_tw.cli.status_screen import Screen  # noqa: PLC0415 - rich loads slowly

    problem = ""
    with Screen.open() as screen:
        while True:
            with _document_errors(client):
                screen.show(status_view(status), sparkline(status), problem)
            await deferLater(reactor, interval_s)
            try:
                status, problem = await client.fetch(), ""
            except CommandError as error:
                shown = value_formatting.moment(round(status["at"] * 1000))
                problem = f"Not current: status of {shown}. {error.message}"


def _print(view: StatusView, out: Output) -> None:
    out.line(view.headline)
    for section in view.in_one_column:
        out.line("")
        for line in _lines(section):
            out.line(line)


def _lines(section: Section) -> list[str]:
    if not section.rows:
        return [f"{section.title}: {section.empty}"]
    header = [section.header] if any(section.header) else []
    return value_formatting.table([*header, *section.rows], section.right)
