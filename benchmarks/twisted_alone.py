"""What is no mirror: the least that Twisted takes to ask GitHub for each GET, and to answer it.

Sockets, the reactor and two dictionaries. What comes is taken to be one whole message, and what it
says is neither parsed nor judged; nothing is refused, counted, kept within bounds or told apart
but by its bytes. It is here to be measured beside the mirror, and good for nothing else::

    python benchmarks/twisted_alone.py PORT PORT_OF_GITHUB
"""

from __future__ import annotations

import re
import sys
from typing import Any, Final

from twisted.internet import reactor as the_reactor
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.python.failure import Failure

_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"(?i)\ncontent-length: *(\d+)")
_TAG: Final = re.compile(rb"(?i)\netag: *([^\r]+)")

_idle: Final[list[Requesting]] = []
#: By request line and fields: an entity-tag, and all of the answer.
_stored: Final[dict[bytes, tuple[bytes, bytes]]] = {}
reactor: Any = the_reactor


class Requesting(Protocol):
    """A connection to GitHub."""

    transport: Any

    def __init__(self, client: Answering, request: bytes) -> None:
        self.send = client, request

    def connectionMade(self) -> None:
        """Ask what it was made for."""
        self.transport.setTcpNoDelay(True)
        self.put(*self.send)

    def put(self, client: Answering, request: bytes) -> None:
        """Put a question, a conditional one if there is an answer to it."""
        self.send, self.came = (client, request), b""
        stored = _stored.get(request)
        if stored is not None:
            line, _, fields = request.partition(b"\r\n")
            request = b"%b\r\nIf-None-Match: %b\r\n%b" % (line, stored[0], fields)
        self.transport.write(request)

    def dataReceived(self, data: bytes) -> None:
        """Pass on the answer, or the one that it confirms, once it is here."""
        client, request = self.send
        self.came += data
        head, end, content = self.came.partition(_END)
        if not end:
            return
        if head.startswith(b"HTTP/1.1 304"):
            answer = _stored[request][1]
        else:
            length, tag = _LENGTH.search(head), _TAG.search(head)
            assert length is not None
            assert tag is not None
            if len(content) < int(length[1]):
                return
            answer = self.came
            _stored[request] = tag[1], answer
        _idle.append(self)
        client.transport.write(answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """Ask nothing more over it."""
        if self in _idle:
            _idle.remove(self)


class Answering(Protocol):
    """A connection of a client."""

    transport: Any
    github_port: int

    def connectionMade(self) -> None:
        """Send what is short at once."""
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        """Ask GitHub."""
        if _idle:
            _idle.pop().put(self, data)
            return
        factory = ClientFactory()
        factory.noisy = False
        factory.buildProtocol = lambda _: Requesting(self, data)  # type: ignore[method-assign,assignment]
        reactor.connectTCP("127.0.0.1", self.github_port, factory)


def main(port: int, github_port: int) -> None:
    """Answer on *port* until the process is stopped."""
    Answering.github_port = github_port
    reactor.listenTCP(port, Factory.forProtocol(Answering), backlog=1024, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
