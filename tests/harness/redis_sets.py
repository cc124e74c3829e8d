"""Real Redis servers that belong together: a cluster of shards, or a primary under Sentinels.

They are set up by their own commands. Everything here blocks; in a test on the reactor::

    cluster = await open_cluster(self)
    await deferToThread(cluster.migrate, slot, target)

and in blocking code::

    with ClusterSet() as cluster:
        cluster.fail_over(cluster.owner(slot))
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self, TypeVar

from attrs import define, field
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from ghmirror_tw.redis.cluster_slots import SLOTS, slot_of_tag
from tests.harness.certificates import Authority
from tests.harness.redis_servers import RedisError, RedisServer, free_port

SERVICE = "the-mirror"
"""The Sentinels' name of the primary that they watch."""

Options = Iterable[tuple[str, str]]

_LONG_S = 60.0
_LOOK_S = 0.02

T = TypeVar("T")


class SetError(Exception):
    """A set of servers did not reach the expected state."""


def wait_until(condition: Callable[[], T | None], what: str, timeout_s: float = _LONG_S) -> T:
    """Return the first true value of *condition*; servers may be unreachable meanwhile."""
    end = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        with contextlib.suppress(OSError, RedisError):
            if got := condition():
                return got
        if time.monotonic() > end:
            raise SetError(f"waited in vain until {what}")
        pause.wait(_LOOK_S)


def runs(server: RedisServer) -> bool:
    """Return whether a server is running, and not paused."""
    try:
        state = Path(f"/proc/{server.pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[0] not in "TZ"


@define(eq=False)
class _Set:
    """Servers that start and end together; *options* are for those with data.

    With an *authority* they speak TLS, by certificates for *names*.
    """

    password: str | None = None
    authority: Authority | None = None
    names: tuple[str, ...] = ("127.0.0.1", "localhost")
    options: Options = ()
    servers: list[RedisServer] = field(factory=list, init=False)

    def __enter__(self) -> Self:
        try:
            self.set_up()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.remove()

    def set_up(self) -> None:
        """Start all of it, and return when it works."""
        raise NotImplementedError

    def remove(self) -> None:
        """End all of it."""
        for server in self.servers:
            server.remove()

    def running(self) -> list[RedisServer]:
        """Return those that are there, and not paused."""
        return [server for server in self.servers if runs(server)]

    def _start(self, options: Options, **more: Any) -> RedisServer:
        given = [("repl-diskless-sync-delay", "0"), *options, *self.options]
        if self.password is not None:
            given.append(("masterauth", self.password))
        server = RedisServer(
            password=self.password,
            authority=self.authority,
            names=self.names,
            options=given,
            **more,
        )
        self.servers.append(server)
        return server


# ---------------------------------------------------------------- a cluster


@define(eq=False)
class ClusterSet(_Set):
    """A Redis Cluster whose shards have an equal part of the slots each."""

    shards: int = 3
    replicas: int = 1
    node_timeout_ms: int = 1000

    def set_up(self) -> None:
        """Start the nodes, join them, and return when each reports the cluster as healthy."""
        for _ in range(self.shards * (1 + self.replicas)):
            self._start_node()
        primaries = self.servers[: self.shards]
        for shard, primary in enumerate(primaries):
            primary.send("CLUSTER", "SET-CONFIG-EPOCH", shard + 1)
            primary.send("CLUSTER", "ADDSLOTSRANGE", *self.slots(shard))
        for server in self.servers[1:]:
            server.send("CLUSTER", "MEET", *self.servers[0].address)
        self._wait_acquainted()
        for number, server in enumerate(self.servers[self.shards :]):
            server.send("CLUSTER", "REPLICATE", name_of(primaries[number % self.shards]))
        self.wait_well()

    def slots(self, shard: int) -> tuple[int, int]:
        """Return the first and the last slot that a shard has at first."""
        return SLOTS * shard // self.shards, SLOTS * (shard + 1) // self.shards - 1

    def tag(self, shard: int, least: int = 0) -> str:
        """Return a hash tag whose slot a shard has at first: a number, *least* or more."""
        first, last = self.slots(shard)
        tags = map(str, itertools.count(least))
        return next(tag for tag in tags if first <= slot_of_tag(tag.encode()) <= last)

    def _start_node(self) -> RedisServer:
        options = [
            ("cluster-enabled", "yes"),
            ("cluster-node-timeout", str(self.node_timeout_ms)),
            ("cluster-require-full-coverage", "no"),
            ("cluster-replica-validity-factor", "0"),
            ("cluster-allow-replica-migration", "no"),
        ]
        if self.authority is not None:
            options += [("tls-cluster", "yes"), ("tls-replication", "yes")]
        return self._start(options)

    def add_shard(self) -> RedisServer:
        """Add a primary without slots, known to all."""
        server = self._start_node()
        server.send("CLUSTER", "SET-CONFIG-EPOCH", 100 + len(self.servers))
        server.send("CLUSTER", "MEET", *self.servers[0].address)
        self.wait_well()
        return server

    def _wait_acquainted(self) -> None:
        def acquainted() -> bool:
            names = {name_of(server) for server in self.running()}
            return all(names <= _healthy(server) for server in self.running())

        wait_until(acquainted, "all nodes know each other")

    def wait_well(self) -> None:
        """Return when all running nodes report a healthy cluster and agree about it."""
        self._wait_acquainted()
        wait_until(lambda: all(map(_is_well, self.running())), "the cluster is well")
        wait_until(lambda: len(set(map(_view, self.running()))) == 1, "all see the same")

    def owner(self, slot: int) -> RedisServer:
        """Return the primary of *slot* by its own report."""

        def owner() -> RedisServer | None:
            return next((server for server in self.running() if _has(server, slot)), None)

        return wait_until(owner, f"slot {slot} has an owner")

    def replica_of(self, primary: RedisServer) -> RedisServer:
        """Return a replica of *primary* that runs."""
        for server in self.running():
            role = server.send("ROLE")
            if role[0] == b"slave" and role[2] == primary.port:
                return server
        raise SetError("it has no replica")

    def begin_migration(self, slot: int, target: RedisServer) -> Migration:
        """Open *slot* for moving to *target*: from now on its keys may be at either place."""
        source = self.owner(slot)
        target.send("CLUSTER", "SETSLOT", slot, "IMPORTING", name_of(source))
        source.send("CLUSTER", "SETSLOT", slot, "MIGRATING", name_of(target))
        return Migration(self, slot, source, target)

    def migrate(self, slot: int, target: RedisServer, at_once: int = 10) -> None:
        """Move *slot* to *target*, *at_once* keys in each step."""
        moving = self.begin_migration(slot, target)
        while moving.move(at_once):
            pass
        moving.finish()

    def fail_over(self, primary: RedisServer) -> RedisServer:
        """Kill *primary*, and return its successor when all nodes report a healthy cluster."""
        replica = self.replica_of(primary)
        primary.kill()
        wait_until(lambda: replica.send("ROLE")[0] == b"master", "a replica has taken over")
        self.wait_well()
        return replica


@define(eq=False)
class Migration:
    """A slot on its way from one primary to another, key by key."""

    _cluster: ClusterSet
    slot: int
    source: RedisServer
    target: RedisServer

    def move(self, count: int) -> int:
        """Move up to *count* of its keys; return how many there were."""
        keys = self.source.send("CLUSTER", "GETKEYSINSLOT", self.slot, count)
        if keys:
            self.take(*keys)
        return len(keys)

    def take(self, *keys: bytes | str) -> None:
        """Move just these."""
        password = self.target.password
        auth = [] if password is None else ["AUTH", password]
        self.source.send("MIGRATE", *self.target.address, "", 0, 5000, *auth, "KEYS", *keys)

    def finish(self) -> None:
        """Assign the slot to the target, and return when all nodes know."""
        for server in (self.target, self.source):
            server.send("CLUSTER", "SETSLOT", self.slot, "NODE", name_of(self.target))
        self._cluster.wait_well()


def name_of(server: RedisServer) -> str:
    """Return the cluster's name of a node."""
    name: bytes = server.send("CLUSTER", "MYID")
    return name.decode()


def _healthy(server: RedisServer) -> set[str]:
    """Return the names of the nodes that a node knows and considers healthy."""
    reply: bytes = server.send("CLUSTER", "NODES")
    lines = [line.split() for line in reply.decode().splitlines()]
    return {
        name
        for name, _, flags, *_ in lines
        if not {"fail", "fail?", "handshake", "noaddr"} & set(flags.split(","))
    }


def _is_well(server: RedisServer) -> bool:
    return b"cluster_state:ok" in server.send("CLUSTER", "INFO") and _is_linked(server)


def _view(server: RedisServer) -> frozenset[tuple[int, int, str, frozenset[str]]]:
    """Return the owner of each range of slots, and its replicas, as a node sees it."""
    return frozenset(
        (first, last, primary[2], frozenset(replica[2] for replica in replicas))
        for first, last, primary, *replicas in server.send("CLUSTER", "SLOTS")
    )


def _has(server: RedisServer, slot: int) -> bool:
    name = name_of(server).encode()
    return any(
        first <= slot <= last and primary[2] == name
        for first, last, primary, *_ in server.send("CLUSTER", "SLOTS")
    )


# ---------------------------------------------------------------- a primary under Sentinels


@define(eq=False)
class SentinelSet(_Set):
    """A primary, its replicas, and three Sentinels that watch them.

    With an *authority* the servers use TLS among each other, and for the data. Clients connect to
    Sentinels without it in any case.
    """

    replicas: int = 1
    #: With half of it, on a busy machine, Sentinels considered a new primary dead again.
    down_after_ms: int = 1000
    sentinel_password: str | None = None
    sentinels: list[RedisServer] = field(factory=list, init=False)

    def set_up(self) -> None:
        """Start the servers, and return when each Sentinel knows all of them."""
        secure = [("tls-replication", "yes")] if self.authority is not None else []
        primary = self._start(secure)
        for _ in range(self.replicas):
            self._start(secure, replica_of=primary.address)
        wait_until(lambda: all(map(_is_linked, self.servers)), "the replicas are up to date")
        for _ in range(3):
            self.sentinels.append(self._start_sentinel(primary))
        self.wait_well()

    def _start_sentinel(self, primary: RedisServer) -> RedisServer:
        host, port = primary.address
        options = [
            ("sentinel", f"monitor {SERVICE} {host} {port} 2"),
            ("sentinel", f"down-after-milliseconds {SERVICE} {self.down_after_ms}"),
            ("sentinel", f"failover-timeout {SERVICE} 3000"),
        ]
        if self.password is not None:
            options.append(("sentinel", f"auth-pass {SERVICE} {self.password}"))
        if self.sentinel_password is not None:
            options.append(("sentinel", f"sentinel-pass {self.sentinel_password}"))
        if self.authority is not None:
            paths = self.authority.issue(primary.directory, self.names)
            options += [
                ("tls-cert-file", str(paths["certificate"])),
                ("tls-key-file", str(paths["key"])),
                ("tls-ca-cert-file", str(paths["authority"])),
                ("tls-replication", "yes"),
                ("tls-port", str(free_port())),
            ]
        return RedisServer(password=self.sentinel_password, options=options, sentinel=True)

    def remove(self) -> None:
        """End all of it."""
        for sentinel in self.sentinels:
            sentinel.remove()
        super().remove()

    @property
    def places(self) -> list[tuple[str, int]]:
        """Where the Sentinels are."""
        return [sentinel.address for sentinel in self.sentinels]

    def wait_well(self) -> None:
        """Return when every Sentinel that runs knows of all the servers, and of no trouble."""

        def well() -> bool:
            return all(self._sees_all(each) for each in self.sentinels if runs(each))

        wait_until(well, "the Sentinels see all")

    def _sees_all(self, sentinel: RedisServer) -> bool:
        primary = _pairs(sentinel.send("SENTINEL", "MASTER", SERVICE))
        replicas = map(_pairs, sentinel.send("SENTINEL", "REPLICAS", SERVICE))
        others = map(_pairs, sentinel.send("SENTINEL", "SENTINELS", SERVICE))
        return (
            primary["flags"] == "master"
            and sum(map(_is_good, replicas)) == len(self.running()) - 1
            and sum(other["flags"] == "sentinel" for other in others)
            == sum(map(runs, self.sentinels)) - 1
        )

    def primary(self) -> RedisServer:
        """Return the primary that all running Sentinels report, when it agrees."""
        return wait_until(self._primary, "there is one primary")

    def _primary(self) -> RedisServer | None:
        ports = {
            int(sentinel.send("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
            for sentinel in self.sentinels
            if runs(sentinel)
        }
        found = [server for server in self.running() if {server.port} == ports]
        return found[0] if found and found[0].send("ROLE")[0] == b"master" else None

    def switch(self) -> None:
        """Begin a failover by a Sentinel, without a fault."""
        self.sentinels[0].send("SENTINEL", "FAILOVER", SERVICE)

    def wait_other(self, former: RedisServer) -> RedisServer:
        """Return the primary as soon as that is another one than *former*."""

        def other() -> RedisServer | None:
            found = self._primary()
            return None if found is former else found

        return wait_until(other, "another primary is there")


def _is_linked(server: RedisServer) -> bool:
    """Return whether a server is a primary, or a replica that is up to date."""
    return b"master_link_status:down" not in server.send("INFO", "replication")


def _is_good(replica: dict[str, str]) -> bool:
    """Return whether a Sentinel reports a replica as healthy."""
    seen = (replica[name] for name in ("flags", "role-reported", "master-link-status"))
    return tuple(seen) == ("slave", "slave", "ok")


def _pairs(reply: list[bytes]) -> dict[str, str]:
    texts = [part.decode() for part in reply]
    return dict(zip(texts[::2], texts[1::2], strict=True))


# ---------------------------------------------------------------- in tests on the reactor


async def open_cluster(case: TestCase, **options: Any) -> ClusterSet:
    """Start a cluster that is removed after the test."""
    made = ClusterSet(**options)
    case.addCleanup(made.remove)
    await deferToThread(made.set_up)
    return made


async def open_sentinels(case: TestCase, **options: Any) -> SentinelSet:
    """Start a primary under Sentinels; all of it is removed after the test."""
    made = SentinelSet(**options)
    case.addCleanup(made.remove)
    await deferToThread(made.set_up)
    return made
