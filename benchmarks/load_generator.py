"""Clients that send requests: one after another, so many at once, or at a fixed rate."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self
from urllib.parse import urlsplit

from attrs import define, field

Request = tuple[str, str]
"""A target and a token."""

_TIMEOUT_S = 60.0
"""A request without a response after this time has failed."""


@define
class Tally:
    """The results of a load: statuses, outcomes, and the duration of each request in seconds.

    *late*: the delay of the client itself against its schedule, for each request. *completed*: for
    each response, by the number of its request, when the request was due and how long it lasted;
    moments of `time.monotonic`.
    """

    statuses: Counter[int | str] = field(factory=Counter)
    outcomes: Counter[str] = field(factory=Counter)
    seconds: list[float] = field(factory=list)
    late: list[float] = field(factory=list)
    completed: dict[int, tuple[float, float]] = field(factory=dict)

    @property
    def failed(self) -> int:
        """The number of requests without a 200."""
        return sum(count for status, count in self.statuses.items() if status != 200)


@define
class Connection:
    """A persistent connection of a client to a mirror, which is reopened after it was closed."""

    url: str
    _reader: Any = None
    _writer: Any = None

    async def get(self, target: str, token: str) -> tuple[int, str]:
        """GET a target; return the status, and the outcome in ``Cache-Status``."""
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
        cache_status = fields.get("cache-status", "")
        return int(head[0].split()[1]), cache_status.rpartition("detail=")[2] or cache_status

    def close(self) -> None:
        """Close it."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def _send(
    connection: Connection, target: str, token: str, tally: Tally, began: float
) -> float | None:
    """Send a request and count the result; return the seconds since *began*, None on failure."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            status, outcome = await connection.get(target, token)
    except (OSError, asyncio.IncompleteReadError) as error:
        connection.close()
        tally.statuses[type(error).__name__] += 1
        return None
    seconds = asyncio.get_running_loop().time() - began
    tally.seconds.append(seconds)
    tally.statuses[status] += 1
    tally.outcomes[outcome] += 1
    return seconds


async def request_sequentially(url: str, token: str, targets: Iterable[str], tally: Tally) -> None:
    """Request targets one after another over one connection."""
    clock = asyncio.get_running_loop().time
    with contextlib.closing(Connection(url)) as connection:
        for target in targets:
            await _send(connection, target, token, tally, clock())


async def request_concurrently(
    url: str, requests: Iterable[Request], clients: int, tally: Tally
) -> None:
    """Send *requests* over so many connections, one at a time on each."""
    clock = asyncio.get_running_loop().time
    left = iter(requests)

    async def send() -> None:
        with contextlib.closing(Connection(url)) as connection:
            for target, token in left:
                await _send(connection, target, token, tally, clock())

    await asyncio.gather(*(send() for _ in range(clients)))


async def request_at_rate(url: str, requests: Iterable[Request], rate: float, tally: Tally) -> None:
    """Send *rate* requests a second, whether or not earlier ones have ended (an open loop).

    Each is sent over an idle connection, or a new one. Its duration counts from when it was due, so
    that a delay of the client is not omitted ("coordinated omission").
    """
    clock = asyncio.get_running_loop().time
    idle: list[Connection] = []
    sent: list[asyncio.Future[None]] = []

    async def send(number: int, target: str, token: str, due: float) -> None:
        connection = idle.pop() if idle else Connection(url)
        tally.late.append(clock() - due)
        seconds = await _send(connection, target, token, tally, due)
        if seconds is not None:
            tally.completed[number] = (due, seconds)
        idle.append(connection)

    start = clock()
    for number, (target, token) in enumerate(requests):
        due = start + number / rate
        if (left_s := due - clock()) > 0:
            await asyncio.sleep(left_s)
        sent.append(asyncio.ensure_future(send(number, target, token, due)))
    await asyncio.gather(*sent)
    for connection in idle:
        connection.close()


class Load:
    """Requests to several mirrors in the background, from a thread; it runs inside a ``with``.

    Each of *urls* receives the same *requests*, *rate* a second, as by `request_at_rate`.
    *tallies* has the results by URL, during the load and after it.
    """

    def __init__(
        self, urls: Iterable[str], requests: Callable[[], Iterator[Request]], rate: float
    ) -> None:
        self.tallies = {url: Tally() for url in urls}
        self._requests = requests
        self._rate = rate
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        # after an interrupt, outstanding responses are not awaited
        self._thread.join(None if exception[0] is None else 1.0)

    def _until_stopped(self) -> Iterator[Request]:
        for request in self._requests():
            if self._stopped.is_set():
                return
            yield request

    async def _run(self) -> None:
        loads = (
            request_at_rate(url, self._until_stopped(), self._rate, tally)
            for url, tally in self.tallies.items()
        )
        await asyncio.gather(*loads)
