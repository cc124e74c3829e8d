"""Whom TLS connections trust: the platform's certificate authorities, and more of one's own."""

from __future__ import annotations

from typing import Any

from attrs import define, frozen
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates
from zope.interface import implementer

_END = "-----END CERTIFICATE-----"


@implementer(IOpenSSLTrustRoot)
@frozen
class PlatformAndMore:
    """Trusts the platform's certificate authorities and those of a PEM bundle.

    Twisted has either the one or the other; this asks both of its trust roots to do their part.
    """

    more: tuple[Any, ...]

    def _addCACertsToContext(self, context: Any) -> None:
        for root in (platformTrust(), trustRootFromCertificates(self.more)):
            root._addCACertsToContext(context)  # noqa: SLF001


@implementer(IOpenSSLTrustRoot)
@define(eq=False)
class Replaceable:
    """Trusts whom *current* does, which may be another one at the next connection."""

    current: IOpenSSLTrustRoot

    def _addCACertsToContext(self, context: Any) -> None:
        self.current._addCACertsToContext(context)  # noqa: SLF001


def trust_root(ca_pem: str) -> IOpenSSLTrustRoot:
    """Return whom to trust: the platform, and the certificates of *ca_pem* (empty: none).

    Raises ValueError for what is no PEM certificate.
    """
    if not ca_pem:
        platform: IOpenSSLTrustRoot = platformTrust()
        return platform
    blocks = [block + _END for block in ca_pem.split(_END)[:-1]]
    try:
        more = tuple(Certificate.loadPEM(block.encode("ascii")) for block in blocks)
    except Exception as error:
        raise ValueError("a certificate in it can't be read") from error
    if not more:
        raise ValueError("there is no PEM certificate in it")
    return PlatformAndMore(more)
