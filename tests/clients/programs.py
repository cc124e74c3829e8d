"""Programs that are clients, or origins: how they are found and run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue

from tests.harness.running import ROOT, environment

HERE = Path(__file__).resolve().parent
NODE_MODULES = ROOT / "tests" / "node_modules"


def node(script: str, *packages: str) -> list[str]:
    """Return the command that runs a script of this folder; fail if a program is missing."""
    program = shutil.which("node")
    assert program is not None, "node is not installed (Debian package: nodejs); try `make test`"
    for package in packages:
        where = NODE_MODULES / package / "package.json"
        assert where.exists(), f"{package} is not installed; run `npm ci` in tests, or `make test`"
    return [program, str(HERE / script)]


async def json_output_of(command: list[str], more: Mapping[str, str] | None = None) -> Any:
    """Run a program on the reactor, and return the JSON value that it prints."""
    return json.loads(await output_of(command, more))


async def output_of(
    command: list[str], more: Mapping[str, str] | None = None, *, folder: Path = ROOT
) -> str:
    """Run a program on the reactor; it must exit with status 0. Return its standard output."""
    running = getProcessOutputAndValue(
        command[0], command[1:], env=environment(more), path=str(folder)
    )
    out, err, status = await cast("Deferred[tuple[bytes, bytes, int]]", running)
    assert status == 0, f"{command} ended with {status}:\n{(out + err).decode(errors='replace')}"
    return out.decode()
