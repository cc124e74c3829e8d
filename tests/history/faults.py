"""The faults of a fleet: of Redis, of replicas, of clocks and of GitHub, by name."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

from attrs import define

from tests.harness.redis_servers import RedisServer
from tests.harness.redis_sets import runs
from tests.history import github as simulated
from tests.history.fleet import SHAPES, Fleet, Replica


@define(eq=False)
class Fault:
    """One fault: *prepare* runs while all is well; *begin* and *end* are its edges.

    It lasts for about *hold_s* seconds.
    """

    name: ClassVar[str] = ""
    side: ClassVar[str] = "redis"
    shapes: ClassVar[tuple[str, ...]] = ("single", "snapshots", "fresh")
    hold_s: ClassVar[float] = 1.5

    fleet: Fleet
    github: simulated.GitHub
    rng: random.Random
    note: Callable[[str], None]

    async def prepare(self) -> None:
        """Get ready."""

    async def begin(self) -> None:
        """Inject the fault."""

    async def end(self) -> None:
        """End the fault."""

    async def settle(self) -> None:
        """Get ready for the next episode."""

    @property
    def killed(self) -> str | None:
        """The replica that is killed, and loses what is under way through it."""
        return None

    @property
    def alone(self) -> str | None:
        """The replica that alone cannot reach Redis; `*`: any may be."""
        return None


# ---------------------------------------------------------------- one Redis server


class RedisKilled(Fault):
    """It is killed, and starts empty."""

    name = "redis-killed"

    async def begin(self) -> None:
        await asyncio.to_thread(self.fleet.one_server.kill)

    async def end(self) -> None:
        await asyncio.to_thread(self.fleet.one_server.start)


class RedisOlderCopy(Fault):
    """It is killed, and starts with an older copy."""

    name = "redis-older-copy"
    hold_s = 1.0

    async def prepare(self) -> None:
        server = self.fleet.one_server
        await asyncio.to_thread(server.send, "SAVE")
        shutil.move(_dump(server), server.directory / "older.rdb")
        self.note("Redis: the older copy is made")

    async def begin(self) -> None:
        server = self.fleet.one_server
        await asyncio.to_thread(server.kill)
        shutil.move(server.directory / "older.rdb", _dump(server))
        if self.rng.random() < 0.5:
            await self._start()

    async def end(self) -> None:
        if _dump(self.fleet.one_server).exists():
            await self._start()

    async def _start(self) -> None:
        server = self.fleet.one_server
        await asyncio.to_thread(server.start)
        _dump(server).unlink()
        self.note("Redis: it runs with the older copy")


def _dump(server: RedisServer) -> Path:
    return server.directory / "dump.rdb"


class RedisPaused(Fault):
    """It is stopped (SIGSTOP), and continues."""

    name = "redis-paused"
    hold_s = 3.0

    async def begin(self) -> None:
        await asyncio.to_thread(self.fleet.one_server.pause)

    async def end(self) -> None:
        self.fleet.one_server.resume()


class RedisSlow(Fault):
    """Its replies are late."""

    name = "redis-slow"
    hold_s = 2.0
    alone = "*"  # each replica finds out by itself that replies come too late

    async def begin(self) -> None:
        for relay in self.fleet.relays:
            relay.delay_s = self.rng.choice((0.05, 0.15, 0.4))

    async def end(self) -> None:
        for relay in self.fleet.relays:
            relay.pass_on()


class RedisFlushed(Fault):
    """All its records are deleted."""

    name = "redis-flushed"
    hold_s = 1.0

    async def begin(self) -> None:
        await asyncio.to_thread(self.fleet.one_server.send, "FLUSHALL")


class RedisEvicts(Fault):
    """Random records are deleted."""

    name = "redis-evicts"
    hold_s = 1.5

    async def begin(self) -> None:
        await self._evict()

    async def end(self) -> None:
        await self._evict()

    async def _evict(self) -> None:
        server = self.fleet.one_server
        keys = sorted(await asyncio.to_thread(server.send, "KEYS", "*"))
        chosen = self.rng.sample(keys, len(keys) // 3)
        if chosen:
            await asyncio.to_thread(server.send, "UNLINK", *chosen)


class RedisFull(Fault):
    """It is out of memory, and refuses writes or evicts."""

    name = "redis-full"
    hold_s = 2.0

    async def begin(self) -> None:
        policy = self.rng.choice(("noeviction", "volatile-lru", "allkeys-random"))
        send = self.fleet.one_server.send
        await asyncio.to_thread(send, "CONFIG", "SET", "maxmemory-policy", policy)
        await asyncio.to_thread(send, "CONFIG", "SET", "maxmemory", "1200000")
        self.note(f"Redis: out of memory, {policy}")

    async def end(self) -> None:
        await asyncio.to_thread(self.fleet.one_server.send, "CONFIG", "SET", "maxmemory", "0")


@define(eq=False)
class Partition(Fault):
    """One replica cannot reach Redis."""

    name: ClassVar[str] = "partition"
    hold_s: ClassVar[float] = 2.5
    _replica: Replica | None = None

    async def prepare(self) -> None:
        self._replica = self.rng.choice(self.fleet.up)

    async def begin(self) -> None:
        assert self._replica is not None
        relay = self._replica.relay
        assert relay is not None
        if self.rng.random() < 0.5:
            relay.hold()
            self.note(f"{self._replica.name} is cut off from Redis in silence")
        else:
            relay.cut()
            self.note(f"{self._replica.name} is cut off from Redis")

    async def end(self) -> None:
        assert self._replica is not None
        assert self._replica.relay is not None
        self._replica.relay.pass_on()
        self.note(f"{self._replica.name} reaches Redis again")

    @property
    def alone(self) -> str | None:
        """The replica that is cut off."""
        return None if self._replica is None else self._replica.name


class CutOffKilled(Partition):
    """One replica cannot reach Redis, and is killed: what it alone received is lost."""

    name = "cut-off-killed"

    @property
    def killed(self) -> str | None:
        return self.alone

    async def end(self) -> None:
        assert self._replica is not None
        await self._replica.kill()
        self.note(f"{self._replica.name} is killed while it is cut off")
        await super().end()
        await self._replica.start()
        self.note(f"{self._replica.name} runs again")


# ---------------------------------------------------------------- a primary and a reader


class ReaderLags(Fault):
    """The reader receives nothing from the primary, and responds with what it has."""

    name = "reader-lags"
    shapes = ("reader",)
    hold_s = 3.0

    async def begin(self) -> None:
        assert self.fleet.replication is not None
        self.fleet.replication.hold()

    async def end(self) -> None:
        assert self.fleet.replication is not None
        self.fleet.replication.pass_on()


class ReaderPaused(Fault):
    """The reader is stopped (SIGSTOP), and continues with its old data."""

    name = "reader-paused"
    shapes = ("reader",)
    hold_s = 2.0

    async def begin(self) -> None:
        assert self.fleet.reader is not None
        await asyncio.to_thread(self.fleet.reader.pause)

    async def end(self) -> None:
        assert self.fleet.reader is not None
        self.fleet.reader.resume()


# ---------------------------------------------------------------- several Redis servers


class SentinelFailover(Fault):
    """The primary is killed; its replica, which lags behind by a second, succeeds it."""

    name = "sentinel-failover"
    shapes = ("sentinels",)
    hold_s = 3.0
    _former: RedisServer | None = None

    async def begin(self) -> None:
        sentinels = self.fleet.sentinels
        assert sentinels is not None
        former = self._former = await asyncio.to_thread(sentinels.primary)
        others = [server for server in sentinels.servers if server is not former]
        for other in others:
            await asyncio.to_thread(other.pause)
        self.note("Redis: the replica lags")
        await asyncio.sleep(0.8)
        await asyncio.to_thread(former.kill)
        for other in others:
            other.resume()
        self.note("Redis: the primary is killed")

    async def end(self) -> None:
        sentinels = self.fleet.sentinels
        assert sentinels is not None
        assert self._former is not None
        await asyncio.to_thread(sentinels.wait_other, self._former)
        self.note("Redis: there is another primary")

    async def settle(self) -> None:
        assert self.fleet.sentinels is not None
        assert self._former is not None
        if not runs(self._former):
            await asyncio.to_thread(self._former.start)
        await asyncio.to_thread(self.fleet.sentinels.wait_well)


class PrimaryPaused(SentinelFailover):
    """The primary is stopped until another has succeeded it, and continues for a moment."""

    name = "primary-paused"

    async def begin(self) -> None:
        sentinels = self.fleet.sentinels
        assert sentinels is not None
        self._former = await asyncio.to_thread(sentinels.primary)
        await asyncio.to_thread(self._former.pause)

    async def end(self) -> None:
        sentinels = self.fleet.sentinels
        assert sentinels is not None
        assert self._former is not None
        await asyncio.to_thread(sentinels.wait_other, self._former)
        self.note("Redis: there is another primary")
        self._former.resume()


class SentinelSwitch(SentinelFailover):
    """The Sentinels let a replica succeed the primary, which becomes a replica itself."""

    name = "sentinel-switch"
    hold_s = 1.0

    async def begin(self) -> None:
        sentinels = self.fleet.sentinels
        assert sentinels is not None
        self._former = await asyncio.to_thread(sentinels.primary)
        await asyncio.to_thread(sentinels.switch)


class ShardFlushed(Fault):
    """All records of one shard are deleted."""

    name = "shard-flushed"
    shapes = ("cluster",)
    hold_s = 1.0

    async def begin(self) -> None:
        assert self.fleet.cluster is not None
        shard = self.rng.choice(self.fleet.cluster.servers)
        await asyncio.to_thread(shard.send, "FLUSHALL")


@define(eq=False)
class ShardEmptied(Fault):
    """One shard is killed, and starts empty."""

    name: ClassVar[str] = "shard-emptied"
    shapes: ClassVar[tuple[str, ...]] = ("cluster",)
    hold_s: ClassVar[float] = 1.5
    _shard: RedisServer | None = None

    async def begin(self) -> None:
        assert self.fleet.cluster is not None
        self._shard = self.rng.choice(self.fleet.cluster.servers)
        await asyncio.to_thread(self._shard.kill)

    async def end(self) -> None:
        assert self._shard is not None
        await asyncio.to_thread(self._shard.start)


# ---------------------------------------------------------------- replicas


@define(eq=False)
class ReplicaKilled(Fault):
    """A replica is killed (SIGKILL), and starts again."""

    name: ClassVar[str] = "replica-killed"
    side: ClassVar[str] = "replica"
    shapes: ClassVar[tuple[str, ...]] = SHAPES
    hold_s: ClassVar[float] = 0.5
    _replica: Replica | None = None

    async def prepare(self) -> None:
        self._replica = self.rng.choice(self.fleet.up)

    @property
    def killed(self) -> str | None:
        assert self._replica is not None
        return self._replica.name

    async def begin(self) -> None:
        assert self._replica is not None
        await self._replica.kill()
        self.note(f"{self._replica.name} is killed")

    async def end(self) -> None:
        assert self._replica is not None
        await self._replica.start()
        self.note(f"{self._replica.name} runs again")


class ReplicaStopped(ReplicaKilled):
    """A replica is stopped (SIGTERM), and starts again."""

    name = "replica-stopped"
    killed = None  # it ends what is under way

    async def begin(self) -> None:
        assert self._replica is not None
        await self._replica.stop()
        self.note(f"{self._replica.name} is stopped")


class RollingRestart(Fault):
    """All replicas are stopped and started, one after the other."""

    name = "rolling-restart"
    side = "replica"
    shapes = SHAPES
    hold_s = 0.1

    async def begin(self) -> None:
        for replica in self.fleet.replicas:
            await replica.stop()
            self.note(f"{replica.name} is stopped")
            await replica.start()
            self.note(f"{replica.name} runs again")


# ---------------------------------------------------------------- clocks


@define(eq=False)
class ClockAhead(Fault):
    """A replica's clock is set ahead, and back again."""

    name: ClassVar[str] = "clock-ahead"
    side: ClassVar[str] = "clock"
    # the age of a fresh response is only as exact as the clocks agree
    shapes: ClassVar[tuple[str, ...]] = tuple(shape for shape in SHAPES if shape != "fresh")
    hold_s: ClassVar[float] = 2.0
    offset_s: ClassVar[float] = 120.0
    _replica: Replica | None = None

    async def begin(self) -> None:
        self._replica = self.rng.choice(self.fleet.up)
        self._replica.clock_offset_s = self.offset_s
        self.note(f"{self._replica.name}'s clock is {self.offset_s:+g} s off")

    async def end(self) -> None:
        assert self._replica is not None
        self._replica.clock_offset_s = 0.0
        self.note(f"{self._replica.name}'s clock is right again")

    async def settle(self) -> None:
        """Start anew: its timers may be late by as much as its clock was ahead."""
        assert self._replica is not None
        await self._replica.kill()
        await self._replica.start()


class ClockBehind(ClockAhead):
    """A replica's clock is set back, and ahead again."""

    name = "clock-behind"
    offset_s = -60.0


class ClockJumps(Fault):
    """All replicas' clocks jump, each by another amount, and are right in the end."""

    name = "clock-jumps"
    side = "clock"
    shapes = ClockAhead.shapes
    hold_s = 2.0

    async def begin(self) -> None:
        for replica in self.fleet.replicas:
            replica.clock_offset_s = self.rng.choice((-45.0, -2.0, 0.5, 5.0, 300.0))
            self.note(f"{replica.name}'s clock is {replica.clock_offset_s:+g} s off")

    async def end(self) -> None:
        for replica in self.fleet.replicas:
            replica.clock_offset_s = 0.0
        self.note("all clocks are right again")

    async def settle(self) -> None:
        for replica in self.fleet.replicas:
            await replica.kill()
            await replica.start()


# ---------------------------------------------------------------- GitHub


@define(eq=False)
class GitHubFault(Fault):
    """GitHub does the same with a part of all requests."""

    side: ClassVar[str] = "github"
    shapes: ClassVar[tuple[str, ...]] = SHAPES
    hold_s: ClassVar[float] = 2.0
    kind: ClassVar[str] = ""
    rate: ClassVar[float] = 1.0
    _fault: simulated.Fault | None = None

    async def begin(self) -> None:
        self._fault = simulated.Fault(self.kind, self.rate)
        self.github.faults.append(self._fault)

    async def end(self) -> None:
        assert self._fault is not None
        self.github.faults.remove(self._fault)
        self._fault.ended.set()


def _github_fault(kind: str, rate: float) -> type[GitHubFault]:
    attributes = {"name": f"github-{kind}", "kind": kind, "rate": rate, "__doc__": kind}
    return type("GitHubFault", (GitHubFault,), attributes)


GITHUB: Final[dict[str, type[Fault]]] = {
    each.name: each
    for each in (
        _github_fault("503", 0.7),
        _github_fault("502", 1.0),
        _github_fault("hang", 0.6),
        _github_fault("slow", 0.7),
        _github_fault("reset", 0.7),
        _github_fault("truncate", 0.7),
        _github_fault("primary-limit", 1.0),
        _github_fault("secondary-limit", 1.0),
    )
}
OURS: Final[dict[str, type[Fault]]] = {
    each.name: each
    for each in (
        *(RedisKilled, RedisOlderCopy, RedisPaused, RedisSlow, RedisFlushed, RedisEvicts),
        *(RedisFull, Partition, CutOffKilled, ReaderLags, ReaderPaused),
        *(SentinelFailover, SentinelSwitch, PrimaryPaused, ShardFlushed, ShardEmptied),
        *(ReplicaKilled, ReplicaStopped, RollingRestart, ClockAhead, ClockBehind, ClockJumps),
    )
}
FAULTS: Final = {**OURS, **GITHUB}
