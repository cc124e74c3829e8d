"""What a command says: its result on stdout, as text or one JSON document; the rest on stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

import click
from attrs import define, field

from ghmirror_tw.cli.exit_status import CommandError
from ghmirror_tw.cli.progress import Plain, Progress, Silent

#: In which colour a verdict is written, on a terminal.
_COLOURS: Final = {"whole": "green", "damaged": "red", "fault": "red", "warning": "yellow"}


def _coloured() -> bool | None:
    """Return False where nobody wants colours (https://no-color.org); None: on terminals."""
    return False if os.environ.get("NO_COLOR") else None


def _result(text: str) -> None:
    """Write to stdout; after its reader has ended, as `head` does, the rest is dropped."""
    try:
        click.echo(text, color=_coloured())
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@define(eq=False)
class Output:
    """Where a command's words go.

    *verbose*: the log of what is done goes to stderr, too. *quiet*: no progress is shown.
    """

    as_json: bool = False
    verbose: bool = False
    quiet: bool = False
    warnings: list[str] = field(init=False, factory=list)
    progress: Progress = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.progress = self._made()

    def _made(self) -> Progress:
        if self.quiet:
            return Silent()
        # a log between the bars would leave pieces of them
        if self.verbose or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            return Plain(self.note)
        from ghmirror_tw.cli.progress_bars import Bars  # noqa: PLC0415 - it takes a while, for terminals only

        return Bars()

    def line(self, text: str) -> None:
        """Say a line of the result to people."""
        if not self.as_json:
            _result(text)

    def verdict(self, word: str, text: str, width: int = 0) -> None:
        """Say a line that begins with what was found."""
        self.line(f"{click.style(word.ljust(width), fg=_COLOURS.get(word))}{text}")

    def document(self, content: dict[str, Any]) -> None:
        """Say the whole result to programs; nothing else is ever on their stdout."""
        if self.as_json:
            _result(json.dumps(content, indent=2))

    def note(self, text: str) -> None:
        """Say what goes on, beside the result."""
        click.echo(text, err=True, color=_coloured())

    def warn(self, text: str) -> None:
        """Say what is not as it should be, once."""
        if text not in self.warnings:
            self.warnings.append(text)
            self.note(f"{click.style('warning', fg='yellow')}: {text}")

    def failed(self, error: CommandError) -> None:
        """Say why a command came to nothing."""
        if self.as_json:
            self.document(error.document)
            return
        for line in error.lines:
            self.note(f"{click.style('error', fg='red')}: {line}")
