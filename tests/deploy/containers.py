"""The mirror's image while it runs, with GitHub's stand-in outside of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from typing import Any

from attrs import frozen

from tests.deploy.engine import NETWORK, Engine
from tests.harness.running import ROOT

_PATIENCE_S = 300.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

PATH = "/repos/bench/repo-0"


class NeverError(Exception):
    """A state was not reached in time."""


def wait_for(state: str, is_reached: Any) -> None:
    """Return as soon as a function returns something true."""
    end = time.monotonic() + _PATIENCE_S
    while not is_reached():
        if time.monotonic() > end:
            raise NeverError(state)
        time.sleep(0.1)


def get(url: str) -> tuple[int, Message[str, str], bytes]:
    """Send a GET without a proxy; return status, header fields and content."""
    request = urllib.request.Request(url, headers={"Authorization": "token token0"})
    try:
        with _OPENER.open(request, timeout=_PATIENCE_S) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@contextlib.contextmanager
def github(engine: Engine) -> Iterator[str]:
    """Run GitHub's stand-in where containers reach it; yield its URL."""
    command = ["-m", "tests.fakes.github", "--users=1", "--resources=1"]
    with subprocess.Popen(
        [sys.executable, *command, f"--interface={engine.gateway}"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@frozen
class Container:
    """A container of an engine."""

    engine: Engine
    identifier: str

    def inspect(self) -> Any:
        """Return what the engine knows of it."""
        (found,) = json.loads(self.engine.docker("container", "inspect", self.identifier))
        return found

    @property
    def pid(self) -> int:
        """Its process 1, by its number outside."""
        pid: int = self.inspect()["State"]["Pid"]
        return pid

    def url(self, port: int) -> str:
        """Return the URL at which one of its ports is published."""
        (published,) = self.inspect()["NetworkSettings"]["Ports"][f"{port}/tcp"]
        return f"http://127.0.0.1:{published['HostPort']}"

    @property
    def health(self) -> str:
        """The state of its health check."""
        health: str = self.inspect()["State"]["Health"]["Status"]
        return health

    def run(self, *command: str, options: tuple[str, ...] = ()) -> str:
        """Run a program in it."""
        return self.engine.docker("exec", *options, self.identifier, *command)

    def logs(self) -> tuple[str, str]:
        """Return its output on stdout and stderr."""
        ended = subprocess.run(
            ["docker", "logs", self.identifier],
            env=self.engine.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return ended.stdout, ended.stderr


@contextlib.contextmanager
def mirror(engine: Engine, image: str) -> Iterator[Container]:
    """Run the image as documented, with GitHub's stand-in; yield it when it is healthy."""
    with github(engine) as url:
        identifier = engine.docker(
            *("run", "--detach", f"--network={NETWORK}", "--read-only", "--tmpfs=/tmp"),
            *("--cap-drop=ALL", "--security-opt=no-new-privileges:true"),
            *("--publish=127.0.0.1::8080", "--publish=127.0.0.1::8081"),
            *("--health-interval=1s", "--env=GHMIRROR_SERVER_ADMIN_LISTEN=tcp:8081"),
            *(f"--env=GHMIRROR_GITHUB_API_URL={url}", "--env=GHMIRROR_GITHUB_STATUS_URL="),
            image,
        )
        container = Container(engine, identifier)
        try:
            wait_for("healthy", lambda: container.health == "healthy")
            yield container
        finally:
            engine.docker("rm", "--force", "--volumes", identifier)
