"""What benchmarks need beside the mirror: GitHub's stand-in as a process, and a client for load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterable
from typing import Any, Self
from urllib.parse import urlsplit

from attrs import define, field

from tests.running import ROOT, environment


class StandIn:
    """GitHub's stand-in in a process of its own; it runs inside a ``with``."""

    def __init__(self, **options: object) -> None:
        command = [sys.executable, "-m", "tests.github"]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise SystemExit("GitHub's stand-in did not start")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, name: str, **given: object) -> Any:
        """Have it do something; see ``GitHub._control``."""
        request = urllib.request.Request(
            f"{self.url}/_control/{name}",
            json.dumps(given).encode(),
            {"Content-Type": "application/json", "User-Agent": "benchmark"},
            method="POST",
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def counts(self) -> dict[str, Any]:
        """Return what it has counted since the last ``reset_counts``."""
        request = urllib.request.Request(
            f"{self.url}/_control/counts", headers={"User-Agent": "benchmark"}
        )
        with urllib.request.urlopen(request) as response:
            counted: dict[str, Any] = json.load(response)
            return counted


@define
class Tally:
    """What came of a load: statuses, outcomes, and how long each answer took (seconds).

    *late*: by how much a client on a schedule was itself behind it when it asked.
    """

    statuses: Counter[int | str] = field(factory=Counter)
    outcomes: Counter[str] = field(factory=Counter)
    seconds: list[float] = field(factory=list)
    late: list[float] = field(factory=list)

    @property
    def failed(self) -> int:
        """How many requests did not get a 200."""
        return sum(count for status, count in self.statuses.items() if status != 200)


@define
class Connection:
    """One connection of a client to a mirror, kept alive; made anew when it is closed."""

    url: str
    _reader: Any = None
    _writer: Any = None

    async def get(self, target: str, token: str) -> tuple[int, str]:
        """GET a target; return the status, and the outcome that the answer tells of itself."""
        parts = urlsplit(self.url)
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                parts.hostname, parts.port, limit=1 << 20
            )
        self._writer.write(
            f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: benchmark\r\n"
            f"Accept-Encoding: gzip\r\nAuthorization: token {token}\r\n\r\n".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        if fields.get("transfer-encoding") == "chunked":
            while size := int(await self._reader.readline(), 16):
                await self._reader.readexactly(size + 2)
            await self._reader.readline()
        else:
            await self._reader.readexactly(int(fields.get("content-length", 0)))
        if fields.get("connection") == "close":
            self.close()
        said = fields.get("cache-status", "")
        return int(head[0].split()[1]), said.rpartition("detail=")[2] or said

    def close(self) -> None:
        """Close it."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def _ask(connection: Connection, target: str, token: str, tally: Tally, began: float) -> None:
    """Ask, and note what came and how long it took since *began*."""
    try:
        status, outcome = await connection.get(target, token)
    except (OSError, asyncio.IncompleteReadError) as error:
        connection.close()
        tally.statuses[type(error).__name__] += 1
        return
    tally.seconds.append(asyncio.get_running_loop().time() - began)
    tally.statuses[status] += 1
    tally.outcomes[outcome] += 1


async def poll(url: str, token: str, targets: Iterable[str], tally: Tally) -> None:
    """Ask a mirror for targets, one after the other, as a client with one connection does."""
    clock = asyncio.get_running_loop().time
    with contextlib.closing(Connection(url)) as connection:
        for target in targets:
            await _ask(connection, target, token, tally, clock())


async def keep_up(
    url: str, questions: Iterable[tuple[str, str]], rate: float, tally: Tally
) -> None:
    """Ask *questions* (target, token), *rate* a second, whether or not others are answered.

    A question takes a connection that is idle, or a new one. Its time counts from when it was
    due, so that nothing that holds up the next one is left out.
    """
    clock = asyncio.get_running_loop().time
    idle: list[Connection] = []
    asked: list[asyncio.Future[None]] = []

    async def ask(target: str, token: str, due: float) -> None:
        connection = idle.pop() if idle else Connection(url)
        tally.late.append(clock() - due)
        await _ask(connection, target, token, tally, due)
        idle.append(connection)

    start = clock()
    for number, (target, token) in enumerate(questions):
        due = start + number / rate
        if (left_s := due - clock()) > 0:
            await asyncio.sleep(left_s)
        asked.append(asyncio.ensure_future(ask(target, token, due)))
    await asyncio.gather(*asked)
    for connection in idle:
        connection.close()
