"""No server without a certificate for its name receives a byte, wherever the project speaks TLS.

A table of certificates that must be refused, and of some that must be accepted, is presented to
every TLS client of the project: GitHub and its uploads, directly and through a proxy; the status
page; Redis; a mirror that `ghmirror top` reads; S3.
"""

from __future__ import annotations

import ast
import datetime as dt
import ipaddress
import os
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest
from attrs import evolve, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from ghmirror_tw.cli.admin_client import AdminAddress, StatusClient
from ghmirror_tw.cli.command_errors import CommandError
from ghmirror_tw.redis.server_endpoint import Credentials
from ghmirror_tw.runtime.certificate_authorities import trust_root
from ghmirror_tw.runtime.verified_tls import ServerIdentityError, VerifiedTLS, names_host
from ghmirror_tw.snapshots.aws_service import AwsAccess, AwsService
from ghmirror_tw.snapshots.blocking_threads import BlockingThreads
from ghmirror_tw.snapshots.s3_target import S3Target
from ghmirror_tw.snapshots.snapshot_errors import TargetError
from ghmirror_tw.upstream.github_breaker import GitHubBreaker
from ghmirror_tw.upstream.status_page import StatusPage
from tests.fakes.forward_proxies import start_proxy
from tests.fakes.github import GitHub
from tests.fakes.s3 import ENVIRONMENT
from tests.harness.certificates import Authority
from tests.harness.home import fetch, open_home, until
from tests.system.test_layout import modules_of
from tests.unit.redis.watched_nodes import watched_node
from tests.unit.upstream.test_tls import Context

reactor: Any = global_reactor

SECRET: Final = "never-sent-0123456789"


def ip(text: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(text))


@frozen
class Case:
    """One certificate: its names, and what else is wrong with it."""

    title: str
    names: tuple[x509.GeneralName, ...] | None
    host: str = "localhost"
    accepted: bool = False
    valid_days: tuple[int, int] = (-1, 1)
    signed: str = "trusted"
    #: A malformed extension in place of the names.
    raw_names: bytes | None = None

    def made(self, authority: Authority) -> Context:
        """Return a server's certificate with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.host)])
        signer = {"trusted": authority, "other": Authority.new()}.get(self.signed)
        now = dt.datetime.now(dt.UTC)
        first, last = self.valid_days
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if signer is None else signer.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days=first))
            .not_valid_after(now + dt.timedelta(days=last))
        )
        if self.raw_names is not None:
            oid = x509.SubjectAlternativeName.oid
            raw = x509.UnrecognizedExtension(oid, self.raw_names)
            builder = builder.add_extension(raw, critical=False)
        elif self.names is not None:
            names = x509.SubjectAlternativeName(self.names)
            builder = builder.add_extension(names, critical=False)
        signed = builder.sign(key if signer is None else signer.key, hashes.SHA256())
        return Context(signed, key)


LOCALHOST: Final = x509.DNSName("localhost")
REFUSED: Final = (
    Case("no subjectAltName", None),
    Case("no name in it", ()),
    Case("a bare wildcard", (x509.DNSName("*"),)),
    Case("a partial wildcard", (x509.DNSName("local*"),)),
    Case("a partial wildcard in a domain", (x509.DNSName("a*.localhost"),)),
    Case("a wildcard below", (x509.DNSName("*.localhost"),)),
    Case("an IP address as a DNS name", (x509.DNSName("127.0.0.1"),), host="127.0.0.1"),
    Case("a DNS name for an IP address", (LOCALHOST,), host="127.0.0.1"),
    Case("an IP address for a DNS name", (ip("127.0.0.1"),)),
    Case("another IP address", (ip("127.0.0.2"),), host="127.0.0.1"),
    Case("a mail address", (x509.RFC822Name("root@localhost"),)),
    Case("a URI", (x509.UniformResourceIdentifier("https://localhost/"),)),
    Case("another name", (x509.DNSName("localhost.example"),)),
    Case("an empty name", (x509.DNSName(""),)),
    Case("a zero byte in it", (x509.DNSName("localhost\0.example"),)),
    # `service_identity` strips a name before it compares it.
    Case("a tab before it", (x509.DNSName("\tlocalhost"),)),
    Case("a space after it", (x509.DNSName("localhost "),)),
    Case("line ends around it", (x509.DNSName("\nlocalhost\r\n"),)),
    Case("a space inside it", (x509.DNSName("localhost example"),)),
    Case("names that cannot be parsed", None, raw_names=b"\x30\x03\x82\x05x"),
    Case("another authority", (LOCALHOST,), signed="other"),
    Case("self-signed", (LOCALHOST,), signed="self"),
    Case("expired", (LOCALHOST,), valid_days=(-3, -1)),
    Case("not yet valid", (LOCALHOST,), valid_days=(1, 3)),
)
ACCEPTED: Final = (
    Case("its name", (LOCALHOST,), accepted=True),
    Case("its name in capitals", (x509.DNSName("LOCALHOST"),), accepted=True),
    Case("its address", (ip("127.0.0.1"),), host="127.0.0.1", accepted=True),
    Case(
        "its name beside malformed ones", (x509.DNSName("*"), ip("::1"), LOCALHOST), accepted=True
    ),
)


class Server(Factory):
    """A TLS server with one certificate; it records the data that it receives inside TLS."""

    noisy = False

    def __init__(self) -> None:
        self.received = b""
        self.ended: Deferred[None] = Deferred()

    def buildProtocol(self, addr: object) -> Protocol:
        return _Receiving(self)


class _Receiving(Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server

    def dataReceived(self, data: bytes) -> None:
        """Record it, and disconnect: no more is needed of a server that was accepted."""
        self.server.received += data
        assert self.transport is not None
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.server.ended.called:
            self.server.ended.callback(None)


class Places(TestCase):
    """Each certificate, at each place where the project speaks TLS."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="identity-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.authority = Authority.new()
        self.ca_path = self.folder / "authority.pem"
        self.ca_path.write_text(self.authority.pem)
        self.trust = trust_root(self.authority.pem)

    async def each(
        self,
        connect: Callable[[str, int], Awaitable[object]],
        cases: tuple[Case, ...] = (*REFUSED, *ACCEPTED),
    ) -> None:
        """Present every certificate to a client that connects to a host and a port."""
        wrong = []
        for case in cases:
            server = Server()
            port = reactor.listenSSL(0, server, case.made(self.authority), interface="127.0.0.1")
            try:
                await connect(case.host, port.getHost().port)
                await server.ended
            finally:
                await port.stopListening()
            if bool(server.received) is not case.accepted:
                wrong.append((case.title, server.received))
        assert not wrong

    async def github(self, **options: str) -> None:
        """Send GitHub a read and an upload."""

        async def connect(host: str, port: int) -> None:
            url = f"https://{host}:{port}"
            more = {"api_url": url, "ca_path": str(self.ca_path), **options}
            home = await open_home(self, GitHub(), github=more)
            for method, target in (
                ("GET", "/user"),
                ("POST", "/api/uploads/repos/o/r/releases/1/assets?name=a"),
            ):
                body = b"x" if method == "POST" else None
                got = await fetch(method, home.port, target, token=SECRET, body=body)
                assert got.status in {502, 504}, got
            await home.close()

        await self.each(connect)

    async def test_github_certificate_is_verified(self) -> None:
        """GitHub and its uploads."""
        await self.github()

    async def test_github_certificate_is_verified_through_a_proxy(self) -> None:
        """At the end of a tunnel."""
        proxy = await start_proxy(self)
        await self.github(proxy=proxy.url)

    async def test_status_page_certificate_is_verified(self) -> None:
        """Its status can open the circuit to GitHub."""

        async def connect(host: str, port: int) -> None:
            url = f"https://{host}:{port}/components.json"
            github_breaker = GitHubBreaker(lambda _: None)
            page = StatusPage(reactor, url, 3600.0, github_breaker, self.trust, lambda: 0.5)
            page.open()
            await until(lambda: page.failures > 0)
            page.close()

        await self.each(connect)

    async def test_redis_certificate_is_verified(self) -> None:
        """Before the password is sent."""

        async def connect(host: str, port: int) -> None:
            watched = watched_node(
                self,
                (host, port),
                trust=self.trust,
                credentials=lambda: Credentials("", SECRET),
                pool_size=1,
            )
            watched.node.open()
            await watched.until(lambda: bool(watched.failures))
            await watched.node.close()

        await self.each(connect)

    async def test_mirror_certificate_is_verified_by_the_command(self) -> None:
        """As of `ghmirror top --url https://…`, which trusts the platform's authorities."""

        async def connect(host: str, port: int) -> None:
            with pytest.raises(CommandError):
                await StatusClient(reactor, AdminAddress(f"https://{host}:{port}")).fetch()

        with patch.dict(os.environ, {"SSL_CERT_FILE": str(self.ca_path)}):
            await self.each(connect)

    async def test_s3_certificate_is_verified(self) -> None:
        """Through boto3, in threads."""
        workers = BlockingThreads(reactor)
        workers.open()
        self.addCleanup(workers.close)

        async def connect(host: str, port: int) -> None:
            access = AwsAccess(
                endpoint_url=f"https://{host}:{port}", region="us-east-1", attempts=1
            )
            target = S3Target(workers, AwsService(access, "s3"), "bucket")
            with pytest.raises(TargetError):
                await target.listing()

        with patch.dict(os.environ, {**ENVIRONMENT, "AWS_CA_BUNDLE": str(self.ca_path)}):
            await self.each(connect)

    async def test_wildcard_matches_one_leftmost_label(self) -> None:
        """For one whole label."""
        host = "api.github.example"
        names = {
            "*.github.example": True,
            "API.GitHub.Example": True,
            "a*.github.example": False,
            "*i.github.example": False,
            "*.example": False,
            "api.*.example": False,
            "*.*.example": False,
            "*": False,
            "github.example": False,
            "api.github.example.": False,
        }
        cases = tuple(
            Case(name, (x509.DNSName(name),), host=host, accepted=accepted)
            for name, accepted in names.items()
        )

        async def connect(host: str, port: int) -> None:
            await send_secret(host, port, self.trust)

        await self.each(connect, cases)

    async def test_exception_during_verification_refuses_the_server(self) -> None:
        """With any kind of exception."""
        good = evolve(ACCEPTED[0], accepted=False)

        async def connect(host: str, port: int) -> None:
            assert (await send_secret(host, port, self.trust)).check(ServerIdentityError)

        for broken in (RuntimeError("a defect"), KeyError("x"), MemoryError()):
            with patch("ghmirror_tw.runtime.verified_tls.names_host", side_effect=broken):
                await self.each(connect, (good,))
        with patch("ghmirror_tw.runtime.verified_tls.names_host", return_value="truthy"):
            await self.each(connect, (good,))


class _Sending(Protocol):
    """Sends a secret as soon as it may; *lost* fires with the reason why it ended."""

    def __init__(self) -> None:
        self.lost: Deferred[tuple[Failure]] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(SECRET.encode())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback((reason,))


async def send_secret(host: str, port: int, trust: Any) -> Failure:
    """Connect to a port of this machine as if it were *host*, and return how that ended."""
    plain = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    sending = Factory.forProtocol(_Sending)
    sending.noisy = False
    protocol: Any = await VerifiedTLS.for_host(host, trust).wrap(plain).connect(sending)
    (reason,) = await protocol.lost
    assert isinstance(reason, Failure)
    return reason


def test_invalid_host_name_is_refused() -> None:
    """Before a connection is opened."""
    for host in ("", "a b", "exa\0mple"):
        with pytest.raises(ValueError, match="DNS-ID"):
            VerifiedTLS.for_host(host, trust_root(""))


def test_only_bytes_of_dns_names_match() -> None:
    """Each other byte, before, after and inside a name, makes it another name."""
    authority = Authority.new()
    matching = set()
    for byte in range(128):
        for name in (f"{chr(byte)}a.example", f"a.example{chr(byte)}", f"a{chr(byte)}example"):
            certificate = Case("", (x509.DNSName(name),)).made(authority).certificate
            if names_host(certificate, "a.example"):
                matching.add(name)
    assert matching == {"a.example"}


def test_ipv6_addresses_are_compared_as_addresses() -> None:
    """However they are written."""
    context = Case("", (ip("2001:db8::1"),)).made(Authority.new())
    assert names_host(context.certificate, "2001:0db8:0::0001")
    assert not names_host(context.certificate, "2001:db8::2")


#: What opens TLS as a client, but for the one module that may.
_TLS_CLIENTS: Final = re.compile(
    r"optionsForClientTLS|wrapClientTLS|ClientTLSOptions|startTLS|connectSSL|SSL4ClientEndpoint"
    r"|clientFromString|BrowserLikePolicyForHTTPS|ClientContextFactory|create_default_context"
    r"|CERT_NONE|urlopen"
)


def test_no_other_module_speaks_tls() -> None:
    """Each TLS client uses `ghmirror_tw.runtime.verified_tls`; an Agent names where its
    connections come from, since its own policy for HTTPS is Twisted's.
    """
    wrong = []
    for module, path in modules_of("ghmirror_tw").items():
        text = path.read_text()
        names = {
            next(getattr(node, each) for each in ("id", "attr", "name") if hasattr(node, each))
            for node in ast.walk(ast.parse(text))
            if isinstance(node, (ast.Name, ast.Attribute, ast.alias))
        }
        used = sorted(name for name in names if _TLS_CLIENTS.fullmatch(name))
        if used and module != "ghmirror_tw.runtime.verified_tls":
            wrong.append(f"{module} uses {used}")
        if re.search(r"twisted\.web\.client import[^\n]*\bAgent\b", text) and (
            "Agent.usingEndpointFactory(" not in text or re.search(r"[^.\w]Agent\(", text)
        ):
            wrong.append(f"{module} makes an Agent with Twisted's policy")
        if re.search(r"\b(?:verify|check_hostname)\s*=\s*False", text):
            wrong.append(f"{module} switches verification off")
    assert not wrong
