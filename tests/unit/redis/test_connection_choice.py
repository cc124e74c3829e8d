"""Which connection the commands of one moment use."""

from __future__ import annotations

from twisted.internet.defer import DeferredList
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from ghmirror_tw.redis import redis_connection as connection_module
from ghmirror_tw.redis.servers_interface import Command
from tests.harness.redis_servers import start_redis
from tests.unit.redis.watched_nodes import GET, Watched, command, working_node


class Together(TestCase):
    """A node with two connections."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        self.watched: Watched = await working_node(self, self.server.address, pool_size=2)

    def busy(self) -> list[int]:
        return [len(connection.sent) for connection in self.watched.connections]

    async def test_small_commands_share_a_connection(self) -> None:
        """They are sent together."""
        self.patch(connection_module, "_SWIFT_REPLY_S", 60.0)
        sent = [self.watched.execute(GET) for _ in range(20)]
        assert self.busy() == [20, 0]
        assert await DeferredList(sent) == [(True, [None])] * 20
        assert self.busy() == [0, 0]
        assert [each.load_bytes for each in self.watched.connections] == [0, 0]

    async def test_no_command_queues_behind_content(self) -> None:
        """Neither behind a large command, nor behind a large reply."""
        self.patch(connection_module, "_SWIFT_REPLY_S", 60.0)
        for large in (command("SET", "t:b", "x" * 100_000), Command((b"GET", b"t:b"), large=True)):
            first = self.watched.execute(large)
            small = [self.watched.execute(GET) for _ in range(5)]
            assert self.busy() == [1, 5]
            await DeferredList([first, *small])

    async def test_a_slow_connection_gets_no_more_commands(self) -> None:
        """Its reply is later than usual."""
        self.patch(connection_module, "_SWIFT_REPLY_S", 0.0)
        self.server.pause()
        sent = [self.watched.execute(GET)]
        await deferLater(self.watched.node.reactor, 0.001)
        sent += [self.watched.execute(GET) for _ in range(3)]
        assert self.busy() == [2, 2]
        self.server.resume()
        assert await DeferredList(sent) == [(True, [None])] * 4
