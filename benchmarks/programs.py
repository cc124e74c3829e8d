"""Server programs, each in a process group and a directory of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

_START_S: Final = 60.0
_END_S: Final = 10.0
_POLL_S: Final = 0.02
_PATH: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
"""Debian installs servers in directories that are not in the PATH of each user."""

_NGINX: Final = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
client_body_temp_path {folder}/body;
proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/fastcgi;
scgi_temp_path {folder}/scgi;
uwsgi_temp_path {folder}/uwsgi;
server_tokens off;
keepalive_requests 1000000000;
{http}
}}
"""


def nginx(folder: Path, http: str) -> list[str]:
    """Write the configuration of an nginx with one worker; return the command."""
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, http=http))
    return ["nginx", "-c", str(config)]


def find(name: str) -> str:
    """Return the path of a program; exit if it is missing."""
    path = shutil.which(name, path=_PATH)
    if path is None:
        raise SystemExit(f"{name} is not installed; make bench installs it")
    return path


class Program:
    """A program that listens on *port* of the loopback interface; it runs inside a ``with``."""

    name: str
    port: int

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
        self.folder.chmod(0o755)  # it may change its user
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """Write the configuration into the folder; return the command."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            command = self.command()
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [find(command[0]), *command[1:]],
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._ready(self._process)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._end()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_S
        while process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                time.sleep(_POLL_S)
            else:
                return
        raise SystemExit(f"{self.name} does not listen:\n{self._log.read_text()}")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
