"""The commands of the tutorial, run as they are written, have the output in its text.

They run in a copy of the tree and a home of its own, without a network after the installation. Only
ports are replaced, by free ones. Comments in the tutorial, such as ``.. walk: stop mirror``, define
the terminal of a command or of an output.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from attrs import define, field, frozen

from tests.harness.redis_servers import free_port
from tests.harness.running import ROOT
from tests.system.test_packaging import IGNORED, clean_environment

TUTORIAL = (ROOT / "docs" / "tutorial.rst").read_text()
_STEP = re.compile(
    r"^\.\. walk: (?P<walk>.+)$"
    r"|^\.\. code-block:: (?P<kind>ini|text)\n\n(?P<shown>(?:(?: {3,}.*)?\n)+)"
    r"|(?<=::)\n\n(?P<commands>(?:(?: {4}.*)?\n)+)",
    re.MULTILINE,
)
_PORTS = ("9000", "8080", "8081")
#: Lines whose effect on a terminal lasts.
_LASTING = (". ",)
_LIMIT_S = 120.0


@frozen
class Step:
    """A block of commands (``run``), a file (``ini``), an output (``text``), or a ``walk``."""

    kind: str
    text: str


def steps() -> Iterator[Step]:
    """Yield the steps of the tutorial in order."""
    for found in _STEP.finditer(TUTORIAL):
        if found["walk"]:
            yield Step("walk", found["walk"])
        elif found["kind"]:
            yield Step(found["kind"], dedent(found["shown"]).strip())
        else:
            yield Step("run", dedent(found["commands"]).strip())


@define(eq=False)
class Terminal:
    """A terminal: its environment, the program in the foreground, and all output."""

    directory: Path
    environment: dict[str, str]
    lasting: list[str] = field(factory=list)
    lines: list[str] = field(factory=list)
    _program: subprocess.Popen[str] | None = None
    _reader: threading.Thread | None = None
    _changed: threading.Condition = field(factory=threading.Condition)

    def start(self, commands: str) -> None:
        """Run commands; they need not end."""
        self.lines.clear()
        self._program = program = subprocess.Popen(
            # A background job of a shell ignores Ctrl-C, and so do its children by default.
            ["env", "--default-signal=INT", "bash", "-euc", "\n".join([*self.lasting, commands])],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lasting += [line for line in commands.splitlines() if line.startswith(_LASTING)]
        self._reader = threading.Thread(target=self._read, args=(program,), daemon=True)
        self._reader.start()

    def _read(self, program: subprocess.Popen[str]) -> None:
        assert program.stdout is not None
        with program.stdout as output:
            for line in output:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()

    def end(self) -> int:
        """Return the status of the commands when they have ended."""
        assert self._program is not None
        assert self._reader is not None
        status = self._program.wait(_LIMIT_S * 5)
        self._reader.join(_LIMIT_S)
        return status

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait for the end of the program."""
        if self._program is not None and self._program.poll() is None:
            os.killpg(self._program.pid, signal.SIGINT)
            self.end()

    def shows(self, text: str) -> None:
        """Wait until a line contains *text*, in which … matches anything."""
        pattern = re.compile(".*".join(re.escape(part) for part in text.split("…")))
        with self._changed:
            found = self._changed.wait_for(
                lambda: any(pattern.search(line) for line in self.lines), _LIMIT_S
            )
        assert found, f"no line has {text!r}:\n" + "\n".join(self.lines)


@define(eq=False)
class Walk:
    """Follows the tutorial."""

    home: Path
    terminals: dict[str, Terminal]
    ports: dict[str, str]
    _now: str = "client"
    _look: str = "client"

    @classmethod
    def begin(cls, home: Path, tree: Path) -> Walk:
        """Begin in the directory *tree* with the home directory *home*."""
        ports = {port: str(free_port()) for port in _PORTS}
        environment = clean_environment() | {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PIP_QUIET": "1",
            "PYTHONUNBUFFERED": "1",
            "GHMIRROR_SERVER_LISTEN": f"tcp:{ports['8080']}",
            "GHMIRROR_SERVER_ADMIN_LISTEN": f"tcp:{ports['8081']}:interface=127.0.0.1",
        }
        names = ("github", "mirror", "client")
        return cls(home, {name: Terminal(tree, environment) for name in names}, ports)

    def take(self, step: Step) -> None:
        """Follow one step."""
        if step.kind == "walk":
            self._walk(*step.text.rsplit(" ", 1))
            return
        text = re.sub("|".join(_PORTS), lambda found: self.ports[found[0]], step.text)
        text = text.replace("/home/you", str(self.home))
        if step.kind == "ini":
            (self.home / "ghmirror.ini").write_text(f"{text}\n")
        elif step.kind == "text":
            for line in text.splitlines():
                self.terminals[self._look].shows(line)
            self._look = self._now = "client"
        else:
            self._run(text)

    def _run(self, commands: str) -> None:
        terminal = self.terminals[self._now]
        self._look = self._now
        terminal.start(commands)
        if self._now == "client":
            assert terminal.end() == 0, "\n".join(terminal.lines)
            # The environment of the installation is that of the stand-in's terminal, too.
            self.terminals["github"].lasting[:] = terminal.lasting
        elif "fakes.github" in commands:
            terminal.shows("http://")
            self._now = "client"

    def _walk(self, what: str, name: str) -> None:
        self._look = name
        if what == "stop":
            self.terminals[name].interrupt()
        elif what == "in":
            self._now = name
        else:
            assert what == "look at"


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    """A walk that ends its programs."""
    home, tree = tmp_path / "home", tmp_path / "a clone"
    home.mkdir()
    shutil.copytree(ROOT, tree, ignore=IGNORED)
    made = Walk.begin(home, tree)
    try:
        yield made
    finally:
        for terminal in made.terminals.values():
            terminal.interrupt()


def test_tutorial_can_be_walked(walk: Walk) -> None:
    """Each command works, and each output appears."""
    kinds = [step.kind for step in steps()]
    assert kinds.count("run") == len(re.findall(r"^(?!\.\. ).*::$", TUTORIAL, re.MULTILINE))
    assert kinds.count("ini") + kinds.count("text") == TUTORIAL.count(".. code-block::")
    for step in steps():
        walk.take(step)
