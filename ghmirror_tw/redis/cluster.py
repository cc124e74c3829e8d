"""A store whose servers are a Redis Cluster."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn, TypeAlias

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Late
from twisted.internet.task import deferLater
from txredisapi import ResponseError
from zope.interface import implementer

from ghmirror_tw.redis.address import Address
from ghmirror_tw.redis.error_replies import code_of
from ghmirror_tw.redis.node import Node
from ghmirror_tw.redis.servers_interface import (
    Command,
    IServers,
    Purpose,
    RedisUnavailableError,
    Reply,
)
from ghmirror_tw.redis.shards import Shards
from ghmirror_tw.redis.slots import read_redirection, slot_of_tag

#: So often one asking is sent on; a cluster that sends it round in circles would do so for ever.
REDIRECTIONS: Final = 5
#: Keys that are on their way are asked for again after so long.
_PAUSE_S: Final = 0.01
#: With less time than this a node is not asked a second time: it would be blamed for being late.
_FAIR_S: Final = 0.02
#: After these the map may be out of date.
_OUTDATED: Final = frozenset({"lost", "timeout", "clusterdown"})

#: Who is to be asked: an address, and whether to say ASKING there. None: whoever has the slot.
_Way: TypeAlias = tuple[Address, bool] | None


@implementer(IServers)
@define(eq=False)
class Cluster:
    """Asks the primary that has the keys, and goes where it is sent.

    A shard that is away makes only its own slots `RedisUnavailableError`.
    """

    shards: Shards
    reactor: Any
    sharded: bool = True
    reads_primary: bool = True

    @property
    def reading(self) -> bool:
        """Whether each slot has an owner, and all of them answer questions."""
        return self.shards.reading

    @property
    def writing(self) -> bool:
        """Whether each slot has an owner, and all of them take changes."""
        return self.shards.writing

    @property
    def returns(self) -> int:
        """How often a shard has come back, or another server has become its primary."""
        return self.shards.returns

    def open(self) -> None:
        """Begin to find the shards and to connect to them."""
        self.shards.open()

    def settled(self) -> Deferred[None]:
        """Fire when it is known for the first time which shards can be asked."""
        return self.shards.settled()

    def ask(
        self, slot: bytes, commands: Sequence[Command], purpose: Purpose, timeout_s: float
    ) -> Deferred[list[Reply]]:
        """Send *commands* together, and return a reply to each; *slot* is their hash tag."""
        asking = _Asking(
            self.shards,
            self.reactor,
            slot_of_tag(slot),
            commands,
            purpose,
            self.reactor.seconds() + timeout_s,
        )
        return Deferred.fromCoroutine(asking.carry_out())

    def nodes(self) -> tuple[Node, ...]:
        """Return the primaries of all shards."""
        return self.shards.all()

    def primaries(self) -> tuple[Node, ...]:
        """Return the primaries of all shards."""
        return self.shards.all()

    def close(self) -> Deferred[None]:
        """Close all connections."""
        return self.shards.close()


@define(eq=False)
class _Asking:
    """Commands, wherever they have to go until the clock is at *deadline*."""

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

    async def carry_out(self) -> list[Reply]:
        """Return all replies; only what was not carried out is ever sent again."""
        todo: dict[_Way, list[int]] = {None: list(range(len(self.commands)))}
        while todo:
            way = next(iter(todo))
            later = await self._send(way, todo.pop(way))
            for other, indices in later.items():
                todo[other] = sorted([*todo.get(other, ()), *indices])
            if None in later:
                await self._pause()
            elif later:
                self.redirections += 1
                if self.redirections > REDIRECTIONS:
                    self._fail("redirections", "one shard sends on to the other")
                if self.left_s < _FAIR_S:
                    self._fail("timeout", "no time left to ask another shard")
        return self.replies

    async def _send(self, way: _Way, indices: Sequence[int]) -> dict[_Way, list[int]]:
        """Send some of the commands to one node; return those that have to go elsewhere."""
        node = await self._reach(way)
        asked = [self.commands[index] for index in indices]
        asking = way is not None and way[1]
        try:
            replies = await node.ask(asked, self.purpose, self.left_s, asking=asking)
        except RedisUnavailableError as error:
            if error.reason in _OUTDATED:
                self.shards.refresh()
            raise
        later: dict[_Way, list[int]] = {}
        for index, reply in zip(indices, replies, strict=True):
            if isinstance(reply, ResponseError):
                sent_on, other = self._judge(str(reply), node)
                if sent_on:
                    later.setdefault(other, []).append(index)
                    continue
            self.replies[index] = reply
        return later

    async def _reach(self, way: _Way) -> Node:
        """Return the node to ask, as soon as it is known whether it can be asked."""
        if not self.shards.known:
            self._fail("unconnected", "its shards are not known yet")
        node = self.shards.owner(self.slot) if way is None else self.shards.node(way[0])
        if node is None:
            self.shards.refresh()
            self._fail("clusterdown", f"nobody has slot {self.slot}")
        works = node.writing if self.purpose is Purpose.WRITE else node.reading
        if not works and self.left_s > 0:
            # at once, unless it is a new one
            with suppress(Late):
                await node.settled().addTimeout(self.left_s, self.reactor)
            if self.left_s < _FAIR_S:
                self._fail("unconnected", f"{node.address} has not been reached yet")
        return node

    def _judge(self, error: str, node: Node) -> tuple[bool, _Way]:
        """Return whether an error says to ask again, and whom."""
        code = code_of(error)
        if code == "UNSERVED":
            self.shards.refresh()
            self._fail("clusterdown", f"{node.address} says that nobody has slot {self.slot}")
        if code == "TRYAGAIN":
            return True, None
        try:
            redirection = read_redirection(error, node.address)
        except ValueError as wrong:
            self._fail("redirections", f"{node.address} sends on to nobody: {wrong}")
        if redirection is None:
            return False, None
        if not redirection.once:
            self.shards.moved(redirection.slot, redirection.address)
        return True, (redirection.address, redirection.once)

    async def _pause(self) -> None:
        await deferLater(self.reactor, min(_PAUSE_S, max(0.0, self.left_s)))
        if self.left_s < _FAIR_S:
            self._fail("tryagain", "keys are on their way to another shard")

    def _fail(self, reason: str, why: str) -> NoReturn:
        raise RedisUnavailableError(reason, f"Redis Cluster: {why}")
