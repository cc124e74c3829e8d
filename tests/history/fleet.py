"""Replicas in processes of their own, and the Redis servers that they share."""

from __future__ import annotations

import asyncio
import mmap
import struct
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from attrs import define, field

from tests.harness.redis_servers import RedisServer, free_port
from tests.harness.redis_sets import SERVICE, ClusterSet, SentinelSet
from tests.harness.running import ROOT, BlockingMirror, MirrorError, Sections
from tests.history.relay import Relay

#: How Redis is set up: one server, the same with snapshots or with `fresh_for`, a primary with a
#: reader that may lag, a primary under Sentinels, a cluster.
SHAPES: Final = ("single", "snapshots", "fresh", "reader", "sentinels", "cluster")
#: The mirrors' `[cache] fresh_for` in the shape of that name, in seconds.
FRESH_FOR_S: Final = 1.0
_OFFSET: Final = struct.Struct("d")
#: For so long before its end a replica gets no new requests, in seconds.
_DRAINS_S: Final = 0.3


@define(eq=False)
class Replica:
    """One mirror; *is_up*: whether clients send requests to it."""

    name: str
    sections: dict[str, dict[str, object]]
    directory: Path
    relay: Relay | None = None
    port: int = field(factory=free_port)
    is_up: bool = False
    _mirror: BlockingMirror | None = None
    _earlier_text: str = ""
    _clock: Any = None

    def __attrs_post_init__(self) -> None:
        path = self.directory / f"clock-{self.name}"
        path.write_bytes(_OFFSET.pack(0.0))
        with path.open("r+b") as file:
            self._clock = mmap.mmap(file.fileno(), _OFFSET.size)

    @property
    def clock_offset_s(self) -> float:
        """How far the replica's wall clock is ahead."""
        offset: float = _OFFSET.unpack_from(self._clock)[0]
        return offset

    @clock_offset_s.setter
    def clock_offset_s(self, offset: float) -> None:
        _OFFSET.pack_into(self._clock, 0, offset)

    @property
    def log_text(self) -> str:
        """The logs of all its processes."""
        now = "" if self._mirror is None else self._mirror.log_text
        return self._earlier_text + now

    async def start(self) -> None:
        """Start it; return when it listens."""
        for last in (False, False, True):
            try:
                await asyncio.to_thread(self._start)
            except MirrorError:
                if last:
                    raise
                self.port = free_port()
            else:
                break
        self.is_up = True

    def _start(self) -> None:
        self.sections["server"] = {
            "listen": f"tcp:{self.port}:interface=127.0.0.1",
            "shutdown_grace": "5s",
        }
        more = {
            "PYTHONPATH": f"{Path(__file__).parent / 'clock'}:{ROOT}",
            "HISTORY_CLOCK": str(self.directory / f"clock-{self.name}"),
        }
        self._mirror = BlockingMirror(self.sections, environment=more)
        try:
            self._mirror.ready()
        except BaseException:
            self._mirror.kill()
            raise

    async def kill(self) -> None:
        """End it with SIGKILL."""
        self.is_up = False
        if self._mirror is not None:
            await asyncio.to_thread(self._mirror.kill)
            self._keep_log()

    async def stop(self) -> None:
        """End it as an operator does: no new requests, then SIGTERM.

        A connection that closes just when a request is sent over it would lose the request.
        """
        self.is_up = False
        await asyncio.sleep(_DRAINS_S)
        if self._mirror is not None:
            await asyncio.to_thread(self._mirror.stop)
            self._keep_log()

    def _keep_log(self) -> None:
        assert self._mirror is not None
        self._earlier_text += self._mirror.log_text
        self._mirror = None


@define(eq=False)
class Fleet:
    """All replicas, and what they share; *server* is the Redis of the shapes with one.

    *reader* is its replica, if there is one, which receives all through *replication*.
    """

    shape: str
    replicas: list[Replica] = field(factory=list)
    relays: list[Relay] = field(factory=list)
    server: RedisServer | None = None
    reader: RedisServer | None = None
    replication: Relay | None = None
    sentinels: SentinelSet | None = None
    cluster: ClusterSet | None = None

    @property
    def up(self) -> list[Replica]:
        """The replicas that clients send requests to."""
        return [replica for replica in self.replicas if replica.is_up]

    @property
    def one_server(self) -> RedisServer:
        """The one Redis server."""
        assert self.server is not None
        return self.server


def _sections(shape: str, api_url: str, more: Sections) -> dict[str, dict[str, object]]:
    sections: dict[str, dict[str, object]] = {
        "github": {
            "api_url": api_url,
            "timeout": "2s",
            "stale_after": "500ms",
            "idle_timeout": "1s",
            "points_per_minute": 0,
        },
        "cache": {
            "backend": "redis",
            "credential_secret": "a secret of 32 characters or more",
            "collapse_wait": "2s",
        },
        "redis": {},
        "log": {"access": "none"},
    }
    for name, values in more.items():
        sections[name] = {**sections.get(name, {}), **values}
    return sections


@asynccontextmanager
async def open_fleet(
    shape: str, api_url: str, replicas: int, more: Sections | None = None
) -> AsyncIterator[Fleet]:
    """Start Redis and the replicas; all of it is removed afterwards."""
    fleet = Fleet(shape)
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="history-")))
        options = await _open_redis(fleet, stack)
        if shape == "snapshots":
            (directory / "snapshots").mkdir()
            more = {
                **(more or {}),
                "snapshot": {"target": f"file://{directory}/snapshots", "interval": "2s"},
            }
        if shape == "fresh":
            more = {**(more or {}), "cache": {"fresh_for": f"{FRESH_FOR_S:g}s"}}
        for number in range(replicas):
            relay = None
            sections = _sections(shape, api_url, more or {})
            sections["redis"].update(options)
            if fleet.server is not None:
                relay = Relay(fleet.server.address)
                await relay.open()
                stack.push_async_callback(relay.close)
                fleet.relays.append(relay)
                sections["redis"]["url"] = f"redis://127.0.0.1:{relay.port}/0"
            fleet.replicas.append(Replica("ABCDEFGH"[number], sections, directory, relay))
        for replica in fleet.replicas:
            stack.push_async_callback(replica.kill)
        await asyncio.gather(*(replica.start() for replica in fleet.replicas))
        yield fleet


async def _open_redis(fleet: Fleet, stack: AsyncExitStack) -> dict[str, object]:
    """Start the servers; return the options of `[redis]`."""
    match fleet.shape:
        case "sentinels":
            fleet.sentinels = SentinelSet(replicas=1)
            stack.callback(fleet.sentinels.remove)
            await asyncio.to_thread(fleet.sentinels.set_up)
            places = [f"{host}:{port}" for host, port in fleet.sentinels.places]
            return {"url": f"redis://{SERVICE}/0", "sentinels": places}
        case "cluster":
            fleet.cluster = ClusterSet(shards=3, replicas=0)
            stack.callback(fleet.cluster.remove)
            await asyncio.to_thread(fleet.cluster.set_up)
            host, port = fleet.cluster.servers[0].address
            return {"url": f"redis://{host}:{port}/0", "cluster": "yes"}
        case _:
            fleet.server = await asyncio.to_thread(RedisServer)
            stack.callback(fleet.server.remove)
            return await _open_reader(fleet, stack) if fleet.shape == "reader" else {}


async def _open_reader(fleet: Fleet, stack: AsyncExitStack) -> dict[str, object]:
    """Start a replica of the server; return its options of `[redis]`."""
    relay = fleet.replication = Relay(fleet.one_server.address)
    await relay.open()
    stack.push_async_callback(relay.close)
    reader = fleet.reader = await asyncio.to_thread(RedisServer)
    stack.callback(reader.remove)
    await asyncio.to_thread(reader.send, "REPLICAOF", "127.0.0.1", relay.port)
    host, port = reader.address
    return {"reader_url": f"redis://{host}:{port}/0"}
