"""Listeners for clients: endpoints with a backlog, and ports that processes share."""

from __future__ import annotations

import socket
from typing import Any, Final

from attrs import define
from twisted.internet import tcp
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

_log: Final = Logger(namespace="ghmirror")

#: How many connections may wait to be accepted. Twisted's default of 50 overflows when a fleet of
#: clients polls on the full minute; connections beyond it wait for a second, or hang.
BACKLOG: Final = 1024


def with_backlog(description: str) -> str:
    """Return an endpoint description with a backlog, unless it has one."""
    kind = description.partition(":")[0].lower()
    if kind not in {"tcp", "tcp4", "tcp6", "ssl", "unix"} or ":backlog=" in description:
        return description
    return f"{description}:backlog={BACKLOG}"


class _SharedPort(tcp.Port):
    """A port that other processes of the same user may listen on, too.

    The kernel distributes connections among them (`SO_REUSEPORT`, socket(7)).
    """

    def createInternetSocket(self) -> socket.socket:
        """Return a socket that shares its address."""
        made: socket.socket = super().createInternetSocket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return made


@define(eq=False)
class SharingPorts:
    """A reactor whose TCP and TLS ports are shared, for endpoints, which have no such option."""

    reactor: Any

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen on a shared port."""
        made = _SharedPort(port, factory, backlog, interface, self.reactor)
        made.startListening()
        return made

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        """Listen for TLS on a shared port."""
        secured = TLSMemoryBIOFactory(contextFactory, isClient=False, wrappedFactory=factory)
        return self.listenTCP(port, secured, backlog, interface)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the reactor."""
        return getattr(self.reactor, name)


@define(eq=False)
class Listener:
    """One endpoint to listen on; *what*: its name in the log; *option*: that sets it.

    *daemon*: whether this is a child process of twistd, whose parent waits for it to start.
    """

    what: str
    option: str
    description: str
    endpoint: IStreamServerEndpoint
    factory: ServerFactory[Any]
    daemon: bool = False
    port: IListeningPort | None = None
    #: Its URL on this machine; None where it is not TCP.
    url: str | None = None

    def listen(self) -> None:
        """Start listening; exit with 1 and an error in the log if that fails."""
        failed: list[Failure] = []
        self.endpoint.listen(self.factory).addCallbacks(self._listens, failed.append)
        if failed:
            self._fail(failed[0])

    def _fail(self, failure: Failure) -> None:
        if failure.check(CannotListenError, OSError) is None:
            failure.raiseException()
        _log.critical(
            "Not {what} on {description}: {why}; change {option}, or {variable} in the environment",
            what=self.what,
            description=self.description,
            why=failure.getErrorMessage().rstrip("."),
            option=f"[server] {self.option}",
            variable=f"GHMIRROR_SERVER_{self.option.upper()}",
        )
        if self.daemon:  # twistd reports no SystemExit to the parent, which would wait for ever
            failure.raiseException()
        raise SystemExit(1)

    def _listens(self, port: IListeningPort) -> None:
        self.port = port
        address: Any = port.getHost()
        if hasattr(address, "port"):
            scheme = "https" if self.description.startswith("ssl:") else "http"
            host = f"[{address.host}]" if ":" in address.host else address.host
            where = f"{scheme}://{host}:{address.port}"
            host = "localhost" if address.host in {"0.0.0.0", "::"} else host  # noqa: S104 - seen
            self.url = f"{scheme}://{host}:{address.port}"
        else:
            where = f"unix:{getattr(address, 'name', b'').decode(errors='replace')}"
        _log.info("{what} on {where}", what=self.what, where=where)

    def stop(self) -> Any:
        """Stop listening; return when the port is free."""
        port, self.port = self.port, None
        return None if port is None else port.stopListening()
