"""Where a Redis server is, how to connect to it, and with which credentials."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from attrs import define, field, frozen
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from ghmirror_tw.runtime.certificate_authorities import ReplaceableTrust
from ghmirror_tw.runtime.deferreds import do_nothing
from ghmirror_tw.runtime.verified_tls import VerifiedTLS


class RedisConnectError(Exception):
    """An attempt to connect has failed; the text is a reason without secrets."""


@frozen
class Credentials:
    """Credentials for AUTH: none without a *password*; the default user without a *username*.

    *on_refused* is called if a server responds to AUTH with an error.
    """

    username: str = ""
    password: str | None = field(default=None, repr=False)
    on_refused: Callable[[], object] = field(default=do_nothing, repr=False, eq=False)


#: Returns the credentials for a new connection, at once or later.
ReadCredentials: TypeAlias = Callable[[], Credentials | Awaitable[Credentials]]


async def credentials_from(read: ReadCredentials) -> Credentials:
    """Read the credentials.

    An error becomes a `RedisConnectError` without its text, which may contain the secret.
    """
    try:
        found = read()
        return found if isinstance(found, Credentials) else await found
    except RedisConnectError:
        raise
    except Exception as error:  # noqa: BLE001 - it reads a file of the operator's
        raise RedisConnectError(f"the password cannot be read ({type(error).__name__})") from None


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
        """Return the endpoint, which connects within *timeout_s* after the name is resolved.

        The name is resolved again at each attempt. With *trust*, the connection uses TLS, and the
        server's certificate must be signed by an authority trusted at that time, for this host.
        """
        if self.path:
            return UNIXClientEndpoint(reactor, self.path, timeout=timeout_s)
        plain = HostnameEndpoint(reactor, self.host, self.port, timeout=timeout_s)
        if trust is None:
            return plain
        return _TLSEndpoint(self.host, trust, plain)


@implementer(IStreamClientEndpoint)
@define(eq=False)
class _TLSEndpoint:
    """Connects with TLS, by the certificate authorities that are trusted at that time.

    The context of TLS is made only when the authorities have changed: reading them takes time.
    """

    host: str
    trust: IOpenSSLTrustRoot
    plain: IStreamClientEndpoint
    _trusted: IOpenSSLTrustRoot | None = field(init=False, default=None)
    _wrapped: Any = field(init=False, default=None)

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        trust = self.trust.current if isinstance(self.trust, ReplaceableTrust) else self.trust
        if trust is not self._trusted:
            self._wrapped = VerifiedTLS.for_host(self.host, trust).wrap(self.plain)
            self._trusted = trust
        connected: Deferred[IProtocol] = self._wrapped.connect(factory)
        return connected
