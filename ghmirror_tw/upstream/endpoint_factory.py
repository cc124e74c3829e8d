"""Endpoints for connections to GitHub: plain or with TLS, direct or through a proxy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from ghmirror_tw.http.outbound_proxy import OutboundProxy
from ghmirror_tw.runtime.verified_tls import VerifiedTLS
from ghmirror_tw.upstream.proxy_tunnel import TunnelEndpoint


@implementer(IAgentEndpointFactory)
@define(eq=False)
class EndpointFactory:
    """Makes endpoints; *trust* is the trust root for the certificates of servers.

    *proxy* is called for each connection, so that its password can change; None: no proxy. It may
    raise `ProxyError`.
    """

    reactor: Any
    timeout_s: float
    trust: Any
    proxy: Callable[[], OutboundProxy] | None = None
    #: By host: reading all authorities takes milliseconds.
    _tls: dict[str, VerifiedTLS] = field(factory=dict)

    def endpoint(self, host: str, port: int, *, secure: bool) -> IStreamClientEndpoint:
        """Return an endpoint that connects to *port* of *host*, which has no brackets."""
        endpoint: IStreamClientEndpoint
        if self.proxy is None:
            endpoint = HostnameEndpoint(self.reactor, host, port, timeout=self.timeout_s)
        else:
            endpoint = TunnelEndpoint(
                self.reactor, self.proxy, host, port, self.timeout_s, carries_tls=secure
            )
        if not secure:
            return endpoint
        if host not in self._tls:
            self._tls[host] = VerifiedTLS.for_host(host, self.trust)
        return self._tls[host].wrap(endpoint)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Return an endpoint for an http(s) URI."""
        host = uri.host.decode("ascii").strip("[]")
        return self.endpoint(host, uri.port, secure=uri.scheme == b"https")
