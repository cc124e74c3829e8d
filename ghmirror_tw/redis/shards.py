"""The shards of a Redis Cluster: who has which slots, and a node for each primary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.defer import TimeoutError as Late
from twisted.logger import Logger

from ghmirror_tw.redis.address import Address
from ghmirror_tw.redis.node import Node
from ghmirror_tw.redis.rounds import Rounds
from ghmirror_tw.redis.servers_interface import Command, Purpose, RedisUnavailableError
from ghmirror_tw.redis.settling import Settling
from ghmirror_tw.redis.slots import SlotMap, read_slots

#: While all is well the map is fetched so often, so that a shard that was added is found.
_SLOWLY_S: Final = 60.0
#: What a node may take to say who has which slots.
_TIMEOUT_S: Final = 1.0
#: How long the configured address may take to be found, name and all.
_SEED_TIMEOUT_S: Final = 5.0
#: How long primaries that are new may take to be reached, before others are asked about them.
_SETTLING_S: Final = 1.0

_SLOTS: Final = Command((b"CLUSTER", b"SLOTS"))


@define(eq=False, kw_only=True)
class Shards:
    """Keeps the map of slots, and connections to all primaries in it.

    *seed*: the configured address. It is asked first, and again when no primary can be asked.
    *make*: `Node`, with everything given but ``address``, ``changed`` and what differs from node
    to node. *random* gives numbers from 0 to 1.
    """

    reactor: Any
    seed: Address
    make: Callable[..., Node]
    random: Callable[[], float]
    _map: SlotMap = field(factory=SlotMap, init=False)
    _complete: bool = field(default=False, init=False)
    _primaries: frozenset[Address] = field(default=frozenset(), init=False)
    _nodes: dict[Address, Node] = field(factory=dict, init=False)
    #: Who was asked since the map was last fetched, and what they said of single slots meanwhile.
    _asked: set[Address] = field(factory=set, init=False)
    _news: dict[int, Address] = field(factory=dict, init=False)
    _seed_node: Node | None = field(default=None, init=False)
    _rounds: Rounds = field(init=False)
    _settling: Settling = field(factory=Settling, init=False)
    _leaving: set[Deferred[None]] = field(factory=set, init=False)
    #: How often other servers became the primaries, and how often those came back that were left.
    _changes: int = field(default=0, init=False)
    _said: str = field(default="", init=False)
    _closed: bool = field(default=False, init=False)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"), init=False)

    def __attrs_post_init__(self) -> None:
        self._rounds = Rounds(
            reactor=self.reactor, act=self._fetch, seldom_s=_SLOWLY_S, random=self.random
        )

    @property
    def known(self) -> bool:
        """Whether there is a map at all."""
        return bool(self._primaries)

    @property
    def reading(self) -> bool:
        """Whether each slot has an owner, and all of them answer questions."""
        return self._all(lambda node: node.reading)

    @property
    def writing(self) -> bool:
        """Whether each slot has an owner, and all of them take changes."""
        return self._all(lambda node: node.writing)

    @property
    def returns(self) -> int:
        """How often a primary has come back, or another server has become one."""
        return self._changes + sum(node.returns for node in self._nodes.values())

    def _all(self, holds: Callable[[Node], bool]) -> bool:
        return (
            self._complete
            and not self._closed
            and all(holds(self._nodes[address]) for address in self._primaries)
        )

    def open(self) -> None:
        """Begin to find out who there is."""
        self.refresh()

    def settled(self) -> Deferred[None]:
        """Fire when it is known for the first time which shards can be asked."""
        return self._settling.wait()

    def owner(self, slot: int) -> Node | None:
        """Return the primary of *slot*, if anybody has it."""
        address = self._map.owner(slot)
        return None if address is None else self.node(address)

    def all(self) -> tuple[Node, ...]:
        """Return the primaries of all slots. Raises `RedisUnavailableError` if a slot has none."""
        if not self._complete or self._closed:
            raise RedisUnavailableError(
                "clusterdown", "Redis Cluster: there are slots that nobody has"
            )
        return tuple(self.node(address) for address in sorted(self._primaries, key=str))

    def node(self, address: Address) -> Node:
        """Return the node at *address*, which may have begun to connect only now."""
        self._asked.add(address)
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = self.make(
                address=address, changed=self._changed, clustered=True
            )
            node.open()
        return node

    def moved(self, slot: int, address: Address) -> Node:
        """Take note that *slot* is at *address* now, and return the node there."""
        self._news[slot] = address
        self._map.take(slot, slot, address)
        self._primaries |= {address}
        node = self.node(address)
        self._give_probe_key(node)
        self.refresh()
        return node

    def refresh(self) -> None:
        """See to it that the map is fetched soon, but never twice at a time or in a row."""
        self._rounds.hurry()

    def close(self) -> Deferred[None]:
        """Close all connections; what has been sent is waited for, but not for long."""
        self._closed = True
        self._rounds.close()
        for node in self._nodes.values():
            self._leave(node)
        self._leave_seed()
        self._settling.settle()
        return DeferredList(list(self._leaving)).addCallback(lambda _: None)

    def _changed(self, node: Node) -> None:
        if not (node.reading and node.writing):
            self.refresh()

    # Fetching the map

    async def _fetch(self) -> bool:
        """Find out who has which slots; return whether all of it is known and works."""
        await self._ask_around()
        nodes = [self._nodes[address].settled() for address in self._primaries]
        await DeferredList(nodes, consumeErrors=True).addTimeout(_SETTLING_S, self.reactor)
        self._settling.settle()
        return self.reading and self.writing and not self._news

    async def _ask_around(self) -> None:
        """Take the map of whoever has one: a primary of the last one, or else the seed."""
        news, self._news = self._news, {}
        last = next(reversed(news.values()), None)  # who was said to have something new knows it
        nodes = [node for node in self._nodes.values() if node.reading]

        def order(node: Node) -> tuple[bool, bool, float]:
            return node.address != last, node.address not in self._primaries, self.random()

        for node in sorted(nodes, key=order):
            if await self._take_from(node):
                self._leave_seed()
                return
        if self._seed_node is None:
            self._seed_node = self.make(
                address=self.seed, changed=lambda _: None, primary=False, pool_size=1
            )
            self._seed_node.open()
        try:
            await self._seed_node.settled().addTimeout(_SEED_TIMEOUT_S, self.reactor)
        except Late:
            self._say("its configured address can't be found")
            return
        if await self._take_from(self._seed_node):
            self._leave_seed()
        else:
            self._seed_node.renew()  # its name may lead elsewhere by then

    async def _take_from(self, node: Node) -> bool:
        """Ask *node* who has which slots; return whether it knew."""
        try:
            (reply,) = await node.ask([_SLOTS], Purpose.READ, _TIMEOUT_S)
            slots = read_slots(reply, node.address)
        except RedisUnavailableError as error:
            self._say(error.why)
            return False
        except ValueError as error:
            self._say(f"what {node.address} says of its slots is not understood: {error}")
            return False
        if not slots.primaries:
            self._say(f"{node.address} knows nobody who has slots")
            return False
        self._take(slots)
        return True

    def _take(self, slots: SlotMap) -> None:
        for slot, address in self._news.items():  # later than what was asked for
            slots.take(slot, slot, address)
        before, self._primaries = self._primaries, slots.primaries
        self._map, self._complete = slots, slots.is_complete
        if self._primaries != before:
            self._changes += 1
            shown = ", ".join(sorted(map(str, self._primaries)))
            self._log.info("Redis Cluster: the shards are {shards}", shards=shown)
        for address in self._nodes.keys() - self._primaries - self._asked:
            self._leave(self._nodes.pop(address))
        for address in self._primaries:
            self._give_probe_key(self.node(address))
        self._asked.clear()
        self._say("" if self._complete else "there are slots that nobody has")

    def _give_probe_key(self, node: Node) -> None:
        """Let *node* be tried with a key that it has itself."""
        node.probe(b"%s{%s}" % (node.probe_key, self._map.tag(node.address)))

    def _leave(self, node: Node) -> None:
        self._changes += node.returns
        closing = node.close()
        self._leaving.add(closing)
        closing.addBoth(lambda _: self._leaving.discard(closing))

    def _leave_seed(self) -> None:
        if self._seed_node is not None:
            node, self._seed_node = self._seed_node, None
            self._leave(node)

    def _say(self, why: str) -> None:
        if why and why != self._said:
            self._log.warn("Redis Cluster: {why}", why=why)
        self._said = why
