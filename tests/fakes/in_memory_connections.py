"""Ends of connections in memory, for parsers of messages."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

HOST = IPv4Address("TCP", "127.0.0.1", 80)


class ClientTransport(StringTransport):
    """The connection of a client; *ended*: the server has closed it, or one half of it."""

    def __init__(self) -> None:
        super().__init__(HOST, HOST)
        self.ended = False

    def loseConnection(self) -> None:
        self.ended = True
        super().loseConnection()

    def abortConnection(self) -> None:
        self.ended = True

    def loseWriteConnection(self) -> None:
        self.ended = True


class ContentCollector(Protocol):
    """Collects the content of a response; *end* is complete, uncertain or broken."""

    def __init__(self) -> None:
        self.content = b""
        self.end = ""

    def dataReceived(self, data: bytes) -> None:
        self.content += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert not self.end
        kinds = {ResponseDone: "complete", PotentialDataLoss: "uncertain"}
        self.end = next((end for kind, end in kinds.items() if reason.check(kind)), "broken")
