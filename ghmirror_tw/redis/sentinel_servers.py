"""Servers under Sentinel: the primary is discovered, and followed after a failover."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.logger import Logger
from zope.interface import implementer

from ghmirror_tw.redis.redis_node import RedisNode
from ghmirror_tw.redis.sentinel_queries import PrimaryFinder
from ghmirror_tw.redis.server_endpoint import Address
from ghmirror_tw.redis.servers_interface import (
    Command,
    IServers,
    Purpose,
    RedisUnavailableError,
    Reply,
    ServerFault,
)
from ghmirror_tw.runtime.event import Event
from ghmirror_tw.runtime.periodic_task import PeriodicTask

#: How often Sentinels are queried while all is well: a demoted primary may stay reachable.
_CHECK_S: Final = 10.0
#: The timeout for connecting to a new primary and for its ROLE, in seconds.
_TIMEOUT_S: Final = 2.0

_ROLE: Final = Command((b"ROLE",))
_UNKNOWN_PRIMARY: Final = "the primary is not known yet"


@implementer(IServers)
@define(eq=False, kw_only=True)
class Sentinels:
    """Sends commands to the primary that *finder* has found, and that confirms its role.

    It is looked for when connections to the primary break, when the primary responds that it is
    none, when its circuit opens, and every *check_s*. Until another one is found, the last primary
    is used. *make* makes a `RedisNode`, given ``address`` and ``changed``. *changed* is called when
    another server has become the primary. *random* gives numbers from 0 to 1.
    """

    reactor: Any
    finder: PrimaryFinder
    make: Callable[..., RedisNode]
    random: Callable[[], float]
    changed: Callable[[], object] = lambda: None
    check_s: float = _CHECK_S
    sharded: bool = False
    reads_primary: bool = True
    _node: RedisNode | None = field(default=None, init=False)
    #: Changes of the primary, and returns of former primaries.
    _past_return_count: int = field(default=0, init=False)
    _search: PeriodicTask = field(init=False)
    closing_nodes: set[Deferred[None]] = field(factory=set, init=False)
    _settled: Event = field(factory=Event, init=False)
    logged_reason: str = field(default="", init=False)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"), init=False)

    def __attrs_post_init__(self) -> None:
        self._search = PeriodicTask(
            name="search for the Redis primary",
            reactor=self.reactor,
            task=self._find,
            interval_s=self.check_s,
            random=self.random,
        )

    @property
    def primary(self) -> Address | None:
        """The address of the primary, if it is known."""
        return None if self._node is None else self._node.address

    @property
    def reading(self) -> bool:
        """Whether the primary can be read."""
        return self._node is not None and self._node.reading

    @property
    def writing(self) -> bool:
        """Whether the primary can be written."""
        return self._node is not None and self._node.writing

    @property
    def fault(self) -> ServerFault | None:
        """Why the primary cannot be read or written, or has not been found; None: it can."""
        if self._node is None:
            return ServerFault("", self.logged_reason or _UNKNOWN_PRIMARY)
        return self._node.fault

    @property
    def return_count(self) -> int:
        """How often the primary was available again, or replaced."""
        return self._past_return_count + (0 if self._node is None else self._node.return_count)

    def open(self) -> None:
        """Begin to look for the primary."""
        self._search.run_soon()

    def settled(self) -> Deferred[None]:
        """Fire when it is known for the first time whether there is a primary."""
        return self._settled.wait()

    def send(
        self,
        hash_tag: bytes,  # noqa: ARG002
        commands: Sequence[Command],
        purpose: Purpose,
        timeout_s: float,
    ) -> Deferred[list[Reply]]:
        """Send *commands* together."""
        if self._node is None:
            return fail(_unknown_primary())
        return self._node.send(commands, purpose, timeout_s)

    def nodes(self) -> tuple[RedisNode, ...]:
        """Return the primary."""
        if self._node is None:
            raise _unknown_primary()
        return (self._node,)

    def primaries(self) -> tuple[RedisNode, ...]:
        """Return the primary."""
        return self.nodes()

    def close(self) -> Deferred[None]:
        """Close all connections, after a short time for outstanding replies."""
        self._search.close()
        if self._node is not None:
            self._close_node(self._node)
        self._settled.set()
        return DeferredList(list(self.closing_nodes)).addCallback(lambda _: None)

    def _changed(self, node: RedisNode) -> None:
        if node is self._node and not (node.reading and node.writing):
            self._search.run_soon()

    async def _find(self) -> bool:
        """Find the primary; return whether there is one that can be read and written."""
        address = await self.finder.find()
        if address is None:
            self._log_once(self.finder.reason)
        elif address != self.primary:
            await self._try(address)
        else:
            self.logged_reason = ""
        self._settled.set()
        return self.reading and self.writing

    async def _try(self, address: Address) -> None:
        """Use the server at *address*, if it confirms that it is a primary."""
        node = self.make(address=address, changed=self._changed)
        node.open()
        unused: RedisNode | None = node
        try:
            await node.settled().addTimeout(_TIMEOUT_S, self.reactor)
            if await self._is_primary(node):
                unused, self._node = self._node, node
                self._past_return_count += 1 + (0 if unused is None else unused.return_count)
                self.logged_reason = ""
                self._log.info("Redis primary found: address={address}", address=address)
                self.changed()
            else:
                self._log_once(f"Sentinels name {address}, which is not a primary")
        except RedisUnavailableError as error:
            self._log_once(error.why)
        except DeferredTimeoutError:
            self._log_once(f"Sentinels name {address}, which cannot be reached")
        finally:
            if unused is not None:
                self._close_node(unused)

    async def _is_primary(self, node: RedisNode) -> bool:
        try:
            (reply,) = await node.send([_ROLE], Purpose.READ, _TIMEOUT_S)
        except RedisUnavailableError as error:
            if error.reason != "noperm":
                raise
            return node.writing  # without permission for ROLE, a successful write is the proof
        return isinstance(reply, list) and reply[:1] == [b"master"]

    def _close_node(self, node: RedisNode) -> None:
        closing = node.close()
        self.closing_nodes.add(closing)
        closing.addBoth(lambda _: self.closing_nodes.discard(closing))

    def _log_once(self, reason: str) -> None:
        if reason != self.logged_reason:
            self.logged_reason = reason
            self._log.warn("Redis primary not found: reason={reason}", reason=reason)


def _unknown_primary() -> RedisUnavailableError:
    return RedisUnavailableError("unconnected", f"Redis: {_UNKNOWN_PRIMARY}")
