"""What benchmarks need beside the mirror: GitHub's stand-in as a process, and a client for load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, Self
from urllib.parse import urlsplit

from attrs import define, field

from tests.harness.running import ROOT, environment

Question = tuple[str, str]
"""A target, and the token of who asks for it."""

_ANSWER_S = 60.0
"""Who waits longer for an answer than this is not answered at all."""


def end_in_order() -> None:
    """Let SIGTERM do what Ctrl-C does, so that all that was started is ended on the way out.

    Ctrl-C does it, too, where whoever started us had it ignored.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)


def start_first(pid: int) -> None:
    """Let a process run before others, as if it had a machine of its own; if we may (root)."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, -15)


class StandIn:
    """GitHub's stand-in in a process of its own; it runs inside a ``with``."""

    def __init__(self, **options: object) -> None:
        command = [sys.executable, "-m", "tests.fakes.github"]
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

    def control(self, name: str, **given: object) -> Any:
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

    *late*: by how much a client on a schedule was itself behind it when it asked. *answered*: when
    each of its questions was due and how long it took, by its number; moments of `time.monotonic`.
    """

    statuses: Counter[int | str] = field(factory=Counter)
    outcomes: Counter[str] = field(factory=Counter)
    seconds: list[float] = field(factory=list)
    late: list[float] = field(factory=list)
    answered: dict[int, tuple[float, float]] = field(factory=dict)

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
        if self._reader is not None and self._reader.at_eof():
            self.close()  # it was idle for too long
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


async def _ask(
    connection: Connection, target: str, token: str, tally: Tally, began: float
) -> float | None:
    """Ask, and note what came; return how long it took since *began*, if anything came."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            status, outcome = await connection.get(target, token)
    except (OSError, asyncio.IncompleteReadError) as error:
        connection.close()
        tally.statuses[type(error).__name__] += 1
        return None
    took = asyncio.get_running_loop().time() - began
    tally.seconds.append(took)
    tally.statuses[status] += 1
    tally.outcomes[outcome] += 1
    return took


async def poll(url: str, token: str, targets: Iterable[str], tally: Tally) -> None:
    """Ask a mirror for targets, one after the other, as a client with one connection does."""
    clock = asyncio.get_running_loop().time
    with contextlib.closing(Connection(url)) as connection:
        for target in targets:
            await _ask(connection, target, token, tally, clock())


async def poll_all(url: str, questions: Iterable[Question], clients: int, tally: Tally) -> None:
    """Ask a mirror *questions*, so many at a time."""
    clock = asyncio.get_running_loop().time
    left = iter(questions)

    async def send() -> None:
        with contextlib.closing(Connection(url)) as connection:
            for target, token in left:
                await _ask(connection, target, token, tally, clock())

    await asyncio.gather(*(send() for _ in range(clients)))


async def keep_up(url: str, questions: Iterable[Question], rate: float, tally: Tally) -> None:
    """Ask *questions* (target, token), *rate* a second, whether or not others are answered.

    A question takes a connection that is idle, or a new one. Its time counts from when it was
    due, so that nothing that holds up the next one is left out.
    """
    clock = asyncio.get_running_loop().time
    idle: list[Connection] = []
    asked: list[asyncio.Future[None]] = []

    async def send(number: int, target: str, token: str, due: float) -> None:
        connection = idle.pop() if idle else Connection(url)
        tally.late.append(clock() - due)
        took = await _ask(connection, target, token, tally, due)
        if took is not None:
            tally.answered[number] = (due, took)
        idle.append(connection)

    start = clock()
    for number, (target, token) in enumerate(questions):
        due = start + number / rate
        if (left_s := due - clock()) > 0:
            await asyncio.sleep(left_s)
        asked.append(asyncio.ensure_future(send(number, target, token, due)))
    await asyncio.gather(*asked)
    for connection in idle:
        connection.close()


class Load:
    """Asks mirrors all the time, each the same, whatever else is done; runs inside a ``with``.

    A thread of its own asks *rate* questions a second of each of *urls*, as `keep_up` does;
    *questions* are given out for ever. Afterwards, and meanwhile, *tallies* tell what came of it.
    """

    def __init__(
        self, urls: Iterable[str], questions: Callable[[], Iterator[Question]], rate: float
    ) -> None:
        self.tallies = {url: Tally() for url in urls}
        self._questions = questions
        self._rate = rate
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        # whoever is interrupted waits for no answers
        self._thread.join(None if exception[0] is None else 1.0)

    def _until_stopped(self) -> Iterator[Question]:
        for question in self._questions():
            if self._stopped.is_set():
                return
            yield question

    async def _ask(self) -> None:
        asked = (
            keep_up(url, self._until_stopped(), self._rate, tally)
            for url, tally in self.tallies.items()
        )
        await asyncio.gather(*asked)
