"""The shards of a Redis Cluster: the map of slots, and a node for each primary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.logger import Logger

from ghmirror_tw.redis.cluster_slots import SlotMap, read_slots
from ghmirror_tw.redis.redis_node import RedisNode
from ghmirror_tw.redis.server_endpoint import Address
from ghmirror_tw.redis.servers_interface import (
    Command,
    Purpose,
    RedisUnavailableError,
    ServerFault,
)
from ghmirror_tw.runtime.event import Event
from ghmirror_tw.runtime.periodic_task import PeriodicTask

#: How often the map is fetched while all is well, in seconds, so that a new shard is found.
_INTERVAL_S: Final = 60.0
#: The timeout for CLUSTER SLOTS, in seconds.
_TIMEOUT_S: Final = 1.0
#: The timeout for connecting to the configured address, with the resolution of its name.
_SEED_TIMEOUT_S: Final = 5.0
#: How long new primaries are waited for before the map is fetched again, in seconds.
_NEW_PRIMARIES_S: Final = 1.0

_SLOTS: Final = Command((b"CLUSTER", b"SLOTS"))
_UNSERVED: Final = "there are slots without a shard"


@define(eq=False, kw_only=True)
class Shards:
    """Maintains the map of slots, and connections to all primaries in it.

    *seed*: the configured address. The map is fetched from it at first, and whenever no primary
    can be read. *make* makes a `RedisNode`, given ``address``, ``changed`` and what differs from
    node to node. *random* gives numbers from 0 to 1.
    """

    reactor: Any
    seed: Address
    make: Callable[..., RedisNode]
    random: Callable[[], float]
    _map: SlotMap = field(factory=SlotMap, init=False)
    _complete: bool = field(default=False, init=False)
    primaries: frozenset[Address] = field(default=frozenset(), init=False)
    nodes: dict[Address, RedisNode] = field(factory=dict, init=False)
    #: The nodes used since the map was last fetched, and redirections of single slots since then.
    _used: set[Address] = field(factory=set, init=False)
    _moved: dict[int, Address] = field(factory=dict, init=False)
    _seed_node: RedisNode | None = field(default=None, init=False)
    _refresh: PeriodicTask = field(init=False)
    _settled: Event = field(factory=Event, init=False)
    closing_nodes: set[Deferred[None]] = field(factory=set, init=False)
    #: Changes of the primaries, and returns of former ones.
    _past_return_count: int = field(default=0, init=False)
    _logged: str = field(default="", init=False)
    _closed: bool = field(default=False, init=False)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"), init=False)

    def __attrs_post_init__(self) -> None:
        self._refresh = PeriodicTask(
            name="fetching the Redis Cluster's slots",
            reactor=self.reactor,
            task=self._fetch,
            interval_s=_INTERVAL_S,
            random=self.random,
        )

    @property
    def known(self) -> bool:
        """Whether a map has been fetched."""
        return bool(self.primaries)

    @property
    def reading(self) -> bool:
        """Whether all slots have an owner that can be read."""
        return self._all(lambda node: node.reading)

    @property
    def writing(self) -> bool:
        """Whether all slots have an owner that can be written."""
        return self._all(lambda node: node.writing)

    @property
    def fault(self) -> ServerFault | None:
        """Why a slot has no owner that can be read and written; None: all have."""
        if not self._complete:
            return ServerFault(str(self.seed), self._logged or "its shards are not known yet")
        faults = (self.nodes[address].fault for address in sorted(self.primaries, key=str))
        return next((fault for fault in faults if fault is not None), None)

    @property
    def return_count(self) -> int:
        """How often a primary was available again, or replaced."""
        return self._past_return_count + sum(node.return_count for node in self.nodes.values())

    def _all(self, condition: Callable[[RedisNode], bool]) -> bool:
        return (
            self._complete
            and not self._closed
            and all(condition(self.nodes[address]) for address in self.primaries)
        )

    def open(self) -> None:
        """Begin to find the shards."""
        self.refresh()

    def settled(self) -> Deferred[None]:
        """Fire when the availability of the shards is known for the first time."""
        return self._settled.wait()

    def owner(self, slot: int) -> RedisNode | None:
        """Return the primary of *slot*; None: no shard has it."""
        address = self._map.owner(slot)
        return None if address is None else self.node(address)

    def all(self) -> tuple[RedisNode, ...]:
        """Return the primaries of all slots. Raises `RedisUnavailableError` if a slot has none."""
        if not self._complete or self._closed:
            raise RedisUnavailableError("clusterdown", f"Redis Cluster: {_UNSERVED}")
        return tuple(self.node(address) for address in sorted(self.primaries, key=str))

    def node(self, address: Address) -> RedisNode:
        """Return the node at *address*; a new one begins to connect."""
        self._used.add(address)
        node = self.nodes.get(address)
        if node is None:
            node = self.nodes[address] = self.make(
                address=address, changed=self._changed, clustered=True
            )
            node.open()
        return node

    def note_moved(self, slot: int, address: Address) -> RedisNode:
        """Note that *slot* has moved to *address*, and return the node there."""
        self._moved[slot] = address
        self._map.assign(slot, slot, address)
        self.primaries |= {address}
        node = self.node(address)
        self._set_probe_key(node)
        self.refresh()
        return node

    def refresh(self) -> None:
        """Fetch the map soon, with backoff."""
        self._refresh.run_soon()

    def close(self) -> Deferred[None]:
        """Close all connections, after a short time for outstanding replies."""
        self._closed = True
        self._refresh.close()
        for node in self.nodes.values():
            self._close_node(node)
        self._close_seed()
        self._settled.set()
        return DeferredList(list(self.closing_nodes)).addCallback(lambda _: None)

    def _changed(self, node: RedisNode) -> None:
        if not (node.reading and node.writing):
            self.refresh()

    async def _fetch(self) -> bool:
        """Fetch the map; return whether it is complete and all primaries are available."""
        await self.fetch_from_any()
        settled = [self.nodes[address].settled() for address in self.primaries]
        await DeferredList(settled, consumeErrors=True).addTimeout(_NEW_PRIMARIES_S, self.reactor)
        self._settled.set()
        return self.reading and self.writing and not self._moved

    async def fetch_from_any(self) -> None:
        """Fetch the map from the first node that has one: a primary, or else the seed."""
        moved, self._moved = self._moved, {}
        last = next(reversed(moved.values()), None)  # this node has a newer map
        nodes = [node for node in self.nodes.values() if node.reading]

        def order(node: RedisNode) -> tuple[bool, bool, float]:
            return node.address != last, node.address not in self.primaries, self.random()

        for node in sorted(nodes, key=order):
            if await self._fetch_from(node):
                self._close_seed()
                return
        if self._seed_node is None:
            self._seed_node = self.make(
                address=self.seed, changed=lambda _: None, primary=False, pool_size=1
            )
            self._seed_node.open()
        try:
            await self._seed_node.settled().addTimeout(_SEED_TIMEOUT_S, self.reactor)
        except DeferredTimeoutError:
            self._log_once("the configured address cannot be reached")
            return
        if await self._fetch_from(self._seed_node):
            self._close_seed()
        else:
            self._seed_node.renew()  # its name may be resolved to another address by then

    async def _fetch_from(self, node: RedisNode) -> bool:
        """Fetch the map from *node*; return whether it has one."""
        try:
            (reply,) = await node.send([_SLOTS], Purpose.READ, _TIMEOUT_S)
            slots = read_slots(reply, node.address)
        except RedisUnavailableError as error:
            self._log_once(error.why)
            return False
        except ValueError as error:
            self._log_once(f"invalid CLUSTER SLOTS from {node.address}: {error}")
            return False
        if not slots.primaries:
            self._log_once(f"{node.address} knows no shards")
            return False
        self._use(slots)
        return True

    def _use(self, slots: SlotMap) -> None:
        for slot, address in self._moved.items():  # these are later than the fetched map
            slots.assign(slot, slot, address)
        before, self.primaries = self.primaries, slots.primaries
        self._map, self._complete = slots, slots.is_complete
        if self.primaries != before:
            self._past_return_count += 1
            shown = ",".join(sorted(map(str, self.primaries)))
            self._log.info("Redis Cluster shards found: addresses={addresses}", addresses=shown)
        for address in self.nodes.keys() - self.primaries - self._used:
            self._close_node(self.nodes.pop(address))
        for address in self.primaries:
            self._set_probe_key(self.node(address))
        self._used.clear()
        self._log_once("" if self._complete else _UNSERVED)

    def _set_probe_key(self, node: RedisNode) -> None:
        """Let probes of *node* use a key of its own slots."""
        node.probe(b"%s{%s}" % (node.probe_key, self._map.tag(node.address)))

    def _close_node(self, node: RedisNode) -> None:
        self._past_return_count += node.return_count
        closing = node.close()
        self.closing_nodes.add(closing)
        closing.addBoth(lambda _: self.closing_nodes.discard(closing))

    def _close_seed(self) -> None:
        if self._seed_node is not None:
            node, self._seed_node = self._seed_node, None
            self._close_node(node)

    def _log_once(self, reason: str) -> None:
        if reason and reason != self._logged:
            self._log.warn("Redis Cluster incomplete: reason={reason}", reason=reason)
        self._logged = reason
