"""Nodes over real servers, and conditions to wait for."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from ghmirror_tw.redis.redis_connection import RedisConnection
from ghmirror_tw.redis.redis_node import RedisNode
from ghmirror_tw.redis.server_endpoint import Address, Credentials
from ghmirror_tw.redis.servers_interface import Command, Purpose, RedisUnavailableError, Reply

READ, CURRENT, WRITE = Purpose.READ, Purpose.CURRENT, Purpose.WRITE

SOON_S = 0.25
"""The timeout where a test waits for it to pass."""

TIMEOUT_S = 2.0
"""The timeout where none should pass, however busy the machine is."""


def command(*parts: str | bytes, script: str | None = None) -> Command:
    """Return a command of strings."""
    encoded = tuple(part if isinstance(part, bytes) else part.encode() for part in parts)
    return Command(encoded, None if script is None else script.encode())


GET = command("GET", "t:a")
SET = command("SET", "t:a", "1")


@define(eq=False)
class Watched:
    """A node, and conditions that are checked at each of its changes."""

    node: RedisNode = field(init=False)
    changes: list[tuple[bool, bool]] = field(factory=list)
    failures: list[str] = field(factory=list)
    _waiting: list[tuple[Callable[[], bool], Deferred[None]]] = field(factory=list)

    @property
    def connections(self) -> list[RedisConnection]:
        return self.node.pool.connections

    @property
    def outstanding_bytes(self) -> int:
        return sum(connection.outstanding_bytes for connection in self.connections)

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fire when the condition holds."""
        done: Deferred[None] = Deferred()
        self._waiting.append((condition, done))
        self.look()
        return done

    def works(self) -> Deferred[None]:
        return self.until(lambda: self.node.reading and self.node.writing)

    def fails(self) -> Deferred[None]:
        return self.until(lambda: not self.node.reading and not self.node.writing)

    def full(self) -> Deferred[None]:
        """Fire when it has all its connections, and none is stale."""
        return self.until(
            lambda: (
                len(self.connections) == self.node.pool_size
                and not any(connection.stale for connection in self.connections)
            )
        )

    def look(self) -> None:
        waiting, self._waiting = self._waiting, []
        for condition, done in waiting:
            if condition():
                done.callback(None)
            else:
                self._waiting.append((condition, done))

    def changed(self, node: RedisNode) -> None:
        self.changes.append((node.reading, node.writing))
        self.look()

    def watch(self, node: RedisNode) -> None:
        self.node = node
        connected, missing = node.pool.on_connected, node.pool.on_missing

        def on_connected() -> None:
            connected()
            self.look()

        def on_missing(why: str) -> None:
            self.failures.append(why)
            missing(why)
            self.look()

        node.pool.on_connected, node.pool.on_missing = on_connected, on_missing

    def execute(self, *commands: Command, purpose: Purpose = READ) -> Deferred[list[Reply]]:
        return self.node.send(commands, purpose, self.node.timeout_s)

    async def outcome(self, *commands: Command, purpose: Purpose = READ) -> Any:
        """Return the replies, or the reason of the failure."""
        try:
            return await self.execute(*commands, purpose=purpose)
        except RedisUnavailableError as error:
            return error.reason


def watched_node(test: TestCase, address: Address | tuple[str, int], **changes: Any) -> Watched:
    """Return a node that is closed at the end of the test; it is not opened yet."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    watched = Watched()
    given: dict[str, Any] = {
        "reactor": reactor,
        "address": address if isinstance(address, Address) else Address(*address),
        "pool_size": 4,
        "timeout_s": TIMEOUT_S,
        "credentials": Credentials,
        "trust": None,
        "database": 0,
        "probe_key": b"t:probe",
        "changed": watched.changed,
        "random": random.random,
    }
    watched.watch(RedisNode(**{**given, **changes}))
    test.addCleanup(watched.node.close)
    return watched


async def working_node(
    test: TestCase, address: Address | tuple[str, int], **changes: Any
) -> Watched:
    """Return a node that is available, with all its connections."""
    watched = watched_node(test, address, **changes)
    watched.node.open()
    await watched.works()
    await watched.full()
    return watched
