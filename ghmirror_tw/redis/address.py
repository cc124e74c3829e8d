"""Where a Redis server is, and how one gets there."""

from __future__ import annotations

from typing import Any

from attrs import define, field, frozen
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from ghmirror_tw.runtime.certificate_authorities import Replaceable
from ghmirror_tw.runtime.server_identity import VerifiedTLS


@frozen
class Credentials:
    """Whom one says to be: nobody without a *password*; the default user without a *username*."""

    username: str = ""
    password: str | None = field(default=None, repr=False)


@frozen
class Address:
    """A host (a name or an IP address) and a port, or the path of a UNIX socket."""

    host: str = ""
    port: int = 6379
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def endpoint(
        self, reactor: Any, trust: IOpenSSLTrustRoot | None, timeout_s: float
    ) -> IStreamClientEndpoint:
        """Return how to connect, within *timeout_s* once the name is known.

        A name is looked up again at each attempt. With *trust*, TLS is spoken, and the server's
        certificate must be by somebody who is trusted then and for this very host.
        """
        if self.path:
            return UNIXClientEndpoint(reactor, self.path, timeout=timeout_s)
        plain = HostnameEndpoint(reactor, self.host, self.port, timeout=timeout_s)
        if trust is None:
            return plain
        return _Secure(self.host, trust, plain)


@implementer(IStreamClientEndpoint)
@define(eq=False)
class _Secure:
    """Speaks TLS with a host; whom to trust is looked at anew for each connection.

    The authorities are read from disk only when others are to be trusted: that takes a while.
    """

    host: str
    trust: IOpenSSLTrustRoot
    plain: IStreamClientEndpoint
    _trusted: IOpenSSLTrustRoot | None = field(init=False, default=None)
    _wrapped: Any = field(init=False, default=None)

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        trust = self.trust.current if isinstance(self.trust, Replaceable) else self.trust
        if trust is not self._trusted:
            self._wrapped = VerifiedTLS.to(self.host, trust).over(self.plain)
            self._trusted = trust
        connected: Deferred[IProtocol] = self._wrapped.connect(factory)
        return connected
