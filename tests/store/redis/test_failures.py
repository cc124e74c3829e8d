"""What Redis servers and networks do, and what becomes of what is asked meanwhile."""

from __future__ import annotations

import gc
import time
from typing import Any

from twisted.internet.defer import CancelledError, DeferredList
from twisted.trial.unittest import TestCase
from txredisapi import ResponseError

from ghmirror_tw.store.redis.exchange import _Exchange
from tests.interposer import interpose
from tests.redis_servers import RedisServer, start_redis
from tests.store.redis.nodes import (
    CURRENT,
    GET,
    READ,
    SET,
    TIMEOUT_S,
    WRITE,
    Watched,
    command,
    watched_node,
    working_node,
)


def exchanges() -> int:
    """Count what still waits for replies, or is kept by somebody although it does not."""
    gc.collect()
    return sum(isinstance(each, _Exchange) for each in gc.get_objects())


class Gone(TestCase):
    """The server is not there."""

    async def test_never_there(self) -> None:
        """What is asked fails at once, all of it, and nothing of it is kept."""
        server = start_redis(self)
        server.kill()
        watched = watched_node(self, server.address)
        watched.node.open()
        await watched.node.settled()
        assert not watched.node.reading
        asked = [watched.ask(GET, purpose=READ) for _ in range(1000)]
        assert all(deferred.called for deferred in asked)
        results: Any = await DeferredList(asked, consumeErrors=True)
        assert not any(success for success, _ in results)
        assert exchanges() == 0
        server.start()
        await watched.works()
        assert await watched.outcome(GET) == [None]

    async def test_killed(self) -> None:
        """It is noticed at once, asks no more until it is back, and then works by itself."""
        server = start_redis(self)
        watched = await working_node(self, server.address)
        assert await watched.outcome(SET, GET, purpose=WRITE) == ["OK", b"1"]
        server.kill()
        await watched.fails()
        for purpose in (READ, CURRENT, WRITE):
            assert await watched.outcome(GET, purpose=purpose) == "open"
        server.restart()
        await watched.works()
        await watched.full()
        assert await watched.outcome(GET) == [None]
        assert watched.changes[0] == (True, False)
        assert watched.changes[-1] == (True, True)
        assert (False, False) in watched.changes

    async def test_while_asked(self) -> None:
        """Whoever waits for a reply when it dies learns so, before its time is up."""
        server = start_redis(self)
        watched = await working_node(self, server.address, timeout_s=60.0)
        server.pause()
        asked = [watched.ask(GET) for _ in range(20)]
        watched.node.reactor.callLater(0, server.kill)
        results: Any = await DeferredList(asked, consumeErrors=True)
        assert {failure.value.reason for _, failure in results} == {"lost"}


class Silent(TestCase):
    """The server is there and says nothing."""

    async def test_paused(self) -> None:
        """A few wait for their time to be up, nobody else does; what they sent is not kept."""
        server = start_redis(self)
        watched = await working_node(self, server.address)
        server.pause()
        first = [watched.ask(GET) for _ in range(1000)]
        results: Any = await DeferredList(first, consumeErrors=True)
        assert {failure.value.reason for _, failure in results} == {"timeout"}
        await watched.fails()
        for _ in range(1000):
            assert await watched.outcome(GET) == "open"
        await watched.until(lambda: not watched.connections)
        assert exchanges() <= 1  # a trial
        assert watched.outstanding_bytes == 0
        server.resume()
        await watched.works()
        await watched.full()
        assert await watched.outcome(GET) == [None]

    async def test_nobody_is_the_guinea_pig(self) -> None:
        """While it is left alone, only trials reach it, one at a time, for reading."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address, pool_size=1)
        between.silent = True
        while await watched.outcome(GET) != "open":
            pass
        between.asked.clear()
        await watched.until(lambda: not watched.connections)
        trials = between.asked.count(b"PING")
        assert trials >= 1
        assert between.asked == trials * (
            b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$7\r\nt:probe\r\n"
        )

    async def test_noticed_when_idle(self) -> None:
        """Even if nobody asks anything: an idle connection is tried now and then."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address, idle_s=0.5)
        between.silent = True
        await watched.fails()
        assert "it does not answer" in watched.failures
        between.silent = False
        await watched.works()

    async def test_connections_that_lead_nowhere(self) -> None:
        """They are aborted, so that what comes back does not wait behind what is lost."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address)
        lost = list(watched.connections)
        between.silent = True
        await DeferredList([watched.ask(GET) for _ in range(8)], consumeErrors=True)
        await watched.until(lambda: not set(lost) & set(watched.connections))
        between.silent = False
        await watched.works()
        await watched.full()
        assert len(between.links) == 4


class Late(TestCase):
    """Replies come, but not in time."""

    async def test_slow(self) -> None:
        """Slowness counts as failing; it is over when a trial is in time again."""
        server = start_redis(self)
        server.ask("SET", "t:a", "x")
        between = interpose(self, server.address)
        watched = await working_node(self, between.address)
        between.delay_s = 2 * TIMEOUT_S
        outcomes = [await watched.outcome(GET) for _ in range(4)]
        assert outcomes == ["timeout", "timeout", "timeout", "open"]
        between.delay_s = 0.0
        await watched.works()
        assert await watched.outcome(GET) == [b"x"]

    async def test_own_replies(self) -> None:
        """A reply that comes late is nobody else's, nor is one that somebody gave up."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address, pool_size=1)
        between.delay_s = 1.2 * TIMEOUT_S
        assert await watched.outcome(command("ECHO", "late")) == "timeout"
        between.delay_s = 0.0
        given_up = watched.ask(command("ECHO", "given up"))
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        assert await watched.outcome(command("ECHO", "mine")) == [b"mine"]

    async def test_a_reactor_that_is_held_up(self) -> None:
        """What keeps this process busy is not taken for the slowness of Redis."""
        server = start_redis(self)
        watched = await working_node(self, server.address)
        for busy_s in (0.9 * TIMEOUT_S, 1.5 * TIMEOUT_S, 8 * TIMEOUT_S):
            asked = [watched.ask(GET) for _ in range(5)]
            time.sleep(busy_s)  # noqa: ASYNC251 - nothing else may run
            for each in asked:
                assert await each == [None]
        assert watched.node.reading
        assert len(watched.connections) == 4

    async def test_held_up_at_the_end(self) -> None:
        """What has come in while this process was busy is looked at before it is called late."""
        server = start_redis(self)
        watched = await working_node(self, server.address, timeout_s=1.0)
        server.pause()
        asked = watched.ask(GET)

        def busy() -> None:
            server.resume()
            time.sleep(0.5)

        watched.node.reactor.callLater(0.85, busy)
        assert await asked == [None]


class Broken(TestCase):
    """Connections break."""

    async def test_half_way_through_a_reply(self) -> None:
        """Half a reply is none, and the next one is whole."""
        server = start_redis(self)
        server.ask("SET", "t:a", "x" * 100_000)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address)
        between.cut_after = 40_000
        assert await watched.outcome(GET) == "lost"
        assert await watched.outcome(GET) == [b"x" * 100_000]
        await watched.full()

    async def test_all_at_once(self) -> None:
        """It is made anew, and works."""
        server = start_redis(self)
        watched = await working_node(self, server.address)
        server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await watched.fails()
        await watched.works()
        await watched.full()

    async def test_not_redis(self) -> None:
        """Whoever says what Redis never says is left."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address)
        between.instead = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        assert await watched.outcome(GET) == "lost"
        assert await watched.outcome(GET) == [None]


class Errors(TestCase):
    """The server says what it can't do."""

    async def refuses_writes(self, watched: Watched, *reasons: str) -> None:
        """Ask until writing is left alone; reading goes on all the while."""
        outcomes = []
        while watched.node.writing:
            outcomes.append(await watched.outcome(SET, purpose=WRITE))
        assert set(outcomes) <= set(reasons), outcomes
        assert outcomes
        assert await watched.outcome(SET, purpose=WRITE) == "open"
        assert await watched.outcome(GET) == [None]
        assert await watched.outcome(GET, purpose=CURRENT) == [None]
        assert watched.node.reading

    async def test_out_of_memory(self) -> None:
        """It can't be written, but read; and written again when there is room."""
        server = start_redis(self, maxmemory="100mb", options=[("maxmemory-policy", "noeviction")])
        watched = await working_node(self, server.address)
        server.ask("CONFIG", "SET", "maxmemory", "1")
        await self.refuses_writes(watched, "oom")
        server.ask("CONFIG", "SET", "maxmemory", "0")
        await watched.works()
        assert await watched.outcome(SET, purpose=WRITE) == ["OK"]
        assert (False, False) not in watched.changes

    async def test_no_replicas(self) -> None:
        """Neither while it has too few replicas."""
        server = start_redis(self)
        watched = await working_node(self, server.address)
        server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
        await self.refuses_writes(watched, "noreplicas")
        server.ask("CONFIG", "SET", "min-replicas-to-write", "0")
        await watched.works()

    async def test_not_primary_any_more(self) -> None:
        """All connections are made anew, since the name may lead elsewhere by now."""
        server, other = start_redis(self), start_redis(self)
        watched = await working_node(self, server.address)
        before = set(watched.connections)
        server.ask("REPLICAOF", *other.address)
        assert await watched.outcome(SET, purpose=WRITE) == "readonly"
        assert not watched.node.writing
        await watched.until(lambda: not before & set(watched.connections))
        assert await watched.outcome(GET) == [None]
        assert await watched.outcome(GET, purpose=CURRENT) == "readonly"
        server.ask("REPLICAOF", "NO", "ONE")
        await watched.works()
        assert await watched.outcome(GET, purpose=CURRENT) == [None]
        assert (False, False) not in watched.changes

    async def test_loading(self) -> None:
        """A server that reads its data from disk is not there yet."""
        options = [
            ("key-load-delay", "100000"),
            ("loading-process-events-interval-bytes", "1024"),
            ("rdbcompression", "no"),
        ]
        server = start_redis(self, options=options)
        with server.client() as client:
            for index in range(100):
                client.ask("SET", f"t:{index}", "x" * 1000)
            client.ask("SAVE")
        watched = await working_node(self, server.address)
        server.restart(wait=False)
        server.wait_for("Loading RDB")
        await watched.until(lambda: any("LOADING" in why for why in watched.failures))
        assert await watched.outcome(GET) == "open"
        assert "LOADING" in watched.node.why
        server.ask("CONFIG", "SET", "key-load-delay", "0")
        await watched.works()
        assert await watched.outcome(command("GET", "t:1")) == [b"x" * 1000]

    async def test_inside_scripts(self) -> None:
        """What a command inside a script is told of the server speaks of the server."""
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
            server.ask(*fault)
            assert await watched.outcome(writing, purpose=WRITE) == reason
            server.ask(*mended)
            await watched.works()
        assert await watched.outcome(writing, purpose=WRITE) == ["OK"]

    async def test_of_one_key(self) -> None:
        """They stand in their place, and count for nothing."""
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

    async def test_of_a_cluster(self) -> None:
        """Who else has a key is for the cluster's layer to act on, and counts as an answer."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address, pool_size=1)
        for word in ("MOVED", "ASK"):
            for _ in range(4):
                between.instead = f"-{word} 42 10.0.0.1:6379\r\n".encode()
                (reply,) = await watched.ask(GET)
                assert isinstance(reply, ResponseError)
                assert str(reply) == f"{word} 42 10.0.0.1:6379"
        for word in ("TRYAGAIN", "CLUSTERDOWN"):
            for _ in range(4):
                between.instead = f"-{word} Hash slot not served\r\n".encode()
                assert await watched.outcome(GET) in {"tryagain", "unserved"}
        assert watched.node.reading

    async def test_asking(self) -> None:
        """Each command is preceded by ASKING, a script sent anew too."""
        server = RedisServer(options=[("cluster-enabled", "yes")])
        self.addCleanup(server.remove)
        server.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        server.wait_for("Cluster state changed: ok")
        between = interpose(self, server.address)
        watched = await working_node(self, between.address)
        between.asked.clear()
        script = command("EVALSHA", "0" * 40, "1", "t:b", script="return 5")
        replies = await watched.node.ask([SET, script, GET], WRITE, TIMEOUT_S, asking=True)
        assert replies == ["OK", 5, b"1"]
        assert between.asked.count(b"ASKING") == 4


class Scripts(TestCase):
    """A script goes to a server that does not know it."""

    async def test_unknown(self) -> None:
        """It is sent whole, once; the others' replies stay where they are."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address)
        source = "return ARGV[1]"
        name = server.ask("SCRIPT", "LOAD", source)
        server.ask("SCRIPT", "FLUSH")
        script = command("EVALSHA", name, "0", "x", script=source)
        for expected in (1, 1, 2):
            assert await watched.outcome(SET, script, GET, purpose=WRITE) == ["OK", b"x", b"1"]
            assert between.asked.count(source.encode()) == expected
            if between.asked.count(b"EVALSHA") == 2:
                server.ask("SCRIPT", "FLUSH")

    async def test_without_its_source(self) -> None:
        """Who gives none gets the error."""
        server = start_redis(self)
        watched = await working_node(self, server.address)
        (reply,) = await watched.ask(command("EVALSHA", "0" * 40, "0"))
        assert str(reply).startswith("NOSCRIPT")
