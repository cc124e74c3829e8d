"""The connections to one server: their number, choice and life."""

from __future__ import annotations

import itertools
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from ghmirror_tw.redis.redis_connection import ConnectionState
from ghmirror_tw.redis.redis_pool import RedisPool
from ghmirror_tw.redis.server_endpoint import Credentials
from tests.fakes.interposer import interpose
from tests.harness.redis_servers import RedisServer, start_redis
from tests.unit.redis.watched_nodes import (
    GET,
    SET,
    SOON_S,
    WRITE,
    command,
    watched_node,
    working_node,
)


def connected(server: RedisServer) -> int:
    """Return the number of clients that are connected by the server's port."""
    listed = server.send("CLIENT", "LIST", "TYPE", "normal").decode()
    return int(listed.count(f" laddr={server.host}:{server.port} "))


@implementer(IStreamClientEndpoint)
@define(eq=False)
class Refusing:
    """An endpoint that refuses connections, and notes when."""

    clock: Clock
    at: list[float] = field(factory=list)

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.at.append(self.clock.seconds())
        return fail(ConnectionRefusedError())


class Attempts(TestCase):
    """How connections are made."""

    async def test_there_is_one_attempt_at_a_time(self) -> None:
        """However many connections are missing."""
        server = start_redis(self)
        between = interpose(self, server.address)
        between.silent = True
        watched = watched_node(self, between.address, pool_size=8, timeout_s=SOON_S)
        watched.node.open()
        await watched.until(lambda: len(watched.failures) == 2)
        assert between.accepted == 2
        between.silent = False
        await watched.full()
        assert connected(server) == 8

    async def test_renewing_begins_no_second_attempt(self) -> None:
        """While one is under way."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address, timeout_s=SOON_S)
        between.silent = True
        for _ in range(3):
            watched.node.renew()
        await watched.until(lambda: len(watched.failures) == 1)
        assert between.accepted == 4 + 1

    async def test_a_server_at_its_limit_of_clients(self) -> None:
        """The connections that exist are used."""
        server = start_redis(self)
        server.send("CONFIG", "SET", "maxclients", "3")
        watched = watched_node(self, server.address)
        watched.node.open()
        await watched.until(lambda: any("max number" in why for why in watched.failures))
        assert watched.node.reading
        assert await watched.outcome(GET) == [None]

    def test_attempts_back_off(self) -> None:
        """The delays double up to a few seconds, with jitter."""
        for chance, first_s, last_s in ((0.0, 0.05, 1.25), (1.0, 0.1, 2.5)):
            clock = Clock()
            endpoint = Refusing(clock)
            missed: list[str] = []
            pool = RedisPool(
                reactor=clock,
                endpoint=endpoint,
                size=4,
                patience_s=1.0,
                lifetime_s=600.0,
                credentials=Credentials,
                database=0,
                random=itertools.repeat(chance).__next__,
                on_connected=lambda: None,
                on_missing=missed.append,
            )
            pool.open()
            clock.pump([0.025] * 1000)
            waits = [later - at for at, later in itertools.pairwise(endpoint.at)]
            for wait, expected in zip(waits, (1, 2, 4, 8, 16), strict=False):
                assert abs(wait - expected * first_s) < 0.03
            assert abs(waits[-1] - last_s) < 0.03
            assert len(missed) == len(endpoint.at)
            self.successResultOf(pool.close())
            assert not clock.getDelayedCalls()


class Choice(TestCase):
    """Which connection is used."""

    async def test_the_connection_with_the_least_load_is_used(self) -> None:
        """Small commands do not queue behind large content."""
        server = start_redis(self)
        watched = await working_node(self, server.address, pool_size=2)
        server.pause()
        large = watched.execute(command("SET", "t:b", "x" * 1_000_000), purpose=WRITE)
        small = [watched.execute(GET) for _ in range(5)]
        busy = sorted(connection.outstanding_bytes for connection in watched.connections)
        assert busy[0] < 1000 < busy[1]
        server.resume()
        assert await large == ["OK"]
        assert await DeferredList(small) == [(True, [None])] * 5

    async def test_a_full_connection_accepts_no_commands(self) -> None:
        """Redis does not read them."""
        server = start_redis(self)
        watched = await working_node(self, server.address, pool_size=2, timeout_s=20.0)
        server.pause()
        large = command("SET", "t:b", "x" * 10_000_000)
        sent = [watched.execute(large, purpose=WRITE) for _ in range(20)]
        refused = [deferred for deferred in sent if deferred.called]
        assert len(refused) == 16
        results: Any = await DeferredList(refused, consumeErrors=True)
        assert {failure.value.reason for _, failure in results} == {"full"}
        server.resume()
        rest = [deferred for deferred in sent if deferred not in refused]
        assert await DeferredList(rest) == [(True, ["OK"])] * 4
        assert watched.outstanding_bytes == 0
        assert watched.node.writing


class Retirement(TestCase):
    """Old connections are replaced."""

    async def test_connections_are_replaced_one_by_one(self) -> None:
        """No command fails, and the old ones are closed."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address, lifetime_s=0.3)
        first = set(watched.connections)
        while set(watched.connections) & first:
            assert await watched.outcome(GET) == [None]
            assert 4 <= len(watched.connections) <= 5
        assert watched.changes == [(True, False), (True, True)]
        assert watched.failures == []

    async def test_a_retiring_connection_receives_its_replies(self) -> None:
        """It closes after the last one."""
        server = start_redis(self)
        watched = await working_node(self, server.address, pool_size=1, timeout_s=60.0)
        (old,) = watched.connections
        sent = watched.execute(command("BLPOP", "t:list", "0"))
        watched.node.renew()
        await watched.until(lambda: old not in watched.connections)
        assert await watched.outcome(command("ECHO", "new")) == [b"new"]
        assert not sent.called
        assert connected(server) == 2
        server.send("LPUSH", "t:list", "old")
        assert await sent == [[b"t:list", b"old"]]

    async def test_an_old_connection_stays_until_there_is_a_new_one(self) -> None:
        """The server refuses connections."""
        server = start_redis(self)
        current: list[Exception] = []

        def credentials() -> Any:
            if current:
                raise current[0]
            return Credentials()

        watched = await working_node(self, server.address, credentials=credentials)
        old = set(watched.connections)
        current.append(OSError())
        watched.node.renew()
        await watched.until(lambda: len(watched.failures) >= 2)
        assert set(watched.connections) == old
        assert await watched.outcome(GET) == [None]
        assert watched.node.reading
        current.clear()
        await watched.full()
        assert not old & set(watched.connections)


class Closing(TestCase):
    """Closing the pool."""

    async def test_close_waits_for_replies(self) -> None:
        """No more commands are accepted."""
        server = start_redis(self)
        watched = await working_node(self, server.address)
        sent = watched.execute(SET, purpose=WRITE)
        closed = watched.node.close()
        assert await watched.outcome(GET) == "closed"
        assert await sent == ["OK"]
        await closed
        assert connected(server) == 0
        assert server.send("GET", "t:a") == b"1"

    async def test_close_does_not_wait_for_long(self) -> None:
        """The server does not reply."""
        server = start_redis(self)
        watched = await working_node(self, server.address, timeout_s=60.0)
        server.pause()
        sent = watched.execute(SET, purpose=WRITE)
        results: Any = await DeferredList([sent, watched.node.close()], consumeErrors=True)
        assert results[0][1].value.reason == "lost"

    async def test_close_ends_an_attempt(self) -> None:
        """No connection is left."""
        server = start_redis(self)
        between = interpose(self, server.address)
        between.silent = True
        watched = watched_node(self, between.address)
        watched.node.open()
        while (greeting := watched.node.pool.greeting) is None:
            await deferLater(watched.node.reactor, 0)
        await watched.node.close()
        assert greeting.state is ConnectionState.CLOSED
        assert await watched.outcome(GET) == "closed"

    async def test_a_pool_that_was_never_opened_closes(self) -> None:
        """There is nothing to wait for."""
        server = start_redis(self)
        await watched_node(self, server.address).node.close()
