"""A Docker engine of the tests' own: ``dockerd`` with its data and its socket in a new directory.

All workers of a run share one. Each holds a lock on the engine's directory as long as it lives;
``python -m tests.deploy.engine DIRECTORY`` keeps the engine, and stops it and removes all that it
has made as soon as no worker holds the lock, however the last one ended. The engine does
not configure the machine's packet filter and routing, except for one rule while it runs: another
engine may have filtered what passes between containers. Containers reach only each other and this
machine; builds use this machine's network.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest
from attrs import frozen

from tests.harness.running import ROOT

# Debian's own are first: another client may have the same name, and servers are in /usr/sbin.
PATH = f"/usr/bin:/usr/sbin:{os.environ.get('PATH', os.defpath)}"
NETWORK = "ghmirror"

# Packets between containers of one network; what is routed stays as it is.
_BRIDGED = ("FORWARD", "-m", "physdev", "--physdev-is-bridged", "-j", "ACCEPT")

# The process that this one has started for the engine; it ends later than this one.
_KEEPERS: list[subprocess.Popen[str]] = []

_READY_S = 120.0
_STOP_S = 60.0


class EngineError(Exception):
    """The engine did not start, or a command of its client failed; the text has the output."""


@contextlib.contextmanager
def locked(path: Path, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock on a file, which the kernel releases when this process ends."""
    with path.open("a") as file:
        fcntl.flock(file, kind)
        yield


@frozen
class Engine:
    """A running engine, as its clients see it; *directory* is shared by all workers."""

    directory: Path

    @property
    def host(self) -> str:
        """The value of ``DOCKER_HOST``."""
        return f"unix://{(self.directory / 'socket').readlink()}"

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of clients; the classic builder needs no plugin."""
        ours = {"PATH": PATH, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0"}
        return {**os.environ, **ours, **(more or {})}

    def run(self, *command: str, text: str | None = None) -> str:
        """Run a program with this engine, such as ``docker-compose``; return what it prints."""
        ended = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment(),
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            output = f"{ended.stdout}{ended.stderr}"
            raise EngineError(f"{' '.join(command)}: status {ended.returncode}\n{output}")
        return ended.stdout

    def docker(self, *arguments: str, text: str | None = None) -> str:
        """Run ``docker``; return what it prints, without the last line's end."""
        return self.run("docker", *arguments, text=text).rstrip("\n")

    @property
    def gateway(self) -> str:
        """This machine's address in the containers' network."""
        form = "{{range .IPAM.Config}}{{.Gateway}}{{end}}"
        return self.docker("network", "inspect", "--format", form, NETWORK)


@cache
def shared(directory: Path) -> Engine | str:
    """Return the engine of a run, started if necessary; text: why there can't be one here."""
    if os.geteuid():
        return "not root"
    for program in ("dockerd", "docker", "docker-compose", "iptables", "mmdebstrap"):
        if not shutil.which(program, path=PATH):
            return f"{program} is not installed"
    directory.mkdir(exist_ok=True)
    with locked(directory / "start.lock"):
        # Until this process ends.
        fcntl.flock(os.open(directory / "users.lock", os.O_CREAT | os.O_RDWR), fcntl.LOCK_SH)
        engine = Engine(directory)
        if not _is_ready(engine) and (error := _start(directory)):
            return error
        return engine


def report_missing(test: str, obstacle: str) -> NoReturn:
    """Skip a test that needs an engine, by its name; in CI it fails."""
    text = f"NOT RUN: {test}: no Docker engine: {obstacle}"
    if os.environ.get("CI"):
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def _is_ready(engine: Engine) -> bool:
    if not (engine.directory / "socket").is_symlink():
        return False
    with contextlib.suppress(EngineError):
        engine.docker("version")
        return True
    return False


def _start(directory: Path) -> str:
    """Start the process of the engine; return its first line if that is an error."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.deploy.engine", str(directory)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    _KEEPERS.append(process)
    assert process.stdout is not None
    with process.stdout:
        line = process.stdout.readline().strip()
    return "" if line == "ready" else line or "dockerd did not start"


def keep(directory: Path) -> None:
    """Run an engine until no worker holds the lock."""
    own = Path(tempfile.mkdtemp(prefix="ghmirror-engine-"))
    socket = own / "docker.sock"
    link = directory / "socket"
    link.unlink(missing_ok=True)
    link.symlink_to(socket)
    try:
        with (own / "log").open("w") as log:
            daemon = subprocess.Popen(_command(own), env=_of_daemon(), stdout=log, stderr=log)
            engine = Engine(directory)
            try:
                _await(engine, daemon, own / "log")
                engine.docker("network", "create", NETWORK)
                engine.run("iptables", "-I", *_BRIDGED)
                try:
                    _print("ready")
                    with locked(directory / "users.lock"):
                        _remove_all(engine)
                finally:
                    engine.run("iptables", "-D", *_BRIDGED)
            finally:
                link.unlink()
                daemon.terminate()
                daemon.wait(_STOP_S)
    finally:
        # dockerd leaves the namespace of its host network mounted.
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if (mounted := line.split()[1]).startswith(f"{own}/"):
                subprocess.run(["umount", mounted], check=True)
        shutil.rmtree(own)


def _command(own: Path) -> list[str]:
    return [
        # An engine does not outlive its process.
        *("setpriv", "--pdeathsig", "TERM"),
        *("dockerd", "--host", f"unix://{own}/docker.sock", "--pidfile", f"{own}/pid"),
        *("--data-root", f"{own}/data", "--exec-root", f"{own}/exec"),
        *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
    ]


def _of_daemon() -> dict[str, str]:
    return {**os.environ, "PATH": PATH}


def _await(engine: Engine, daemon: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _READY_S
    while not _is_ready(engine):
        if daemon.poll() is not None or time.monotonic() > end:
            lines = log.read_text().splitlines() or [""]
            raise EngineError(f"dockerd did not start: {lines[-1]}")
        time.sleep(0.1)


def _remove_all(engine: Engine) -> None:
    """Remove containers and networks; a bridge would outlive the engine."""
    if containers := engine.docker("ps", "--all", "--quiet").split():
        engine.docker("rm", "--force", "--volumes", *containers)
    engine.docker("network", "prune", "--force")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        keep(Path(sys.argv[1]))
    except EngineError as error:
        _print(str(error).replace("\n", " "))
