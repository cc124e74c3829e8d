"""A proxy between one replica and Redis, with the faults of networks."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from attrs import define, field


@define(eq=False)
class Relay:
    """Forwards to *target*. *delay_s*: the delay of replies.

    `cut` closes all connections and every new one; `hold` buffers the data until `pass_on`.
    """

    target: tuple[str, int]
    delay_s: float = 0.0
    port: int = 0
    _cut: bool = False
    _passes: asyncio.Event = field(factory=asyncio.Event)
    _server: Any = None
    _writers: set[asyncio.StreamWriter] = field(factory=set)
    _accepted: set[asyncio.Task[None]] = field(factory=set)

    async def open(self) -> None:
        """Begin to listen."""
        self._passes.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Close all connections, and each new one."""
        self._cut = True
        self.drop()

    def hold(self) -> None:
        """Forward nothing, in either direction."""
        self._passes.clear()

    def pass_on(self) -> None:
        """End what `cut`, `hold` and *delay_s* do."""
        self._cut, self.delay_s = False, 0.0
        self._passes.set()

    def drop(self) -> None:
        """Close the connections that are open."""
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        """Stop, and return when all connections are closed."""
        self._server.close()
        self.cut()
        self._passes.set()
        await asyncio.gather(*self._accepted, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._accepted.add(task)
        task.add_done_callback(self._accepted.discard)
        self._writers.add(writer)
        try:
            await self._passes.wait()
            if self._cut:
                return
            there, to_redis = await asyncio.open_connection(*self.target)
            self._writers.add(to_redis)
            try:
                await self._both(reader, to_redis, there, writer)
            finally:
                self._writers.discard(to_redis)
                to_redis.transport.abort()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _both(
        self,
        reader: asyncio.StreamReader,
        to_redis: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Pass on in both directions, until one of them ends."""
        directions = {
            asyncio.ensure_future(self._pump(reader, to_redis, is_reply=False)),
            asyncio.ensure_future(self._pump(there, writer, is_reply=True)),
        }
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in directions:
                each.cancel()
            await asyncio.gather(*directions, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if is_reply and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._passes.wait()
                writer.write(data)
                await writer.drain()
