"""The least code with Twisted that validates each GET with GitHub: no mirror.

It has sockets, the reactor and two dictionaries. It treats each read as a whole message, does not
parse it, and has no checks, counts or bounds; equal bytes are equal requests. It exists only for
comparison with the mirror::

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

_idle: Final[list[GitHubConnection]] = []
#: By request line and fields: the entity-tag, and the whole response.
_stored: Final[dict[bytes, tuple[bytes, bytes]]] = {}
reactor: Any = the_reactor


class GitHubConnection(Protocol):
    """A connection to GitHub."""

    transport: Any

    def __init__(self, client: ClientConnection, request: bytes) -> None:
        self.exchange = client, request

    def connectionMade(self) -> None:
        """Send the first request."""
        self.transport.setTcpNoDelay(True)
        self.request(*self.exchange)

    def request(self, client: ClientConnection, request: bytes) -> None:
        """Send a request, conditional if there is a stored response."""
        self.exchange, self.received = (client, request), b""
        stored = _stored.get(request)
        if stored is not None:
            line, _, fields = request.partition(b"\r\n")
            request = b"%b\r\nIf-None-Match: %b\r\n%b" % (line, stored[0], fields)
        self.transport.write(request)

    def dataReceived(self, data: bytes) -> None:
        """Forward the complete response, or the stored one after a 304."""
        client, request = self.exchange
        self.received += data
        head, end, content = self.received.partition(_END)
        if not end:
            return
        if head.startswith(b"HTTP/1.1 304"):
            response = _stored[request][1]
        else:
            length, tag = _LENGTH.search(head), _TAG.search(head)
            assert length is not None
            assert tag is not None
            if len(content) < int(length[1]):
                return
            response = self.received
            _stored[request] = tag[1], response
        _idle.append(self)
        client.transport.write(response)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """Do not use the connection again."""
        if self in _idle:
            _idle.remove(self)


class ClientConnection(Protocol):
    """A connection of a client."""

    transport: Any
    github_port: int

    def connectionMade(self) -> None:
        """Send short segments at once."""
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        """Send the request over an idle connection, or a new one."""
        if _idle:
            _idle.pop().request(self, data)
            return
        factory = ClientFactory()
        factory.noisy = False
        factory.buildProtocol = lambda _: GitHubConnection(self, data)  # type: ignore[method-assign,assignment]
        reactor.connectTCP("127.0.0.1", self.github_port, factory)


def main(port: int, github_port: int) -> None:
    """Serve on *port* until the process is stopped."""
    ClientConnection.github_port = github_port
    reactor.listenTCP(
        port, Factory.forProtocol(ClientConnection), backlog=1024, interface="127.0.0.1"
    )
    reactor.run()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
