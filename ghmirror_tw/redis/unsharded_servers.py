"""Servers without shards: a single one, or a primary with an endpoint of its replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from attrs import define
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.python.failure import Failure
from zope.interface import implementer

from ghmirror_tw.redis.redis_node import RedisNode
from ghmirror_tw.redis.servers_interface import (
    Command,
    IServers,
    Purpose,
    RedisUnavailableError,
    Reply,
    ServerFault,
)

#: After these failures the server may have executed the commands.
_MAYBE_EXECUTED: Final = frozenset({"timeout", "lost"})


@implementer(IServers)
@define(eq=False)
class SingleServer:
    """One server for all purposes."""

    primary: RedisNode
    sharded: ClassVar[bool] = False
    reads_primary: ClassVar[bool] = True

    @property
    def reading(self) -> bool:
        """Whether the primary can be read."""
        return self.primary.reading

    @property
    def writing(self) -> bool:
        """Whether the primary can be written."""
        return self.primary.writing

    @property
    def fault(self) -> ServerFault | None:
        """Why the primary cannot be read or written; None: it can."""
        return self.primary.fault

    @property
    def return_count(self) -> int:
        """How often the primary was available again."""
        return self.primary.return_count

    def open(self) -> None:
        """Begin to connect."""
        self.primary.open()

    def settled(self) -> Deferred[None]:
        """Fire when its availability is known for the first time."""
        return self.primary.settled()

    def send(
        self,
        hash_tag: bytes,  # noqa: ARG002
        commands: Sequence[Command],
        purpose: Purpose,
        timeout_s: float,
    ) -> Deferred[list[Reply]]:
        """Send *commands* together."""
        return self.primary.send(commands, purpose, timeout_s)

    def nodes(self) -> tuple[RedisNode, ...]:
        """Return the one node."""
        return (self.primary,)

    def primaries(self) -> tuple[RedisNode, ...]:
        """Return the primary."""
        return (self.primary,)

    def close(self) -> Deferred[None]:
        """Close all connections."""
        return self.primary.close()


@define(eq=False)
class PrimaryAndReader(SingleServer):
    """A primary, and an endpoint of its replicas for READ.

    If the reader has not executed the commands, they are sent to the primary.
    """

    reader: RedisNode
    reactor: Any
    reads_primary: ClassVar[bool] = False

    def open(self) -> None:
        """Begin to connect to both."""
        self.primary.open()
        self.reader.open()

    def settled(self) -> Deferred[None]:
        """Fire when the availability of both is known for the first time."""
        both = DeferredList([self.primary.settled(), self.reader.settled()])
        return both.addCallback(lambda _: None)

    def send(
        self,
        hash_tag: bytes,  # noqa: ARG002
        commands: Sequence[Command],
        purpose: Purpose,
        timeout_s: float,
    ) -> Deferred[list[Reply]]:
        """Send *commands* together."""
        if purpose is not Purpose.READ or not self.reader.reading:
            return self.primary.send(commands, purpose, timeout_s)
        began = self.reactor.seconds()

        def send_to_primary(failure: Failure) -> Deferred[list[Reply]]:
            error = failure.value
            if not isinstance(error, RedisUnavailableError) or error.reason in _MAYBE_EXECUTED:
                return fail(failure)
            left_s = timeout_s - (self.reactor.seconds() - began)
            return self.primary.send(commands, purpose, left_s)

        replies = self.reader.send(commands, purpose, timeout_s)
        return replies.addErrback(send_to_primary)

    def nodes(self) -> tuple[RedisNode, ...]:
        """Return the reader, or the primary if the reader is unavailable."""
        return (self.reader if self.reader.reading else self.primary,)

    def close(self) -> Deferred[None]:
        """Close all connections."""
        both = DeferredList([self.primary.close(), self.reader.close()])
        return both.addCallback(lambda _: None)
