"""A store whose primary is named by Sentinels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.defer import TimeoutError as Late
from twisted.logger import Logger
from zope.interface import implementer

from ghmirror_tw.redis.address import Address
from ghmirror_tw.redis.node import Node
from ghmirror_tw.redis.rounds import Rounds
from ghmirror_tw.redis.sentinel_queries import Finder
from ghmirror_tw.redis.servers_interface import (
    Command,
    IServers,
    Purpose,
    RedisUnavailableError,
    Reply,
)
from ghmirror_tw.redis.settling import Settling

#: While all is well Sentinels are asked so often: a primary may be demoted and stay reachable.
_CHECK_S: Final = 10.0
#: How long who is said to be the primary may take to be reached and to say so itself.
_TIMEOUT_S: Final = 2.0

_ROLE: Final = Command((b"ROLE",))


@implementer(IServers)
@define(eq=False, kw_only=True)
class Sentinels:
    """Asks the primary that *finder* finds, once it has said itself that it is one.

    It is looked for when connections to it break, when it says that it is none, when it is left
    alone for its failures, and every *check_s*. As long as nobody knows better, the last one is
    asked. *make*: `Node`, with everything given but ``address`` and ``changed``. *changed* is
    called when another server has become the primary. *random* gives numbers from 0 to 1.
    """

    reactor: Any
    finder: Finder
    make: Callable[..., Node]
    random: Callable[[], float]
    changed: Callable[[], object] = lambda: None
    check_s: float = _CHECK_S
    sharded: bool = False
    reads_primary: bool = True
    _node: Node | None = field(default=None, init=False)
    #: How often the primary was another one, and how often earlier ones had come back.
    _changes: int = field(default=0, init=False)
    _rounds: Rounds = field(init=False)
    _leaving: set[Deferred[None]] = field(factory=set, init=False)
    _settling: Settling = field(factory=Settling, init=False)
    _said: str = field(default="", init=False)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"), init=False)

    def __attrs_post_init__(self) -> None:
        self._rounds = Rounds(
            reactor=self.reactor, act=self._look, seldom_s=self.check_s, random=self.random
        )

    @property
    def primary(self) -> Address | None:
        """Where the primary is, as far as is known."""
        return None if self._node is None else self._node.address

    @property
    def reading(self) -> bool:
        """Whether the primary answers questions."""
        return self._node is not None and self._node.reading

    @property
    def writing(self) -> bool:
        """Whether the primary takes changes."""
        return self._node is not None and self._node.writing

    @property
    def returns(self) -> int:
        """How often the primary has come back, or another server has become it."""
        return self._changes + (0 if self._node is None else self._node.returns)

    def open(self) -> None:
        """Begin to look for the primary."""
        self._rounds.hurry()

    def settled(self) -> Deferred[None]:
        """Fire when it is known for the first time whether there is a primary to ask."""
        return self._settling.wait()

    def ask(
        self,
        slot: bytes,  # noqa: ARG002
        commands: Sequence[Command],
        purpose: Purpose,
        timeout_s: float,
    ) -> Deferred[list[Reply]]:
        """Send *commands* together, and return a reply to each."""
        if self._node is None:
            return fail(RedisUnavailableError("unconnected", "Redis: the primary is not known yet"))
        return self._node.ask(commands, purpose, timeout_s)

    def nodes(self) -> tuple[Node, ...]:
        """Return the primary."""
        if self._node is None:
            raise RedisUnavailableError("unconnected", "Redis: the primary is not known yet")
        return (self._node,)

    def primaries(self) -> tuple[Node, ...]:
        """Return the primary."""
        return self.nodes()

    def close(self) -> Deferred[None]:
        """Close all connections; what has been sent is waited for, but not for long."""
        self._rounds.close()
        if self._node is not None:
            self._leave(self._node)
        self._settling.settle()
        return DeferredList(list(self._leaving)).addCallback(lambda _: None)

    def _changed(self, node: Node) -> None:
        if node is self._node and not (node.reading and node.writing):
            self._rounds.hurry()

    async def _look(self) -> bool:
        """Find the primary, and go over to it; return whether there is one that works."""
        address = await self.finder.find()
        if address is None:
            self._say(self.finder.why)
        elif address != self.primary:
            await self._try(address)
        else:
            self._said = ""
        self._settling.settle()
        return self.reading and self.writing

    async def _try(self, address: Address) -> None:
        """Go over to *address*, if who is there is a primary indeed."""
        node = self.make(address=address, changed=self._changed)
        node.open()
        left: Node | None = node
        try:
            await node.settled().addTimeout(_TIMEOUT_S, self.reactor)
            if await self._is_primary(node):
                left, self._node = self._node, node
                self._changes += 1 + (0 if left is None else left.returns)
                self._said = ""
                self._log.info("Redis: the primary is {address}", address=address)
                self.changed()
            else:
                self._say(f"Sentinels name {address}, which is no primary")
        except RedisUnavailableError as error:
            self._say(error.why)
        except Late:
            self._say(f"Sentinels name {address}, which can't be reached")
        finally:
            if left is not None:
                self._leave(left)

    async def _is_primary(self, node: Node) -> bool:
        try:
            (reply,) = await node.ask([_ROLE], Purpose.READ, _TIMEOUT_S)
        except RedisUnavailableError as error:
            if error.reason != "noperm":
                raise
            return node.writing  # who may not ask for it has written something there, at least
        return isinstance(reply, list) and reply[:1] == [b"master"]

    def _leave(self, node: Node) -> None:
        closing = node.close()
        self._leaving.add(closing)
        closing.addBoth(lambda _: self._leaving.discard(closing))

    def _say(self, why: str) -> None:
        if why != self._said:
            self._said = why
            self._log.warn("Redis: {why}", why=why)
