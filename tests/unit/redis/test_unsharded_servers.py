"""A single server, or a primary and a reader."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from ghmirror_tw.redis.servers_interface import Command, IServers, RedisUnavailableError
from ghmirror_tw.redis.unsharded_servers import PrimaryAndReader, SingleServer
from tests.fakes.interposer import interpose
from tests.harness.redis_servers import RedisServer, start_redis
from tests.unit.redis.watched_nodes import (
    CURRENT,
    GET,
    READ,
    SET,
    TIMEOUT_S,
    WRITE,
    Watched,
    watched_node,
)


async def outcome(servers: Any, command: Command, purpose: Any) -> Any:
    """Return the reply to one command, or the reason of its failure."""
    try:
        sent: Deferred[Any] = servers.send(b"", [command], purpose, TIMEOUT_S)
        (reply,) = await sent
    except RedisUnavailableError as error:
        return error.reason
    return reply


class Single(TestCase):
    """A single server."""

    async def test_it_serves_all_purposes(self) -> None:
        """Its availability is that of the store."""
        server = start_redis(self)
        watched = watched_node(self, server.address)
        servers: Any = SingleServer(watched.node)
        assert verifyObject(IServers, servers)
        assert not servers.reading
        servers.open()
        await servers.settled()
        assert servers.reading
        assert servers.writing
        assert await outcome(servers, SET, WRITE) == "OK"
        for purpose in (READ, CURRENT):
            assert await outcome(servers, GET, purpose) == b"1"
        await servers.close()
        assert not servers.reading
        assert not servers.writing
        assert await outcome(servers, GET, READ) == "closed"


class PrimaryWithReader(TestCase):
    """A primary and a reader without replication, so that replies show their source."""

    async def start(self) -> tuple[PrimaryAndReader, RedisServer, RedisServer]:
        """Start both servers; each has a value of its own."""
        started = []
        for name in ("primary", "reader"):
            server = start_redis(self)
            server.send("SET", "t:a", name)
            started.append(server)
        self.primary = watched_node(self, started[0].address)
        self.between = interpose(self, started[1].address)
        self.reader = watched_node(self, self.between.address, primary=False)
        servers = PrimaryAndReader(self.primary.node, self.reader.node, self.primary.node.reactor)
        servers.open()
        await servers.settled()
        await self.primary.full()
        await self.reader.full()
        return servers, started[0], started[1]

    async def reads(self, watched: Watched, *, reading: bool) -> None:
        """Return when the reader can be read, or cannot."""
        await watched.until(lambda: watched.node.reading is reading)

    async def test_only_read_uses_the_reader(self) -> None:
        """The primary serves all other purposes."""
        servers, _, reader = await self.start()
        assert verifyObject(IServers, servers)
        assert servers.reading
        assert servers.writing
        assert await outcome(servers, GET, READ) == b"reader"
        assert await outcome(servers, GET, CURRENT) == b"primary"
        assert await outcome(servers, SET, WRITE) == "OK"
        assert await outcome(servers, GET, CURRENT) == b"1"
        assert reader.send("GET", "t:a") == b"reader"
        assert not self.reader.node.writing
        assert b"probe" not in b"".join(reader.send("KEYS", "*"))

    async def test_the_primary_replaces_the_reader(self) -> None:
        """Until the reader is available."""
        servers, _, reader = await self.start()
        reader.kill()
        await self.reads(self.reader, reading=False)
        assert await outcome(servers, GET, READ) == b"primary"
        assert servers.reading
        reader.start()
        reader.send("SET", "t:a", "reader")
        await self.reads(self.reader, reading=True)
        assert await outcome(servers, GET, READ) == b"reader"

    async def test_unexecuted_commands_are_sent_to_the_primary(self) -> None:
        """At once."""
        servers, _, _ = await self.start()
        self.between.instead = b"-MASTERDOWN Link with MASTER is down\r\n"
        assert await outcome(servers, GET, READ) == b"primary"

    async def test_maybe_executed_commands_are_not_sent_again(self) -> None:
        """After a timeout, for one."""
        servers, _, _ = await self.start()
        self.between.cut_after = 1
        assert await outcome(servers, GET, READ) == "lost"

    async def test_without_the_primary_only_read_works(self) -> None:
        """CURRENT and WRITE fail."""
        servers, primary, _ = await self.start()
        primary.kill()
        await self.reads(self.primary, reading=False)
        assert await outcome(servers, GET, READ) == b"reader"
        assert await outcome(servers, GET, CURRENT) == "open"
        assert await outcome(servers, SET, WRITE) == "open"
        assert not servers.reading
        assert not servers.writing
