"""Failures of servers and networks, and the commands that are under way meanwhile."""

from __future__ import annotations

import gc
import time
from typing import Any

from twisted.internet.defer import CancelledError, DeferredList
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from ghmirror_tw.redis.pipeline import _Pipeline
from tests.fakes.interposer import interpose
from tests.harness.redis_servers import start_redis
from tests.unit.redis.watched_nodes import (
    CURRENT,
    GET,
    READ,
    SET,
    SOON_S,
    WRITE,
    command,
    watched_node,
    working_node,
)


def pipelines() -> int:
    """Return the number of pipelines in memory, with or without outstanding replies."""
    gc.collect()
    return sum(isinstance(each, _Pipeline) for each in gc.get_objects())


class Unreachable(TestCase):
    """The server is not running."""

    async def test_commands_to_an_unreachable_server_fail_at_once(self) -> None:
        """No pipeline stays in memory."""
        server = start_redis(self)
        server.kill()
        watched = watched_node(self, server.address)
        watched.node.open()
        await watched.node.settled()
        assert not watched.node.reading
        sent = [watched.execute(GET, purpose=READ) for _ in range(1000)]
        assert all(deferred.called for deferred in sent)
        results: Any = await DeferredList(sent, consumeErrors=True)
        assert not any(success for success, _ in results)
        assert pipelines() == 0
        server.start()
        await watched.works()
        assert await watched.outcome(GET) == [None]

    async def test_a_killed_server_is_used_again_after_a_restart(self) -> None:
        """No command is sent meanwhile."""
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

    async def test_a_killed_server_fails_commands_under_way(self) -> None:
        """Before their timeout."""
        server = start_redis(self)
        watched = await working_node(self, server.address, timeout_s=60.0)
        server.pause()
        sent = [watched.execute(GET) for _ in range(20)]
        watched.node.reactor.callLater(0, server.kill)
        results: Any = await DeferredList(sent, consumeErrors=True)
        assert {failure.value.reason for _, failure in results} == {"lost"}


class Silent(TestCase):
    """The server is running, and does not reply."""

    async def test_few_commands_wait_for_a_paused_server(self) -> None:
        """After their timeouts the others fail at once; no pipeline stays in memory."""
        server = start_redis(self)
        watched = await working_node(self, server.address, timeout_s=SOON_S)
        server.pause()
        first = [watched.execute(GET) for _ in range(1000)]
        results: Any = await DeferredList(first, consumeErrors=True)
        assert {failure.value.reason for _, failure in results} == {"timeout"}
        await watched.fails()
        for _ in range(1000):
            assert await watched.outcome(GET) == "open"
        await watched.until(lambda: not watched.connections)
        assert pipelines() <= 1  # a trial
        assert watched.outstanding_bytes == 0
        server.resume()
        await watched.works()
        await watched.full()
        assert await watched.outcome(GET) == [None]

    async def test_only_probes_are_sent_while_the_circuit_is_open(self) -> None:
        """One at a time, for reading."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address, pool_size=1, timeout_s=SOON_S)
        between.silent = True
        while await watched.outcome(GET) != "open":
            pass
        between.received.clear()
        await watched.until(lambda: not watched.connections)
        trials = between.received.count(b"PING")
        assert trials >= 1
        assert between.received == trials * (
            b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$7\r\nt:probe\r\n"
        )

    async def test_there_is_one_probe_at_a_time(self) -> None:
        """However often the server is reachable."""
        server = start_redis(self)
        watched = await working_node(self, server.address, timeout_s=1.0)
        server.pause()
        await DeferredList([watched.execute(GET) for _ in range(3)], consumeErrors=True)
        assert not watched.node.reading
        for _ in range(5):
            watched.node.health.note_reachable()
            await deferLater(watched.node.reactor, 0)
        assert sum(len(connection.sent) for connection in watched.connections) == 3 + 2

    async def test_a_failure_is_noticed_without_commands(self) -> None:
        """Idle connections send PING."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address, idle_s=0.5, timeout_s=SOON_S)
        between.silent = True
        await watched.fails()
        assert "no reply" in watched.failures
        between.silent = False
        await watched.works()

    async def test_connections_without_replies_are_aborted(self) -> None:
        """New commands do not queue behind lost ones."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address, timeout_s=SOON_S)
        lost = list(watched.connections)
        between.silent = True
        await DeferredList([watched.execute(GET) for _ in range(8)], consumeErrors=True)
        await watched.until(lambda: not set(lost) & set(watched.connections))
        between.silent = False
        await watched.works()
        await watched.full()
        assert len(between.links) == 4


class Late(TestCase):
    """Replies arrive after the timeout."""

    async def test_a_slow_server_opens_the_circuit(self) -> None:
        """A probe in time closes it."""
        server = start_redis(self)
        server.send("SET", "t:a", "x")
        between = interpose(self, server.address)
        watched = await working_node(self, between.address, timeout_s=SOON_S)
        between.delay_s = 2 * SOON_S
        outcomes = [await watched.outcome(GET) for _ in range(4)]
        assert outcomes == ["timeout", "timeout", "timeout", "open"]
        between.delay_s = 0.0
        await watched.works()
        assert await watched.outcome(GET) == [b"x"]

    async def test_late_replies_belong_to_no_other_command(self) -> None:
        """So do those to cancelled commands."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address, pool_size=1, timeout_s=SOON_S)
        between.delay_s = 1.2 * SOON_S
        assert await watched.outcome(command("ECHO", "late")) == "timeout"
        between.delay_s = 0.0
        cancelled = watched.execute(command("ECHO", "given up"))
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        assert await watched.outcome(command("ECHO", "mine")) == [b"mine"]

    async def test_a_blocked_reactor_is_no_failure_of_redis(self) -> None:
        """Its time does not count for the timeout."""
        server = start_redis(self)
        watched = await working_node(self, server.address, timeout_s=SOON_S)
        for busy_s in (0.9 * SOON_S, 1.5 * SOON_S, 8 * SOON_S):
            sent = [watched.execute(GET) for _ in range(5)]
            time.sleep(busy_s)  # noqa: ASYNC251 - nothing else may run
            for each in sent:
                assert await each == [None]
        assert watched.node.reading
        assert len(watched.connections) == 4

    async def test_replies_during_the_last_block_are_in_time(self) -> None:
        """They are read before the timeout ends."""
        server = start_redis(self)
        watched = await working_node(self, server.address, timeout_s=1.0)
        server.pause()
        sent = watched.execute(GET)

        def busy() -> None:
            server.resume()
            time.sleep(0.5)

        # not from a timer: due timers are called after it, before anything is read
        watched.node.reactor.callLater(0.85, watched.node.reactor.callFromThread, busy)
        assert await sent == [None]


class Broken(TestCase):
    """Connections break."""

    async def test_a_connection_breaks_within_a_reply(self) -> None:
        """The command fails, and the next one succeeds."""
        server = start_redis(self)
        server.send("SET", "t:a", "x" * 100_000)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address)
        between.cut_after = 40_000
        assert await watched.outcome(GET) == "lost"
        assert await watched.outcome(GET) == [b"x" * 100_000]
        await watched.full()

    async def test_all_connections_break_at_once(self) -> None:
        """They are replaced."""
        server = start_redis(self)
        watched = await working_node(self, server.address)
        server.send("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await watched.fails()
        await watched.works()
        await watched.full()

    async def test_a_server_that_is_not_redis(self) -> None:
        """The connection is closed."""
        server = start_redis(self)
        between = interpose(self, server.address)
        watched = await working_node(self, between.address)
        between.instead = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        assert await watched.outcome(GET) == "lost"
        assert await watched.outcome(GET) == [None]
