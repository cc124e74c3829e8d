"""The documented permissions of the Redis user: sufficient, and necessary."""

from __future__ import annotations

import contextlib
import random
import re
import shlex
from contextlib import aclosing

import pytest
from attrs import evolve
from twisted.trial.unittest import TestCase

from ghmirror_tw.caching.records import RECENCY_LENGTH
from ghmirror_tw.redis.cluster import Cluster
from ghmirror_tw.redis.cluster_shards import Shards
from ghmirror_tw.redis.cluster_slots import slot_of_tag
from ghmirror_tw.redis.sentinel_queries import PrimaryFinder
from ghmirror_tw.redis.sentinel_servers import Sentinels
from ghmirror_tw.redis.server_endpoint import Address, Credentials
from ghmirror_tw.redis.servers_interface import Purpose, RedisUnavailableError
from ghmirror_tw.redis.unsharded_servers import SingleServer
from ghmirror_tw.redis_store.loss_detection import History
from ghmirror_tw.redis_store.redis_archive import RedisArchive
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.redis_store.redis_semaphores import RedisSemaphores
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.store.permit_lease_interface import Capacity, LeaseRequest
from ghmirror_tw.store.record_sealing import Codec
from ghmirror_tw.store.remote_interface import EpochWrite
from ghmirror_tw.store.store_interface import LockName, Pair
from tests.harness.home import reactor
from tests.harness.redis_servers import RedisServer, start_redis
from tests.harness.redis_sets import SERVICE, open_cluster, open_sentinels
from tests.harness.redis_stores import DAY_S, PREFIX, SOON, node_at
from tests.harness.running import ROOT
from tests.unit.redis.command_load import aside, maker, until
from tests.unit.redis.watched_nodes import command
from tests.unit.store.store_contract import ALICE, EPOCH, HELD, KEY, entry, grant, negative

COMMAND = re.compile(r"^ +redis-cli (ACL SETUSER mirror (?:.+\\\n)*.+)$", re.MULTILINE)
PASSWORD = "s3cret"
USER = Credentials("mirror", PASSWORD)


def page() -> str:
    """Return the documentation."""
    return (ROOT / "docs" / "redis.rst").read_text()


def more(*commands: str) -> list[str]:
    """Return the command that adds these permissions, as documented."""
    given = " ".join(f"+{command}" for command in commands)
    assert f"``{given}``" in " ".join(page().split())
    return ["ACL", "SETUSER", "mirror", *given.split()]


def refused_by(server: RedisServer) -> list[str]:
    """Return the commands and keys that a server has refused, by its ACL LOG."""
    text = []
    for each in server.send("ACL", "LOG"):
        shown = dict(zip(each[::2], each[1::2], strict=True))
        text.append(shown[b"object"].decode())
    return text


def documented() -> list[str]:
    """Return the documented command that creates the user."""
    (found,) = COMMAND.findall(page())
    return shlex.split(found.replace("\\\n", " ").replace("PASSWORD", PASSWORD))


class LeastPrivilege(TestCase):
    """A server with the user."""

    def setUp(self) -> None:
        self.server: RedisServer = start_redis(self)
        self.server.send(*documented())
        self.threads = ContentThreads(reactor)
        self.threads.open()
        self.addCleanup(self.threads.close)

    async def do_all(self, database: int = 0) -> None:
        """Send every command and script of the mirror, from the first connection on."""
        self.server.send("FLUSHALL")
        self.server.send("SCRIPT", "FLUSH")
        self.server.send("ACL", "LOG", "RESET")
        records = await self.connect(database)
        history = History(
            reactor,
            records.servers,
            b"me",
            lambda: False,
            records.change_history,
            records.note_server_clock,
        )
        semaphores = RedisSemaphores(records, SOON, history)
        history.look()
        subject = LockName(KEY)
        listed = [
            (grant(float(at)), evolve(entry(float(at)), digest=f"{at:064x}"))
            for at in range(1, RECENCY_LENGTH + 2)
        ]
        steps = [
            records.try_acquire(subject, "me", SOON, SOON),
            records.renew(subject, "me", SOON, SOON),
            records.is_locked(subject, SOON),
            records.release(subject, "me", SOON),
            records.mark_unstorable(KEY, SOON),
            *(records.freshen(KEY, ALICE, *each, HELD, SOON) for each in listed),
            records.freshen(KEY, ALICE, grant(20.0), entry(20.0), None, SOON),
            records.look_up(KEY, ALICE, SOON, current=True),
            records.look_up(KEY, ALICE, SOON, current=False),
            records.fetch(KEY, (HELD.digest,), SOON),
            records.deny(KEY, ALICE, 21.0, SOON),
            records.put_negative(KEY, ALICE, negative(22.0), SOON),
            records.put_epoch(ALICE, EPOCH, SOON, EpochWrite.ALWAYS),
            history.close(),
            *(
                semaphores.renew(Capacity(ALICE, "f", 2), LeaseRequest(owner, 1, 0, 1, 1, 1, 0.001))
                for owner in ("me", "another")
            ),
        ]
        self.refused = 0
        await history.looked_up(0.2)
        for step in steps:
            try:
                await step
            except RedisUnavailableError:
                self.refused += 1
        await records.servers.close()

    async def connect(self, database: int = 0) -> RedisRecords:
        """Return the records, after the first attempt to connect."""
        node = node_at(
            self.server.address,
            credentials=lambda: USER,
            database=database,
        )
        servers = SingleServer(node)
        self.addCleanup(servers.close)
        servers.open()
        await servers.settled()
        return RedisRecords(
            servers,
            Codec(b"x"),
            self.threads,
            reactor.seconds,
            PREFIX,
            DAY_S,
            DAY_S,
            negative_for_s=60.0,
        )

    @property
    def log(self) -> list[str]:
        return refused_by(self.server)

    async def test_the_permissions_are_sufficient(self) -> None:
        """The server refuses nothing."""
        await self.do_all()
        assert not self.log
        assert not self.refused

    async def test_each_permission_is_necessary(self) -> None:
        """Without it, the server refuses its command."""
        commands = [each[1:] for each in documented() if each.startswith("+")]
        assert commands
        for each in commands:
            self.server.send("ACL", "SETUSER", "mirror", f"-{each}")
            await self.do_all()
            assert each in self.log, each
            self.server.send("ACL", "SETUSER", "mirror", f"+{each}")

    async def test_the_keys_are_necessary(self) -> None:
        """The user has no access to other prefixes."""
        self.server.send("ACL", "SETUSER", "mirror", "resetkeys", "~another:*")
        await self.do_all()
        assert self.log
        assert self.refused

    async def test_another_database_needs_select(self) -> None:
        """And nothing else."""
        await self.do_all(database=1)
        assert set(self.log) == {"select"}
        self.server.send(*more("select"))
        await self.do_all(database=1)
        assert not self.log
        assert not self.refused

    async def test_snapshots_need_scan(self) -> None:
        """And nothing else, to save and to restore."""
        archive = RedisArchive(await self.connect())
        await archive.records.freshen(KEY, ALICE, grant(1.0), entry(), HELD, SOON)
        await archive.records.deny(KEY, ALICE, 1.0, SOON)

        async def pairs() -> list[Pair]:
            async with aclosing(archive.dump()) as batches:
                return [pair async for batch in batches for pair in batch]

        with pytest.raises(RedisUnavailableError):
            await pairs()
        assert self.log == ["scan"]
        self.server.send(*more("scan"))
        self.server.send("ACL", "LOG", "RESET")
        assert await archive.acquire_lease("save", "me", SOON)
        copied = await pairs()
        await archive.release_lease("save", "me")
        self.server.send("FLUSHALL")
        assert await archive.admit(copied) == len(copied)
        await archive.mark_filled()
        assert await archive.mark()
        assert not self.log


class Sets(TestCase):
    """Several servers with the user."""

    async def test_cluster_mode_needs_more(self) -> None:
        """CLUSTER SLOTS, and ASKING during migrations."""
        servers = await open_cluster(self, replicas=0)
        shards = Shards(
            reactor=reactor,
            seed=Address(*servers.servers[0].address),
            make=maker(USER, probe_key=b"ghmirror:probe"),
            random=random.random,
        )
        cluster = Cluster(shards, reactor)
        self.addCleanup(cluster.close)
        for server in servers.servers:
            server.send(*documented())
        cluster.open()
        await cluster.settled()
        assert "cluster|slots" in refused_by(servers.servers[0])
        for server in servers.servers:
            server.send(*more("cluster|slots", "asking"))
            server.send("ACL", "LOG", "RESET")
        await until(lambda: cluster.reading and cluster.writing)

        tag, target = servers.tag(0).encode(), servers.servers[1]
        await aside(servers.begin_migration, slot_of_tag(tag), target)
        get = command("GET", b"ghmirror:{%s}:r:0" % tag)
        assert await cluster.send(tag, [get], Purpose.READ, SOON) == [None]
        assert not any(map(refused_by, servers.servers))
        target.send("ACL", "SETUSER", "mirror", "-asking")
        with contextlib.suppress(RedisUnavailableError):
            await cluster.send(tag, [get], Purpose.READ, SOON)
        assert "asking" in refused_by(target)

    async def test_sentinels_need_role(self) -> None:
        """The named primary receives ROLE."""
        servers = await open_sentinels(self)
        finder = PrimaryFinder(
            reactor=reactor,
            sentinels=[Address(*place) for place in servers.places],
            service=SERVICE,
            credentials=lambda: USER,
        )
        sentinels = Sentinels(
            reactor=reactor,
            finder=finder,
            make=maker(USER, probe_key=b"ghmirror:probe"),
            random=random.random,
            check_s=0.1,
        )
        self.addCleanup(sentinels.close)
        (primary, *_) = servers.servers
        primary.send(*documented())
        sentinels.open()
        await sentinels.settled()
        assert refused_by(primary) == ["role"]
        primary.send(*more("role"))
        primary.send("ACL", "LOG", "RESET")
        await until(lambda: sentinels.reading and sentinels.writing)
        assert not refused_by(primary)
