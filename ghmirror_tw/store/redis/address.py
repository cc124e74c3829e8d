"""Where a Redis server is, and how one gets there."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS


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
        certificate must be by somebody who is trusted and for this very host.
        """
        if self.path:
            return UNIXClientEndpoint(reactor, self.path, timeout=timeout_s)
        plain = HostnameEndpoint(reactor, self.host, self.port, timeout=timeout_s)
        if trust is None:
            return plain
        secure: IStreamClientEndpoint = wrapClientTLS(
            optionsForClientTLS(self.host, trustRoot=trust), plain
        )
        return secure
