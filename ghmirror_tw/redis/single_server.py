"""The simple ways to have a store's servers: one, or a primary and a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from attrs import define
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.python.failure import Failure
from zope.interface import implementer

from ghmirror_tw.redis.node import Node
from ghmirror_tw.redis.servers_interface import (
    Command,
    IServers,
    Purpose,
    RedisUnavailableError,
    Reply,
)

#: After these nobody knows whether the server carried the commands out.
_UNKNOWN: Final = frozenset({"timeout", "lost"})


@implementer(IServers)
@define(eq=False)
class Single:
    """One server for everything."""

    node: Node
    sharded: bool = False
    reads_primary: bool = True

    @property
    def reading(self) -> bool:
        """Whether it answers questions."""
        return self.node.reading

    @property
    def writing(self) -> bool:
        """Whether it takes changes."""
        return self.node.writing

    @property
    def returns(self) -> int:
        """How often it has come back."""
        return self.node.returns

    def open(self) -> None:
        """Begin to connect."""
        self.node.open()

    def settled(self) -> Deferred[None]:
        """Fire when it is known for the first time whether the server can be asked."""
        return self.node.settled()

    def ask(
        self,
        slot: bytes,  # noqa: ARG002
        commands: Sequence[Command],
        purpose: Purpose,
        timeout_s: float,
    ) -> Deferred[list[Reply]]:
        """Send *commands* together, and return a reply to each."""
        return self.node.ask(commands, purpose, timeout_s)

    def nodes(self) -> tuple[Node, ...]:
        """Return the one that there is."""
        return (self.node,)

    def primaries(self) -> tuple[Node, ...]:
        """Return the one that there is."""
        return (self.node,)

    def close(self) -> Deferred[None]:
        """Close all connections."""
        return self.node.close()


@implementer(IServers)
@define(eq=False)
class PrimaryAndReader:
    """A primary, and an endpoint of its replicas for what may lag.

    What the reader can't answer, and has not begun to, the primary is asked.
    """

    primary: Node
    reader: Node
    reactor: Any
    sharded: bool = False
    reads_primary: bool = False

    @property
    def reading(self) -> bool:
        """Whether the primary answers questions: some are for nobody else."""
        return self.primary.reading

    @property
    def writing(self) -> bool:
        """Whether the primary takes changes."""
        return self.primary.writing

    @property
    def returns(self) -> int:
        """How often the primary has come back."""
        return self.primary.returns

    def open(self) -> None:
        """Begin to connect to both."""
        self.primary.open()
        self.reader.open()

    def settled(self) -> Deferred[None]:
        """Fire when it is known for the first time of both whether they can be asked."""
        both = DeferredList([self.primary.settled(), self.reader.settled()])
        return both.addCallback(lambda _: None)

    def ask(
        self,
        slot: bytes,  # noqa: ARG002
        commands: Sequence[Command],
        purpose: Purpose,
        timeout_s: float,
    ) -> Deferred[list[Reply]]:
        """Send *commands* together, and return a reply to each."""
        if purpose is not Purpose.READ or not self.reader.reading:
            return self.primary.ask(commands, purpose, timeout_s)
        began = self.reactor.seconds()

        def refused(failure: Failure) -> Deferred[list[Reply]]:
            error = failure.value
            if not isinstance(error, RedisUnavailableError) or error.reason in _UNKNOWN:
                return fail(failure)
            left_s = timeout_s - (self.reactor.seconds() - began)
            return self.primary.ask(commands, purpose, left_s)

        asked = self.reader.ask(commands, purpose, timeout_s)
        return asked.addErrback(refused)

    def nodes(self) -> tuple[Node, ...]:
        """Return the reader, or the primary if that one doesn't answer."""
        return (self.reader if self.reader.reading else self.primary,)

    def primaries(self) -> tuple[Node, ...]:
        """Return the primary."""
        return (self.primary,)

    def close(self) -> Deferred[None]:
        """Close all connections."""
        both = DeferredList([self.primary.close(), self.reader.close()])
        return both.addCallback(lambda _: None)
