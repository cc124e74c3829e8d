"""Trust roots of TLS connections: the platform's certificate authorities, and configured ones."""

from __future__ import annotations

from typing import Any

from attrs import define, frozen
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates
from zope.interface import implementer

_END = "-----END CERTIFICATE-----"


@implementer(IOpenSSLTrustRoot)
@frozen
class CombinedTrust:
    """Trusts the platform's certificate authorities, and *additional* ones.

    Twisted has a trust root for either; this one adds those of both.
    """

    additional: tuple[Any, ...]

    def _addCACertsToContext(self, context: Any) -> None:
        for root in (platformTrust(), trustRootFromCertificates(self.additional)):
            root._addCACertsToContext(context)  # noqa: SLF001


@implementer(IOpenSSLTrustRoot)
@define(eq=False)
class ReplaceableTrust:
    """A trust root whose *current* one can be replaced for the next connections."""

    current: IOpenSSLTrustRoot

    def _addCACertsToContext(self, context: Any) -> None:
        self.current._addCACertsToContext(context)  # noqa: SLF001


def trust_root(ca_pem: str) -> IOpenSSLTrustRoot:
    """Return the trust root: the platform's, with the certificates of *ca_pem* (empty: none).

    Raises ValueError for anything but PEM certificates.
    """
    if not ca_pem:
        platform: IOpenSSLTrustRoot = platformTrust()
        return platform
    blocks = [block + _END for block in ca_pem.split(_END)[:-1]]
    try:
        additional = tuple(Certificate.loadPEM(block.encode("ascii")) for block in blocks)
    except Exception as error:
        raise ValueError("a certificate in it can't be read") from error
    if not additional:
        raise ValueError("there is no PEM certificate in it")
    return CombinedTrust(additional)
