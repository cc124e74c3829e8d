"""The output of commands: results on stdout, messages and progress on stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

import click
from attrs import define, field

from ghmirror_tw.cli.command_errors import CommandError
from ghmirror_tw.cli.progress import NoProgress, Progress, ProgressLines

#: The colours of verdicts on a terminal.
_COLOURS: Final = {"whole": "green", "damaged": "red", "fault": "red", "warning": "yellow"}


#: What to do about an error, by its code; the messages of others contain it.
_HINTS: Final = {
    "mirror": "start the mirror, or name its admin port: ghmirror top --url http://HOST:8081",
    "store": "check that Redis runs, and [redis] in this configuration",
    "target": "check [snapshot] target, and this user's permission to read it",
    "no-target": "name the configuration of the mirror by --config, or set this option there",
    "no-snapshot": "a mirror saves one each [snapshot] interval; is this its [snapshot] target?",
    "no-such-snapshot": "ghmirror snapshot list shows the names",
    "no-records": "check that [redis] url and key_prefix are those of the mirrors",
    "lease": "try again later; mirrors save and restore without this command",
    "damaged": "ghmirror snapshot verify reports which snapshots are whole",
    "truncated": "ghmirror snapshot verify reports which snapshots are whole",
    "other-secret": "use the [cache] credential_secret of the mirror that has written it",
    "internal": "run the command again with --verbose, and report what it prints",
}


def _use_colours() -> bool | None:
    """Return False if `NO_COLOR` is set (https://no-color.org); None means on terminals only."""
    return False if os.environ.get("NO_COLOR") else None


def _write_result(text: str) -> None:
    """Write to stdout; if its reader has ended, as `head` does, drop the rest."""
    try:
        click.echo(text, color=_use_colours())
    except BrokenPipeError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


@define(eq=False)
class Output:
    """Writes the results, messages and progress of a command.

    *verbose*: the log is written to stderr as well. *quiet*: no progress is shown.
    """

    as_json: bool = False
    verbose: bool = False
    quiet: bool = False
    warnings: list[str] = field(init=False, factory=list)
    progress: Progress = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.progress = self._new_progress()

    def _new_progress(self) -> Progress:
        if self.quiet:
            return NoProgress()
        # Log lines would break up a bar.
        if self.verbose or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            return ProgressLines(self.note)
        from ghmirror_tw.cli.progress_bars import ProgressBars  # noqa: PLC0415 - rich loads slowly

        return ProgressBars()

    def line(self, text: str) -> None:
        """Write a line of the result, unless JSON is requested."""
        if not self.as_json:
            _write_result(text)

    def verdict(self, word: str, text: str, width: int = 0) -> None:
        """Write a line that begins with a coloured word."""
        self.line(f"{click.style(word.ljust(width), fg=_COLOURS.get(word))}{text}")

    def document(self, content: dict[str, Any]) -> None:
        """Write the whole result as JSON, if that is requested."""
        if self.as_json:
            _write_result(json.dumps(content, indent=2))

    def note(self, text: str) -> None:
        """Write a message to stderr."""
        click.echo(text, err=True, color=_use_colours())

    def warn(self, text: str) -> None:
        """Write a warning to stderr, unless it was written before."""
        if text not in self.warnings:
            self.warnings.append(text)
            self.note(f"{click.style('warning', fg='yellow')}: {text}")

    def failed(self, error: CommandError) -> None:
        """Write the error of a command."""
        if self.as_json:
            self.document(error.document)
            return
        for line in error.lines:
            self.note(f"{click.style('error', fg='red')}: {line}")
        if error.code in _HINTS:
            self.note(f"hint: {_HINTS[error.code]}")
