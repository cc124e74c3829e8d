"""A real mirror: ``twistd`` in a process of its own, configured by a dict, stopped in any case.

In a test on the reactor::

    mirror = await start_mirror(self, {"github": {"api_url": github.api_url}})
    response = await treq.get(f"{mirror.url}/user")
    assert await mirror.stop() == STOPPED

In blocking code, such as a benchmark::

    with BlockingMirror({"github": {"api_url": url}}) as mirror:
        urllib.request.urlopen(f"{mirror.url}/user")
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Self, cast

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = Path(os.environ.get("MIRROR_PYTHON") or sys.executable)
"""The Python that mirrors run on: this one, or another one with the mirror installed."""

TWISTD = PYTHON.with_name("twistd")

Sections = Mapping[str, Mapping[str, object]]
"""Options by section; lists have one entry a line, booleans are yes and no."""

DEFAULTS: Sections = {
    "server": {
        "listen": "tcp:0:interface=127.0.0.1",
        "admin_listen": "tcp:port=0:interface=127.0.0.1",
        "shutdown_grace": "5s",
    },
    "github": {"api_url": "http://127.0.0.1:1", "status_url": ""},
}
"""The default settings of a mirror in tests: no connection leaves the machine."""

STOPPED = 0
"""The status of a mirror that has ended in peace."""

_LISTENING = re.compile(r"(admin )?listening on ([a-z]+:[^\s\"',]+)")
_READY_S = 60.0
_STOP_S = 30.0


class MirrorError(Exception):
    """A mirror did not reach the expected state; the text has its log."""


def merged(sections: Sections) -> dict[str, dict[str, object]]:
    """Lay the options over the defaults of tests."""
    names = [*DEFAULTS, *(name for name in sections if name not in DEFAULTS)]
    return {name: {**DEFAULTS.get(name, {}), **sections.get(name, {})} for name in names}


def ini(sections: Sections) -> str:
    """Write options as an INI file."""
    lines = []
    for section, options in sections.items():
        lines.append(f"[{section}]")
        for name, value in options.items():
            lines.append(f"{name} = {_text(value)}".replace("\n", "\n    "))
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return "\n".join(str(entry) for entry in value)
        case _:
            return str(value)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a mirror: ours, without variables that would configure it."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GHMIRROR_") and not name.lower().endswith("_proxy")
    }
    return {**inherited, "PYTHONPATH": str(ROOT), **(more or {})}


@define(eq=False)
class _Output:
    """The output of a mirror by lines, and the addresses that it has logged."""

    lines: list[str] = field(factory=list)
    urls: list[str] = field(factory=list)
    admin_urls: list[str] = field(factory=list)
    _begun: dict[int, bytes] = field(factory=dict)

    def take(self, data: bytes, descriptor: int = 1) -> None:
        *lines, rest = (self._begun.get(descriptor, b"") + data).split(b"\n")
        self._begun[descriptor] = rest
        for line in lines:
            self._add(line)

    def end(self) -> None:
        for rest in filter(None, self._begun.values()):
            self._add(rest)
        self._begun.clear()

    def _add(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        self.lines.append(text)
        for admin, where in _LISTENING.findall(text):
            (self.admin_urls if admin else self.urls).append(where)

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


@define(eq=False)
class _Prepared:
    """A directory with a configuration, and how to start a mirror with it."""

    sections: dict[str, dict[str, object]]
    directory: Path
    environment: dict[str, str]
    python: Path

    @classmethod
    def of(cls, sections: Sections, more: Mapping[str, str] | None, python: Path = PYTHON) -> Self:
        directory = Path(tempfile.mkdtemp(prefix="ghmirror-"))
        made = cls(merged(sections), directory, environment(more), python)
        made.configure()
        return made

    def configure(self) -> None:
        self.config.write_text(ini(self.sections))

    @property
    def config(self) -> Path:
        return self.directory / "ghmirror.ini"

    @property
    def command(self) -> list[str]:
        return [str(self.python.with_name("twistd")), *self.arguments]

    @property
    def arguments(self) -> list[str]:
        return ["--nodaemon", "--pidfile=", "ghmirror", "--config", str(self.config)]

    def is_ready(self, output: _Output) -> bool:
        """Whether the mirror has logged each of its endpoints."""
        server = self.sections["server"]
        listen, admin = (
            [line for line in _text(server[name]).split("\n") if line.strip()]
            for name in ("listen", "admin_listen")
        )
        return len(output.urls) >= len(listen) and len(output.admin_urls) >= len(admin)

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


class _Watching(ProcessProtocol):
    """Collects the output of a process, and notifies when a condition holds."""

    def __init__(self) -> None:
        self.output = _Output()
        self.status: int | None = None
        self._watchers: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.output.take(data, childFD)
        self._look()

    def processEnded(self, reason: Failure) -> None:
        ended = cast("Any", reason.value)
        self.status = -ended.signal if ended.signal else ended.exitCode
        self.output.end()
        self._look()

    def when(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fire when the condition holds, or when the process has ended."""
        done: Deferred[None] = Deferred()
        self._watchers.append((condition, done))
        self._look()
        return done

    def _look(self) -> None:
        watchers, self._watchers = self._watchers, []
        for condition, done in watchers:
            if done.called:
                continue
            if self.status is not None or condition():
                done.callback(None)
            else:
                self._watchers.append((condition, done))


def _end(process: IProcessTransport, watching: _Watching, prepared: _Prepared) -> None:
    """Remove everything, after any kind of end."""
    if watching.status is None:
        with contextlib.suppress(ProcessExitedAlready):
            process.signalProcess("KILL")
    prepared.remove()


class Mirror:
    """A mirror for tests on the reactor."""

    def __init__(self, sections: Sections, *, environment: Mapping[str, str] | None = None) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        self._reactor = cast("Any", reactor)
        self._prepared = _Prepared.of(sections, environment)
        self._watching = _Watching()
        command = self._prepared.command
        self._process: IProcessTransport = self._reactor.spawnProcess(
            self._watching,
            command[0],
            command,
            env=self._prepared.environment,
            path=str(self._prepared.directory),
            childFDs={0: "w", 1: "r", 2: "r"},
        )
        self._process.closeStdin()
        self._finalizer = weakref.finalize(
            self, _end, self._process, self._watching, self._prepared
        )

    @property
    def url(self) -> str:
        """Where the first endpoint of ``listen`` is, without a slash at its end."""
        return self._watching.output.urls[0]

    @property
    def urls(self) -> list[str]:
        return self._watching.output.urls

    @property
    def admin_url(self) -> str:
        return self._watching.output.admin_urls[0]

    @property
    def log_text(self) -> str:
        """Its output so far, on stdout and stderr."""
        return self._watching.output.text

    @property
    def directory(self) -> Path:
        """Its working directory, which is removed after the mirror."""
        return self._prepared.directory

    @property
    def config(self) -> Path:
        return self._prepared.config

    @property
    def pid(self) -> int:
        pid = cast("Any", self._process).pid
        assert isinstance(pid, int), "the mirror has ended"
        return pid

    @property
    def status(self) -> int | None:
        """Its exit status; ``-N`` if it died of signal N, None while it runs."""
        return self._watching.status

    async def ready(self, timeout_s: float = _READY_S) -> None:
        """Return when it listens everywhere; raise if it ends before."""
        output = self._watching.output
        await self._wait(lambda: self._prepared.is_ready(output), "listens", timeout_s)

    async def logged(self, pattern: str, timeout_s: float = _READY_S) -> str:
        """Return the first line that matches a regular expression, when there is one."""
        lines = self._watching.output.lines
        wanted = re.compile(pattern)
        await self._wait(lambda: any(map(wanted.search, lines)), f"log has {pattern!r}", timeout_s)
        return next(line for line in lines if wanted.search(line))

    async def ended(self, timeout_s: float = _STOP_S) -> int:
        """Return its exit status when it has ended by itself."""
        done = self._watching.when(lambda: False)
        await self._in_time(done, "ends", timeout_s)
        assert self.status is not None
        return self.status

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.signalProcess(number)

    async def stop(self, timeout_s: float = _STOP_S) -> int:
        """End it as an operator does, and return its exit status; may be called again."""
        try:
            if self.status is None:
                self.signal(signal.SIGTERM)
            return await self.ended(timeout_s)
        finally:
            await self.kill()

    async def kill(self) -> None:
        """End it at once, if it still runs."""
        if self.status is None:
            self.signal(signal.SIGKILL)
            await self._watching.when(lambda: False)
        self._finalizer()

    async def _wait(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        await self._in_time(self._watching.when(condition), what, timeout_s)
        if not condition():
            raise MirrorError(f"ended with {self.status} before it {what}:\n{self.log_text}")

    async def _in_time(self, done: Deferred[None], what: str, timeout_s: float) -> None:
        def late(_result: object, timeout: float) -> None:
            raise MirrorError(f"not within {timeout} s: it {what}:\n{self.log_text}")

        await done.addTimeout(timeout_s, self._reactor, onTimeoutCancel=late)


async def start_mirror(
    test: TestCase, sections: Sections, *, environment: Mapping[str, str] | None = None
) -> Mirror:
    """Start a mirror that listens; it ends with the test."""
    mirror = Mirror(sections, environment=environment)
    test.addCleanup(lambda: Deferred.fromCoroutine(mirror.kill()))
    await mirror.ready()
    return mirror


class BlockingMirror:
    """A mirror for code without a reactor; it runs inside a ``with``."""

    def __init__(
        self,
        sections: Sections,
        *,
        environment: Mapping[str, str] | None = None,
        python: Path = PYTHON,
    ) -> None:
        self._prepared = _Prepared.of(sections, environment, python)
        self._output = _Output()
        self._change = threading.Condition()
        self._silent = False
        self._process = subprocess.Popen(
            self._prepared.command,
            cwd=self._prepared.directory,
            env=self._prepared.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        stream = cast("IO[bytes]", self._process.stdout)
        self._reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        try:
            self.ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        try:
            self.stop()
        finally:
            self.kill()

    @property
    def url(self) -> str:
        """Where the first endpoint of ``listen`` is, without a slash at its end."""
        return self._output.urls[0]

    @property
    def admin_url(self) -> str:
        return self._output.admin_urls[0]

    @property
    def log_text(self) -> str:
        with self._change:
            return self._output.text

    @property
    def directory(self) -> Path:
        return self._prepared.directory

    @property
    def pid(self) -> int:
        return self._process.pid

    def ready(self, timeout_s: float = _READY_S) -> None:
        """Return when it listens on all endpoints; raise if it ends before, or is too slow."""
        with self._change:
            self._change.wait_for(
                lambda: self._prepared.is_ready(self._output) or self._silent,
                timeout_s,
            )
            if not self._prepared.is_ready(self._output):
                raise MirrorError(f"the mirror does not listen:\n{self._output.text}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self, timeout_s: float = _STOP_S) -> int:
        """End it as an operator does, and return its exit status; may be called again."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise MirrorError(f"it did not end:\n{self.log_text}") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._prepared.remove()

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while data := os.read(stream.fileno(), 65536):
                with self._change:
                    self._output.take(data)
                    self._change.notify_all()
        with self._change:
            self._output.end()
            self._silent = True
            self._change.notify_all()
