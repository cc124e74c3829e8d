"""TLS to servers: no byte is sent before the server's certificate was found to name the host.

All TLS client connections of Twisted are made here; those to S3 are botocore's. Twisted's own
verification of names ignores exceptions in its callback, so that only OpenSSL's result for the
chain counts. A trusted authority's certificate without `subjectAltName`, or with a malformed name,
then passes for any host. Here a certificate is accepted only if one of its names matches (RFC 9525,
sections 6.3 and 6.5). Every other result, an exception included, ends the handshake.
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

from attrs import frozen
from cryptography import x509
from OpenSSL import SSL
from service_identity import CertificateError
from service_identity.hazmat import DNS_ID, DNSPattern
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.ssl import CertificateOptions
from zope.interface import implementer

#: The bytes of a DNS name, perhaps after a wildcard. `service_identity` ignores white space around
#: a name, so that it is refused before.
_DNS_NAME: Final = re.compile(r"(?:\*\.)?[A-Za-z0-9._-]+")


class ServerIdentityError(SSL.Error):
    """A server's certificate does not name the host that the client connects to."""

    def __init__(self, host: str) -> None:
        # Twisted reads the last reason of OpenSSL's error queue.
        super().__init__([("", "", f"its certificate does not name {host}")])
        self.host = host

    def __str__(self) -> str:
        return f"its certificate does not name {self.host}"


def names_host(certificate: x509.Certificate, host: str) -> bool:
    """Return whether *certificate* is for *host*: a DNS name, or an IP address without brackets.

    Only `subjectAltName` counts: its DNS names for a name, its IP addresses for an address. A
    wildcard stands for one whole left-most label. A malformed name matches nothing. Raises
    ValueError for extensions that cannot be parsed.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    address = _address(host)
    if address is not None:
        return address in names.get_values_for_type(x509.IPAddress)
    identity = DNS_ID(host)
    for name in filter(_DNS_NAME.fullmatch, names.get_values_for_type(x509.DNSName)):
        with suppress(CertificateError):
            if identity.verify(DNSPattern.from_bytes(name.encode("ascii"))):
                return True
    return False


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


class _VerifiedConnection(SSL.Connection):
    """A TLS connection with a handshake that includes the verification of the server's name."""

    def __init__(self, context: SSL.Context, host: str) -> None:
        super().__init__(context, None)
        self._host = host
        self._verified = False

    def do_handshake(self) -> None:
        """Shake hands, then verify the server's name. Raises `ServerIdentityError`."""
        super().do_handshake()
        if self._verified:
            return
        try:
            certificate = self.get_peer_certificate(as_cryptography=True)
            verified = certificate is not None and names_host(certificate, self._host)
        except Exception as error:
            raise ServerIdentityError(self._host) from error
        if verified is not True:
            raise ServerIdentityError(self._host)
        self._verified = True

    def send(self, buf: Any, flags: int = 0) -> int:
        """Send, once the server is verified; before that, Twisted buffers the data and retries."""
        if not self._verified:
            raise SSL.WantReadError
        return super().send(buf, flags)


@implementer(IOpenSSLClientConnectionCreator)
@frozen
class VerifiedTLS:
    """TLS settings for *host* (ASCII, without brackets): made by `for_host`, applied by `wrap`."""

    host: str
    context: SSL.Context

    @classmethod
    def for_host(cls, host: str, trust: Any) -> VerifiedTLS:
        """Return the settings for a host that must present a certificate under *trust*.

        *host* is a DNS name or an IP address without brackets, *trust* one of Twisted's trust
        roots. All authorities are read, which takes milliseconds: callers reuse the result. Raises
        ValueError for a host name that cannot stand in a certificate.
        """
        if _address(host) is None:
            host = DNS_ID(host).hostname.decode("ascii")
        return cls(host, CertificateOptions(trustRoot=trust).getContext())

    def wrap(self, endpoint: IStreamClientEndpoint) -> IStreamClientEndpoint:
        """Return *endpoint* with TLS on its connections."""
        wrapped: IStreamClientEndpoint = wrapClientTLS(self, endpoint)
        return wrapped

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:  # noqa: ARG002
        """Return the TLS side of a new connection, with SNI unless the host is an address."""
        connection = _VerifiedConnection(self.context, self.host)
        if _address(self.host) is None:
            connection.set_tlsext_host_name(self.host.encode("ascii"))
        return connection
