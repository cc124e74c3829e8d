"""GitHub over TLS: its certificate is verified by the platform's and configured authorities."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from tempfile import mkdtemp

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from ghmirror_tw.runtime.certificate_authorities import trust_root
from tests.fakes.github import GitHub
from tests.harness.home import open_home


@implementer(IOpenSSLContextFactory)
@frozen
class Context:
    """How a server with a certificate of its own does TLS."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def getContext(self) -> SSL.Context:
        """Return a new context."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(self.certificate)
        context.use_privatekey(self.key)
        return context


def made_certificate() -> tuple[str, Context]:
    """Return a certificate for localhost that vouches for itself: as PEM, and with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return pem, Context(certificate, key)


class Tls(TestCase):
    """A stand-in with a certificate that no platform knows."""

    async def test_certificate_is_verified(self) -> None:
        """GitHub is reached only with a known authority, and a certificate for its name."""
        pem, private = made_certificate()
        folder = Path(mkdtemp())
        good, wrong = folder / "good.pem", folder / "wrong.pem"
        good.write_text(pem)
        wrong.write_text(made_certificate()[0])
        github = GitHub()
        github.user("alice", tokens=["alice-1"])
        await github.listen(context_factory=private)
        self.addCleanup(github.close)
        url = github.api_url.replace("127.0.0.1", "localhost")
        for ca_path, api_url, status in (
            (str(good), url, 200),
            (str(wrong), url, 502),
            ("", url, 502),
            (str(good), github.api_url, 502),
        ):
            options = {"api_url": api_url, "ca_path": ca_path}
            home = await open_home(self, github, github=options)
            got = await home.get("/zen", token="alice-1")
            assert got.status == status, (ca_path, api_url, got)
            if status == 200:
                home.parts.client.use(home.parts.client.trust)
                assert (await home.get("/zen", token="alice-1")).status == 200

    def test_invalid_pem_is_refused(self) -> None:
        """With ValueError."""
        assert trust_root("") is not None
        for text in ("nothing", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"):
            with self.assertRaises(ValueError):
                trust_root(text)
