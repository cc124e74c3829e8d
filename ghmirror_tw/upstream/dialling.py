"""How connections are opened: in the clear or by TLS, directly or through a proxy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from ghmirror_tw.http.tunnels import OutboundProxy, TunnelError
from ghmirror_tw.runtime.server_identity import ServerIdentityError, VerifiedTLS


class ProxyError(ConnectError):
    """A proxy leads nowhere; the text says which one and why, without its password."""

    def __init__(self, why: str) -> None:
        super().__init__(string=why)  # type: ignore[no-untyped-call]
        self.why = why

    def __str__(self) -> str:
        return self.why


@implementer(IAgentEndpointFactory)
@define(eq=False)
class Ways:
    """Knows how to get to a host; *trust* says whose certificates are believed there.

    *proxy* is asked for each connection, so that a password can change; None: there is none. It
    may raise `ProxyError`.
    """

    reactor: Any
    timeout_s: float
    trust: Any
    proxy: Callable[[], OutboundProxy] | None = None
    # One for each host: reading all authorities takes milliseconds.
    _tls: dict[str, VerifiedTLS] = field(factory=dict)

    def to(self, host: str, port: int, *, secure: bool) -> IStreamClientEndpoint:
        """Return an endpoint that connects to *port* of *host*, which is bare of brackets."""
        endpoint: IStreamClientEndpoint
        if self.proxy is None:
            endpoint = HostnameEndpoint(self.reactor, host, port, timeout=self.timeout_s)
        else:
            endpoint = Tunnel(self.reactor, self.proxy, host, port, self.timeout_s, sealed=secure)
        if not secure:
            return endpoint
        if host not in self._tls:
            self._tls[host] = VerifiedTLS.to(host, self.trust)
        return self._tls[host].over(endpoint)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Return an endpoint for an http(s) URI."""
        host = uri.host.decode("ascii").strip("[]")
        return self.to(host, uri.port, secure=uri.scheme == b"https")


@implementer(IStreamClientEndpoint)
@frozen
class Tunnel:
    """Connects to *port* of *host* through a proxy, within *timeout_s* in all.

    *sealed*: what goes through is TLS.
    """

    reactor: Any
    proxy: Callable[[], OutboundProxy]
    host: str
    port: int
    timeout_s: float
    sealed: bool

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect a protocol of the factory's. Fails with `ProxyError`."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        proxy = self.proxy()
        timed_out: list[bool] = []

        def time_out() -> None:
            timed_out.append(True)
            opened.cancel()

        timer = self.reactor.callLater(self.timeout_s, time_out)
        opened = Deferred.fromCoroutine(self._open(proxy, factory))
        try:
            return await opened
        except Exception as error:
            if timed_out:
                why = f"no tunnel within {self.timeout_s:g} s"
            elif isinstance(error, (CancelledError, ConnectingCancelledError)):
                raise
            else:
                why = error.reason if isinstance(error, TunnelError) else reason_of(error)
            where = f"{self.host}:{self.port}"
            raise ProxyError(f"the proxy {proxy.name} leads not to {where}: {why}") from None
        finally:
            if timer.active():
                timer.cancel()

    async def _open(self, proxy: OutboundProxy, factory: IProtocolFactory) -> IProtocol:
        endpoint = HostnameEndpoint(self.reactor, proxy.host, proxy.port, timeout=self.timeout_s)
        opening = _Opening(proxy, factory, sealed=self.sealed)
        await endpoint.connect(_Given(opening))
        return await opening.open(self.host, self.port)


class _Given(Factory):
    """Has one protocol to give, and no lines for the log."""

    noisy = False

    def __init__(self, made: Protocol) -> None:
        self._made = made

    def buildProtocol(self, addr: object) -> Protocol:  # noqa: ARG002
        """Return it."""
        return self._made


class _Opening(Protocol):
    """Asks for a tunnel, and then stands between its connection and who uses it."""

    def __init__(self, proxy: OutboundProxy, factory: IProtocolFactory, *, sealed: bool) -> None:
        self._proxy = proxy
        self._factory = factory
        self._sealed = sealed
        self._received = b""
        self._user: Any = None
        self._opened: Deferred[IProtocol] = Deferred(lambda _: self._abort())

    def open(self, host: str, port: int) -> Deferred[IProtocol]:
        """Return the protocol at this end, when there is a tunnel. Fails with `TunnelError`."""
        assert self.transport is not None
        self.transport.write(self._proxy.connect_request(host, port))
        return self._opened

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Take what the proxy says, or what comes through the tunnel."""
        if self._user is not None:
            self._user.dataReceived(data)
            return
        if self._opened.called:
            return
        self._received += data
        try:
            if not self._proxy.is_open(self._received, sealed=self._sealed):
                return
        except TunnelError as error:
            self._opened.errback(error)
            self._abort()
            return
        assert self.transport is not None
        self._user = self._factory.buildProtocol(self.transport.getPeer())
        self._user.makeConnection(self.transport)
        self._opened.callback(self._user)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell who uses the tunnel, or waits for it."""
        if self._user is not None:
            self._user.connectionLost(reason)
        elif not self._opened.called:
            self._opened.errback(TunnelError("it hung up on CONNECT"))


def tls_fault(error: BaseException) -> str | None:
    """Return why there is no TLS with a server, if that is what an error is about."""
    for reason in (error, *(failure.value for failure in getattr(error, "reasons", ()))):
        if isinstance(reason, ServerIdentityError):
            return str(reason)
        if isinstance(reason, SSL.Error):
            words = [part[-1] for part in reason.args[0]] if reason.args else []
            said = ", ".join(filter(None, words)) or "the connection broke off"
            hint = " (is its authority in [github] ca_path?)" if "verify" in said else ""
            return f"no TLS with it: {said}{hint}"
    return None


def reason_of(error: BaseException) -> str:
    """Return why there is no connection, in words for a log."""
    return tls_fault(error) or Failure(error).getErrorMessage() or repr(error)
