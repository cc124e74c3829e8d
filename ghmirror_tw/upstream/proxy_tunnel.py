"""Connections through a tunnel of an HTTP proxy (RFC 9110, section 9.3.6: CONNECT)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ghmirror_tw.http.outbound_proxy import OutboundProxy, TunnelError
from ghmirror_tw.runtime.deferreds import fail_after
from ghmirror_tw.upstream.connection_error_texts import ProxyError, connection_error_text


@implementer(IStreamClientEndpoint)
@frozen
class TunnelEndpoint:
    """Connects to *port* of *host* through a proxy, within *timeout_s* in all.

    *carries_tls*: whether TLS with *host* is spoken through the tunnel.
    """

    reactor: Any
    proxy: Callable[[], OutboundProxy]
    host: str
    port: int
    timeout_s: float
    carries_tls: bool

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect a protocol of the factory. Fails with `ProxyError`."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        proxy = self.proxy()
        opening = Deferred.fromCoroutine(self._open(proxy, factory))
        timeout = TunnelError(f"no tunnel within {self.timeout_s:g} s")
        try:
            return await fail_after(opening, self.reactor, self.timeout_s, timeout)
        except (CancelledError, ConnectingCancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - without a tunnel in any case
            why = error.reason if isinstance(error, TunnelError) else connection_error_text(error)
            target = f"{self.host}:{self.port}"
            raise ProxyError(
                f"the proxy {proxy.name} does not connect to {target}: {why}"
            ) from None

    async def _open(self, proxy: OutboundProxy, factory: IProtocolFactory) -> IProtocol:
        endpoint = HostnameEndpoint(self.reactor, proxy.host, proxy.port, timeout=self.timeout_s)
        tunnel = _TunnelProtocol(proxy, factory, carries_tls=self.carries_tls)
        await endpoint.connect(_SingleProtocolFactory(tunnel))
        return await tunnel.open(self.host, self.port)


class _SingleProtocolFactory(Factory):
    """Returns one existing protocol, and logs nothing."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Protocol:  # noqa: ARG002
        """Return the protocol."""
        return self._protocol


class _TunnelProtocol(Protocol):
    """Opens a tunnel, then passes bytes from the proxy to the protocol inside the tunnel."""

    def __init__(
        self, proxy: OutboundProxy, factory: IProtocolFactory, *, carries_tls: bool
    ) -> None:
        self._proxy = proxy
        self._factory = factory
        self._carries_tls = carries_tls
        self._received = b""
        self._inner: Any = None
        self._opened: Deferred[IProtocol] = Deferred(lambda _: self._abort())

    def open(self, host: str, port: int) -> Deferred[IProtocol]:
        """Return the protocol inside the tunnel once it is open. Fails with `TunnelError`."""
        assert self.transport is not None
        self.transport.write(self._proxy.connect_request(host, port))
        return self._opened

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Parse the response of the proxy, or pass on bytes from the tunnel."""
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self._opened.called:
            return
        self._received += data
        try:
            if not self._proxy.is_open(self._received, sealed=self._carries_tls):
                return
        except TunnelError as error:
            self._opened.errback(error)
            self._abort()
            return
        assert self.transport is not None
        self._inner = self._factory.buildProtocol(self.transport.getPeer())
        self._inner.makeConnection(self.transport)
        self._opened.callback(self._inner)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Notify the protocol inside the tunnel, or fail the opening."""
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self._opened.called:
            self._opened.errback(TunnelError("it closed the connection after CONNECT"))
