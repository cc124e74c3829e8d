"""A TCP proxy in a process of its own: a server's answers come late, in part, or not at all.

with Late(redis.address) as late:
    late.by(0.2)        # from now on
    ...                 # connect to late.address
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
from typing import Self

from attrs import define, field

from tests.harness.running import ROOT, environment

_READ_BYTES = 1 << 16
_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER for a connection that is reset when it is closed."""


class Late:
    """Stands before the server at *target*; it runs inside a ``with``."""

    def __init__(self, target: tuple[str, int]) -> None:
        host, port = target
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.late", host, str(port)],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = ("127.0.0.1", int(self._said()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def by(self, delay_s: float) -> None:
        """Have answers come so much later; returns when they do."""
        self._tell(f"by {delay_s}")

    def swallow(self, *, everything: bool) -> None:
        """Take connections and what is sent, and pass nothing on; or all that was held, again."""
        self._tell(f"swallow {everything:d}")

    def cut(self, after_bytes: int) -> None:
        """Let so many bytes of what comes back next through, then reset that connection."""
        self._tell(f"cut {after_bytes}")

    def _tell(self, order: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        self._said()

    def _said(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the proxy before Redis ended")
        return line


@define(eq=False)
class _Proxy:
    host: str
    port: int
    delay_s: float = 0.0
    cut_after: int | None = None
    flowing: asyncio.Event = field(factory=asyncio.Event)

    async def serve(self) -> None:
        """Serve until stdin ends."""
        self.flowing.set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._say(server.sockets[0].getsockname()[1])
        loop = asyncio.get_running_loop()
        orders = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        while line := await orders.readline():
            self._obey(*line.decode().split())
            self._say("done")
        server.close()

    def _obey(self, order: str, value: str) -> None:
        if order == "by":
            self.delay_s = float(value)
        elif order == "cut":
            self.cut_after = int(value)
        elif int(value):
            self.flowing.clear()
        else:
            self.flowing.set()

    @staticmethod
    def _say(what: object) -> None:
        sys.stdout.write(f"{what}\n")
        sys.stdout.flush()

    async def _connected(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        await self.flowing.wait()
        try:
            server, forth = await asyncio.open_connection(self.host, self.port)
        except OSError:
            back.close()
            return
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        with contextlib.closing(back), contextlib.closing(forth):
            ways = (
                asyncio.ensure_future(self._at_once(client, forth)),
                asyncio.ensure_future(self._hold(server, held)),
                asyncio.ensure_future(self._in_time(held, back)),
            )
            # whichever end goes first, the other one goes, too
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _at_once(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(_READ_BYTES):
            await self.flowing.wait()
            sink.write(piece)

    async def _hold(
        self, source: asyncio.StreamReader, held: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        clock = asyncio.get_running_loop().time
        while piece := await source.read(_READ_BYTES):
            held.put_nowait((clock() + self.delay_s, piece))

    async def _in_time(
        self, held: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter
    ) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, piece = await held.get()
            if (left_s := due - clock()) > 0:
                await asyncio.sleep(left_s)
            await self.flowing.wait()
            if self.cut_after is not None:
                sink.write(piece[: self.cut_after])
                self.cut_after = None
                connection: socket.socket = sink.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                sink.transport.abort()
                return
            sink.write(piece)


if __name__ == "__main__":
    asyncio.run(_Proxy(sys.argv[1], int(sys.argv[2])).serve())
