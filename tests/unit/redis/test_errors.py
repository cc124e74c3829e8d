"""Error replies of real servers, and scripts that they do not have."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase
from txredisapi import ResponseError

from tests.fakes.interposer import interpose
from tests.harness.redis_servers import start_redis
from tests.unit.redis.watched_nodes import (
    CURRENT,
    GET,
    SET,
    TIMEOUT_S,
    WRITE,
    Watched,
    command,
    working_node,
)


class Errors(TestCase):
    """The server responds with an error."""

    async def refuses_writes(self, watched: Watched, *reasons: str) -> None:
        """Write until the circuit opens; reads work all the while."""
        outcomes = []
        while watched.node.writing:
            outcomes.append(await watched.outcome(SET, purpose=WRITE))
        assert set(outcomes) <= set(reasons), outcomes
        assert outcomes
        assert await watched.outcome(SET, purpose=WRITE) == "open"
        assert await watched.outcome(GET) == [None]
        assert await watched.outcome(GET, purpose=CURRENT) == [None]
        assert watched.node.reading

    async def test_full_memory_opens_the_circuit_of_writes(self) -> None:
        """It closes when there is memory again."""
        server = start_redis(self, maxmemory="100mb", options=[("maxmemory-policy", "noeviction")])
        watched = await working_node(self, server.address)
        server.send("CONFIG", "SET", "maxmemory", "1")
        await self.refuses_writes(watched, "oom")
        server.send("CONFIG", "SET", "maxmemory", "0")
        await watched.works()
        assert await watched.outcome(SET, purpose=WRITE) == ["OK"]
        assert (False, False) not in watched.changes

    async def test_too_few_replicas_open_the_circuit_of_writes(self) -> None:
        """It closes when there are enough."""
        server = start_redis(self)
        watched = await working_node(self, server.address)
        server.send("CONFIG", "SET", "min-replicas-to-write", "1")
        await self.refuses_writes(watched, "noreplicas")
        server.send("CONFIG", "SET", "min-replicas-to-write", "0")
        await watched.works()

    async def test_a_demoted_primary_loses_its_connections(self) -> None:
        """They are replaced: the name may have another address."""
        server, other = start_redis(self), start_redis(self)
        watched = await working_node(self, server.address)
        before = set(watched.connections)
        server.send("REPLICAOF", *other.address)
        assert await watched.outcome(SET, purpose=WRITE) == "readonly"
        assert not watched.node.writing
        await watched.until(lambda: not before & set(watched.connections))
        assert await watched.outcome(GET) == [None]
        assert await watched.outcome(GET, purpose=CURRENT) == "readonly"
        server.send("REPLICAOF", "NO", "ONE")
        await watched.works()
        assert await watched.outcome(GET, purpose=CURRENT) == [None]
        assert (False, False) not in watched.changes

    async def test_a_loading_server_is_unavailable(self) -> None:
        """It reads its data from disk."""
        options = [
            ("key-load-delay", "100000"),
            ("loading-process-events-interval-bytes", "1024"),
            ("rdbcompression", "no"),
        ]
        server = start_redis(self, options=options)
        with server.client() as client:
            for index in range(100):
                client.send("SET", f"t:{index}", "x" * 1000)
            client.send("SAVE")
        watched = await working_node(self, server.address)
        server.restart(wait=False)
        server.wait_for("Loading RDB")
        await watched.until(lambda: any("LOADING" in why for why in watched.failures))
        assert await watched.outcome(GET) == "open"
        assert "LOADING" in watched.node.reason
        server.send("CONFIG", "SET", "key-load-delay", "0")
        await watched.works()
        assert await watched.outcome(command("GET", "t:1")) == [b"x" * 1000]

    async def test_server_errors_inside_scripts(self) -> None:
        """They concern the server as outside."""
        script = "return redis.call('SET', KEYS[1], 'x')"
        writing = command("EVALSHA", "0" * 40, "1", "t:a", script=script)
        server, other = start_redis(self), start_redis(self)
        watched = await working_node(self, server.address)
        for fault, mended, reason in (
            (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "oom"),
            (
                ("CONFIG", "SET", "min-replicas-to-write", "1"),
                ("CONFIG", "SET", "min-replicas-to-write", "0"),
                "noreplicas",
            ),
            (("REPLICAOF", *other.address), ("REPLICAOF", "NO", "ONE"), "readonly"),
        ):
            server.send(*fault)
            assert await watched.outcome(writing, purpose=WRITE) == reason
            server.send(*mended)
            await watched.works()
        assert await watched.outcome(writing, purpose=WRITE) == ["OK"]

    async def test_errors_of_one_key(self) -> None:
        """They are replies, and no failures of the server."""
        server = start_redis(self)
        watched = await working_node(self, server.address)
        own = command("EVAL", "return redis.error_reply('MINE and no other')", "0")
        for _ in range(5):
            replies: Any = await watched.outcome(
                SET, command("LPUSH", "t:a", "x"), GET, own, command("NONSENSE"), purpose=WRITE
            )
            assert [replies[0], replies[2]] == ["OK", b"1"]
            for index, word in ((1, "WRONGTYPE"), (3, "MINE"), (4, "ERR")):
                assert isinstance(replies[index], ResponseError)
                assert str(replies[index]).startswith(word)
        assert watched.node.writing
        assert watched.node.reading

    async def test_errors_of_a_cluster(self) -> None:
        """Redirections are replies, and no failures of the server."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address, pool_size=1)
        for word in ("MOVED", "ASK"):
            for _ in range(4):
                between.instead = f"-{word} 42 10.0.0.1:6379\r\n".encode()
                (reply,) = await watched.execute(GET)
                assert isinstance(reply, ResponseError)
                assert str(reply) == f"{word} 42 10.0.0.1:6379"
        for word in ("TRYAGAIN", "CLUSTERDOWN"):
            for _ in range(4):
                between.instead = f"-{word} Hash slot not served\r\n".encode()
                assert await watched.outcome(GET) in {"tryagain", "unserved"}
        assert watched.node.reading
        assert watched.node.writing

    async def test_asking_precedes_each_command(self) -> None:
        """It precedes the source of a script as well."""
        server = start_redis(self, options=[("cluster-enabled", "yes")])
        server.send("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        server.wait_for("Cluster state changed: ok")
        between = interpose(self, server.address)
        watched = await working_node(self, between.address)
        between.received.clear()
        script = command("EVALSHA", "0" * 40, "1", "t:b", script="return 5")
        replies = await watched.node.send([SET, script, GET], WRITE, TIMEOUT_S, asking=True)
        assert replies == ["OK", 5, b"1"]
        assert between.received.count(b"ASKING") == 4


class Scripts(TestCase):
    """The source of a script is sent to a server that does not have it."""

    async def test_an_unknown_script(self) -> None:
        """Its source is sent once; the other replies have their places."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address)
        source = "return ARGV[1]"
        name = server.send("SCRIPT", "LOAD", source)
        server.send("SCRIPT", "FLUSH")
        script = command("EVALSHA", name, "0", "x", script=source)
        for expected in (1, 1, 2):
            assert await watched.outcome(SET, script, GET, purpose=WRITE) == ["OK", b"x", b"1"]
            assert between.received.count(source.encode()) == expected
            if between.received.count(b"EVALSHA") == 2:
                server.send("SCRIPT", "FLUSH")

    async def test_a_script_without_source(self) -> None:
        """The error is the reply."""
        server = start_redis(self)
        watched = await working_node(self, server.address)
        (reply,) = await watched.execute(command("EVALSHA", "0" * 40, "0"))
        assert str(reply).startswith("NOSCRIPT")
