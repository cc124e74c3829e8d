"""A TCP proxy in a process of its own that delays, truncates or withholds a server's replies.

with DelayingProxy(redis.address) as proxy:
    proxy.delay(0.2)    # from now on
    ...                 # connect to proxy.address
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys

from attrs import define, field

from benchmarks.controlled_process import ControlledProcess

_READ_BYTES = 1 << 16
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of a connection that is reset when it is closed."""


class DelayingProxy(ControlledProcess):
    """The proxy of the server at *target*; it runs inside a ``with``."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(sys.executable, "benchmarks.delaying_proxy", *map(str, target))
        self.address = ("127.0.0.1", int(self.read_line()))

    def delay(self, delay_s: float) -> None:
        """Delay replies; return when the delay is in effect."""
        self.send(f"delay {delay_s}")

    def hold(self, *, enabled: bool) -> None:
        """Accept connections and data but forward nothing; disabled, forward all that was held."""
        self.send(f"hold {enabled:d}")

    def reset_after(self, size_bytes: int) -> None:
        """Forward so many bytes of the next reply, then reset that connection."""
        self.send(f"reset_after {size_bytes}")


@define(eq=False)
class _Proxy:
    host: str
    port: int
    delay_s: float = 0.0
    reset_after: int | None = None
    flowing: asyncio.Event = field(factory=asyncio.Event)

    async def serve(self) -> None:
        """Serve until stdin ends."""
        self.flowing.set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._write_line(server.sockets[0].getsockname()[1])
        loop = asyncio.get_running_loop()
        commands = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        while line := await commands.readline():
            self._execute(*line.decode().split())
            self._write_line("done")
        server.close()

    def _execute(self, command: str, value: str) -> None:
        if command == "delay":
            self.delay_s = float(value)
        elif command == "reset_after":
            self.reset_after = int(value)
        elif int(value):
            self.flowing.clear()
        else:
            self.flowing.set()

    @staticmethod
    def _write_line(value: object) -> None:
        sys.stdout.write(f"{value}\n")
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
            tasks = (
                asyncio.ensure_future(self._forward(client, forth)),
                asyncio.ensure_future(self._receive(server, held)),
                asyncio.ensure_future(self._forward_late(held, back)),
            )
            # when one end closes its connection, the other one is closed, too
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(_READ_BYTES):
            await self.flowing.wait()
            sink.write(piece)

    async def _receive(
        self, source: asyncio.StreamReader, held: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        clock = asyncio.get_running_loop().time
        while piece := await source.read(_READ_BYTES):
            held.put_nowait((clock() + self.delay_s, piece))

    async def _forward_late(
        self, held: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter
    ) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, piece = await held.get()
            if (left_s := due - clock()) > 0:
                await asyncio.sleep(left_s)
            await self.flowing.wait()
            if self.reset_after is not None:
                sink.write(piece[: self.reset_after])
                self.reset_after = None
                connection: socket.socket = sink.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                sink.transport.abort()
                return
            sink.write(piece)


if __name__ == "__main__":
    asyncio.run(_Proxy(sys.argv[1], int(sys.argv[2])).serve())
