"""A Redis Cluster: commands are sent to the shard of their keys, and follow redirections.

https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn, TypeAlias

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.task import deferLater
from txredisapi import ResponseError
from zope.interface import implementer

from ghmirror_tw.redis.cluster_shards import Shards
from ghmirror_tw.redis.cluster_slots import read_redirection, slot_of_tag
from ghmirror_tw.redis.error_codes import code_of
from ghmirror_tw.redis.redis_node import RedisNode
from ghmirror_tw.redis.server_endpoint import Address
from ghmirror_tw.redis.servers_interface import (
    Command,
    IServers,
    Purpose,
    RedisUnavailableError,
    Reply,
    ServerFault,
)

#: So many redirections are followed, so that a loop ends.
MAX_REDIRECTIONS: Final = 5
#: The delay before commands for keys that are being migrated are sent again, in seconds.
_MIGRATION_PAUSE_S: Final = 0.01
#: With less time left than this, no other node is tried: its circuit would count the timeout.
_MIN_TIME_S: Final = 0.02
#: After these failures the slot map may be outdated.
_OUTDATED: Final = frozenset({"lost", "timeout", "clusterdown"})

#: The destination of commands: an address, and whether to send ASKING. None: the slot's owner.
_Route: TypeAlias = tuple[Address, bool] | None


@implementer(IServers)
@define(eq=False)
class Cluster:
    """Sends commands to the primary of their slot.

    While a shard is unavailable, only its own slots fail with `RedisUnavailableError`.
    """

    shards: Shards
    reactor: Any
    sharded: bool = True
    reads_primary: bool = True

    @property
    def reading(self) -> bool:
        """Whether all slots have an owner that can be read."""
        return self.shards.reading

    @property
    def writing(self) -> bool:
        """Whether all slots have an owner that can be written."""
        return self.shards.writing

    @property
    def fault(self) -> ServerFault | None:
        """Why a slot has no owner that can be read and written; None: all have."""
        return self.shards.fault

    @property
    def return_count(self) -> int:
        """How often a primary was available again, or replaced."""
        return self.shards.return_count

    def open(self) -> None:
        """Begin to find the shards and to connect to them."""
        self.shards.open()

    def settled(self) -> Deferred[None]:
        """Fire when the availability of the shards is known for the first time."""
        return self.shards.settled()

    def send(
        self, hash_tag: bytes, commands: Sequence[Command], purpose: Purpose, timeout_s: float
    ) -> Deferred[list[Reply]]:
        """Send *commands* together; *hash_tag* is that of their keys."""
        pipeline = _ClusterPipeline(
            self.shards,
            self.reactor,
            slot_of_tag(hash_tag),
            commands,
            purpose,
            self.reactor.seconds() + timeout_s,
        )
        return Deferred.fromCoroutine(pipeline.run())

    def nodes(self) -> tuple[RedisNode, ...]:
        """Return the primaries of all shards."""
        return self.shards.all()

    def primaries(self) -> tuple[RedisNode, ...]:
        """Return the primaries of all shards."""
        return self.shards.all()

    def close(self) -> Deferred[None]:
        """Close all connections."""
        return self.shards.close()


@define(eq=False)
class _ClusterPipeline:
    """Commands for one slot, which are sent on until *deadline* by the reactor's clock."""

    shards: Shards
    reactor: Any
    slot: int
    commands: Sequence[Command]
    purpose: Purpose
    deadline: float
    replies: list[Reply] = field(init=False)
    redirections: int = 0

    def __attrs_post_init__(self) -> None:
        self.replies = [None] * len(self.commands)

    @property
    def left_s(self) -> float:
        left_s: float = self.deadline - self.reactor.seconds()
        return left_s

    async def run(self) -> list[Reply]:
        """Return all replies. Only commands that were not executed are sent again."""
        pending: dict[_Route, list[int]] = {None: list(range(len(self.commands)))}
        while pending:
            route = next(iter(pending))
            redirected = await self._send(route, pending.pop(route))
            for other, indices in redirected.items():
                pending[other] = sorted([*pending.get(other, ()), *indices])
            if None in redirected:
                await self._pause()
            elif redirected:
                self.redirections += 1
                if self.redirections > MAX_REDIRECTIONS:
                    self._fail("redirections", "shards redirect to each other")
                if self.left_s < _MIN_TIME_S:
                    self._fail("timeout", "no time is left for another shard")
        return self.replies

    async def _send(self, route: _Route, indices: Sequence[int]) -> dict[_Route, list[int]]:
        """Send some of the commands to one node; return those to be sent again, by route."""
        node = await self._node_for(route)
        commands = [self.commands[index] for index in indices]
        asking = route is not None and route[1]
        try:
            replies = await node.send(commands, self.purpose, self.left_s, asking=asking)
        except RedisUnavailableError as error:
            if error.reason in _OUTDATED:
                self.shards.refresh()
            raise
        redirected: dict[_Route, list[int]] = {}
        for index, reply in zip(indices, replies, strict=True):
            if isinstance(reply, ResponseError):
                again, other = self._redirection(str(reply), node)
                if again:
                    redirected.setdefault(other, []).append(index)
                    continue
            self.replies[index] = reply
        return redirected

    async def _node_for(self, route: _Route) -> RedisNode:
        """Return the node of a route, as soon as its availability is known."""
        if not self.shards.known:
            self._fail("unconnected", "its shards are not known yet")
        node = self.shards.owner(self.slot) if route is None else self.shards.node(route[0])
        if node is None:
            self.shards.refresh()
            self._fail("clusterdown", f"no shard has slot {self.slot}")
        available = node.writing if self.purpose is Purpose.WRITE else node.reading
        if not available and self.left_s > 0:
            # This waits only for a node that is new.
            with suppress(DeferredTimeoutError):
                await node.settled().addTimeout(self.left_s, self.reactor)
            if self.left_s < _MIN_TIME_S:
                self._fail("unconnected", f"{node.address} has not been reached yet")
        return node

    def _redirection(self, error: str, node: RedisNode) -> tuple[bool, _Route]:
        """Return whether a command has to be sent again after *error*, and by which route."""
        code = code_of(error)
        if code == "UNSERVED":
            self.shards.refresh()
            self._fail("clusterdown", f"no shard has slot {self.slot}, by {node.address}")
        if code == "TRYAGAIN":
            return True, None
        try:
            redirection = read_redirection(error, node.address)
        except ValueError as wrong:
            self._fail("redirections", f"invalid redirection from {node.address}: {wrong}")
        if redirection is None:
            return False, None
        if not redirection.once:
            self.shards.note_moved(redirection.slot, redirection.address)
        return True, (redirection.address, redirection.once)

    async def _pause(self) -> None:
        await deferLater(self.reactor, min(_MIGRATION_PAUSE_S, max(0.0, self.left_s)))
        if self.left_s < _MIN_TIME_S:
            self._fail("tryagain", "the keys are being migrated to another shard")

    def _fail(self, reason: str, why: str) -> NoReturn:
        raise RedisUnavailableError(reason, f"Redis Cluster: {why}")
