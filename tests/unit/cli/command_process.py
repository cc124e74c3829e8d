"""The real command, in a process of its own: on pipes, or on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self, cast

from attrs import define, field, frozen

from tests.harness.running import Sections, environment, ini

COMMAND = (sys.executable, "-m", "ghmirror_tw.cli")
_END_S = 60.0
_ROWS_AND_COLUMNS = (24, 120)


@frozen
class Ended:
    """The results of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on its stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> tuple[int, str, str]:
        """Status, code and message in the JSON of an error."""
        output = self.json
        assert list(output) == ["error"]
        return self.status, output["error"]["code"], output["error"]["message"]


@define(eq=False)
class Operator:
    """An operator with a configuration, in a directory of their own."""

    directory: Path
    sections: dict[str, dict[str, object]] = field(factory=dict)
    more: dict[str, str] = field(factory=dict)

    def configure(self, sections: Sections) -> Self:
        """Lay options over what is there."""
        for name, options in sections.items():
            self.sections[name] = {**self.sections.get(name, {}), **options}
        return self

    @property
    def config(self) -> Path:
        path = self.directory / "ghmirror.ini"
        path.write_text(ini(self.sections))
        return path

    def _begun(self, arguments: tuple[str, ...], **how: Any) -> subprocess.Popen[str]:
        env = environment({**self.more, **how.pop("env", {})})
        env.pop("NO_COLOR", None) if "NO_COLOR" not in self.more else None
        return subprocess.Popen(
            [*COMMAND, *arguments], cwd=self.directory, env=env, text=True, **how
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a command with the configuration, on pipes."""
        return self._begun(
            (*arguments, "--config", str(self.config)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> Ended:
        """Run a command with the configuration, to its end."""
        return finish(self.start(*arguments))

    def bare(self, *arguments: str) -> Ended:
        """Run a command without a configuration."""
        process = self._begun(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        return finish(process)

    @contextmanager
    def terminal(self, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Terminal]:
        """Begin a command with the configuration on a terminal of its own."""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", *_ROWS_AND_COLUMNS, 0, 0))
        with os.fdopen(ours, "rb", buffering=0) as screen:
            process = self._begun(
                (*arguments, "--config", str(self.config)),
                stdin=its,
                stdout=its,
                stderr=its,
                env={"TERM": "xterm-256color", **(env or {})},
            )
            os.close(its)
            try:
                yield Terminal(process, screen)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()

    def on_terminal(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        """Run a command with the configuration on a terminal; *out* is all that it shows."""
        with self.terminal(*arguments, env=env) as terminal:
            return terminal.end()


@define(eq=False)
class Terminal:
    """A command on a terminal, and what it has shown."""

    process: subprocess.Popen[str]
    _screen: IO[bytes]
    limit_s: float = _END_S
    _seen: bytearray = field(factory=bytearray)

    @property
    def shown(self) -> str:
        return self._seen.decode(errors="replace")

    def _read(self, until: float, waits_for: str) -> bool:
        """Read the next output; False: no process is left that could write."""
        left_s = max(0.0, until - time.monotonic())
        ready, _, _ = select.select([self._screen], [], [], left_s)
        assert ready, f"it never {waits_for} within {self.limit_s:g} s: {self.shown!r}"
        try:
            piece = self._screen.read(65536)
        except OSError:  # Linux raises this after the end
            return False
        self._seen += piece or b""
        return bool(piece)

    def until(self, text: str) -> None:
        """Return when it has shown this."""
        until = time.monotonic() + self.limit_s
        while text not in self.shown:
            output = self._read(until, f"shows {text!r}")
            assert output, f"it never shows {text!r}: {self.shown!r}"

    def press(self, key: str) -> None:
        """Press a key."""
        os.write(self._screen.fileno(), key.encode())

    @property
    def mode(self) -> list[Any]:
        """How the terminal treats input and output; see termios(3)."""
        return termios.tcgetattr(self._screen.fileno())

    def end(self) -> Ended:
        """Return all that it has shown, when it has ended."""
        until = time.monotonic() + self.limit_s
        while self._read(until, "ends"):
            pass
        return Ended(self.process.wait(_END_S), self._seen.decode(), "")


def finish(process: subprocess.Popen[str]) -> Ended:
    """Return the results of a started command, after its end."""
    try:
        out, err = process.communicate(timeout=_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Ended(process.returncode, out, err)


def description(process: subprocess.Popen[str], text: str) -> None:
    """Return when the text is in the stderr of a process."""
    for line in cast("IO[str]", process.stderr):
        if text in line:
            return
    raise AssertionError(f"the output never has {text!r}")


def interrupt(process: subprocess.Popen[str]) -> None:
    """Send SIGINT, as Ctrl-C does."""
    process.send_signal(signal.SIGINT)
