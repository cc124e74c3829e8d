"""A proxy between the mirror and a Redis server, with the faults of networks."""

from __future__ import annotations

from collections import deque
from typing import Any, cast

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase


class _Side(Protocol):
    """One end of a link; when it is lost, the other one is."""

    transport: Any

    def __init__(self, link: _Link) -> None:
        self.link = link
        self.gone: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)
        self.link.end()


class _Mirror(_Side):
    """The end that the mirror connects to."""

    def connectionMade(self) -> None:
        self.link.begin()

    def dataReceived(self, data: bytes) -> None:
        self.link.received(data)


class _Redis(_Side):
    """The end that leads to Redis."""

    def connectionMade(self) -> None:
        if self.link.ended:
            self.transport.abortConnection()
        else:
            self.link.flow()

    def dataReceived(self, data: bytes) -> None:
        self.link.reply_received(data)


class _Mirrors(Factory):
    noisy = False

    def __init__(self, interposer: Interposer) -> None:
        self.interposer = interposer

    def buildProtocol(self, addr: Any) -> Protocol:
        return _Link(self.interposer).mirror


class _Dialling(ClientFactory):
    noisy = False

    def __init__(self, link: _Link) -> None:
        self.link = link

    def buildProtocol(self, addr: Any) -> Protocol:
        self.link.redis = _Redis(self.link)
        return self.link.redis

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self.link.end()


@define(eq=False)
class _Link:
    """One connection from the mirror, and the one behind it."""

    owner: Interposer
    mirror: _Mirror = field(init=False)
    redis: _Redis | None = None
    held: list[bytes] = field(factory=list)
    dialled: bool = False
    ended: bool = False
    late: deque[bytes] = field(factory=deque)
    last_at: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.mirror = _Mirror(self)

    def begin(self) -> None:
        self.owner.links.append(self)
        self.owner.accepted += 1
        self.flow()

    def flow(self) -> None:
        """Forward held bytes, unless the link is silent."""
        if self.owner.silent:
            return
        if not self.dialled:
            self.dialled = True
            self.owner.reactor.connectTCP(*self.owner.target, _Dialling(self))
        elif self.redis is not None:
            held, self.held = self.held, []
            self.redis.transport.writeSequence(held)

    def received(self, data: bytes) -> None:
        self.owner.received += data
        self.held.append(data)
        self.flow()

    def reply_received(self, data: bytes) -> None:
        reactor = self.owner.reactor
        self.late.append(data)
        # no data overtakes earlier data
        self.last_at = max(self.last_at, reactor.seconds() + self.owner.delay_s)
        if self.last_at > reactor.seconds():
            reactor.callLater(self.last_at - reactor.seconds(), self._pass_on)
        else:
            self._pass_on()

    def _pass_on(self) -> None:
        owner = self.owner
        data = self.late.popleft()
        if owner.instead is not None:
            data, owner.instead = owner.instead, None
        if owner.cut_after is None:
            self.mirror.transport.write(data)
            return
        self.mirror.transport.write(data[: owner.cut_after])
        owner.cut_after = max(0, owner.cut_after - len(data))
        if not owner.cut_after:
            owner.cut_after = None
            self.mirror.transport.loseConnection()

    def end(self) -> None:
        """Abort both ends."""
        self.ended = True
        if self in self.owner.links:
            self.owner.links.remove(self)
        for side in (self.mirror, self.redis):
            if side is not None and side.transport is not None:
                cast("Any", side.transport).abortConnection()


@define(eq=False)
class Interposer:
    """Listens at *address* and passes on to *target*; what it does may be changed at any time.

    *delay_s*: the delay of replies. *silent*: it accepts connections and data, and forwards
    nothing; afterwards all held data is forwarded. *cut_after*: after so many bytes of the next
    reply that connection is closed. *instead*: replaces the next reply.
    *accepted*, *received*: the number of connections, and all data that was
    sent over them.
    """

    reactor: Any
    target: tuple[str, int]
    delay_s: float = 0.0
    _silent: bool = False
    cut_after: int | None = None
    instead: bytes | None = None
    accepted: int = 0
    received: bytearray = field(factory=bytearray)
    links: list[_Link] = field(factory=list)
    _port: IListeningPort = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._port = self.reactor.listenTCP(0, _Mirrors(self), interface="127.0.0.1")

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", cast("Any", self._port.getHost()).port

    @property
    def silent(self) -> bool:
        return self._silent

    @silent.setter
    def silent(self, silent: bool) -> None:
        self._silent = silent
        for link in list(self.links):
            link.flow()

    async def close(self) -> None:
        """Stop listening, and close all connections."""
        links = list(self.links)
        ends = [end.gone for link in links for end in (link.mirror, link.redis) if end is not None]
        for link in links:
            link.end()
        await gatherResults([*ends, cast("Deferred[Any]", self._port.stopListening())])


def interpose(test: TestCase, target: tuple[str, int]) -> Interposer:
    """Start a proxy of *target* until the end of the test."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    interposer = Interposer(reactor, target)
    test.addCleanup(lambda: Deferred.fromCoroutine(interposer.close()))
    return interposer
