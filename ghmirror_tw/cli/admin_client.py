"""A client of a mirror's admin port, which fetches the status document."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from ghmirror_tw.cli.command_errors import CommandError, Status
from ghmirror_tw.config.settings import Settings
from ghmirror_tw.runtime.certificate_authorities import trust_root
from ghmirror_tw.runtime.single_flight import Wait
from ghmirror_tw.runtime.verified_tls import VerifiedTLS
from ghmirror_tw.telemetry.secret_scrubbing import scrub

#: The timeout of a response, in seconds.
TIMEOUT_S: Final = 10.0
_PATH: Final = "/status.json"
_COLON: Final = re.compile(r"(?<!\\):")
#: Wildcard addresses, and the address of this machine to connect to.
_LOCAL_ADDRESSES: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - none is bound


@frozen
class AdminAddress:
    """The URL of an admin port, which is behind the Unix socket at *unix*, if not empty."""

    url: str
    unix: str = ""

    @property
    def name(self) -> str:
        """The address for messages."""
        return f"unix:{self.unix}" if self.unix else self.url


def admin_address(url: str | None, settings: Settings) -> AdminAddress:
    """Return the address of *url*, or else of the configuration's endpoints.

    Raises `CommandError`.
    """
    if url is None:
        return _local_address(settings.server.admin_listen)
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        valid = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or True)
    except ValueError:
        valid = False
    if not valid or "@" in parts.netloc or parts.query or parts.fragment:
        text = "--url: not valid; expected a URL such as http://mirror:8081, without query or user"
        raise CommandError("usage", text, Status.USAGE)
    return AdminAddress(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}")


def _local_address(descriptions: tuple[str, ...]) -> AdminAddress:
    """Return the address of the first endpoint that can be reached from this machine."""
    for description in descriptions:
        kind, *arguments = (part.replace("\\", "") for part in _COLON.split(description))
        options = dict(each.split("=", 1) for each in arguments if "=" in each)
        first = next((each for each in arguments if "=" not in each), "")
        if kind == "unix":
            return AdminAddress("http://localhost", options.get("address", first))
        port = options.get("port", first)
        if kind in {"tcp", "tcp4", "tcp6"} and port != "0":
            interface = options.get("interface", "::" if kind == "tcp6" else "")
            host = _LOCAL_ADDRESSES.get(interface, interface)
            return AdminAddress(
                f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            )
    text = "[server] admin_listen: it has no endpoint that can be reached; expected --url"
    raise CommandError("no-url", text, Status.USAGE)


@implementer(IAgentEndpointFactory)
@define(eq=False)
class AdminEndpointFactory:
    """Connects to the Unix socket if there is one, else to the host of the URL."""

    reactor: Any
    address: AdminAddress

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Return the endpoint of a connection."""
        if self.address.unix:
            return UNIXClientEndpoint(self.reactor, self.address.unix)
        host = uri.host.decode("ascii").strip("[]")
        endpoint = HostnameEndpoint(self.reactor, host, uri.port)
        if uri.scheme == b"https":
            return VerifiedTLS.for_host(host, trust_root("")).wrap(endpoint)
        return endpoint


@define(eq=False)
class StatusClient:
    """Fetches the status document of a mirror."""

    reactor: Any
    address: AdminAddress
    agent: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        endpoints = AdminEndpointFactory(self.reactor, self.address)
        self.agent = Agent.usingEndpointFactory(self.reactor, endpoints)

    async def fetch(self) -> dict[str, Any]:
        """Return the status document. Raises `CommandError`."""
        received: tuple[int, bytes] | None = None
        try:
            with Wait(Deferred.fromCoroutine(self._request())) as response:
                if await response.within(lambda late: self.reactor.callLater(TIMEOUT_S, late)):
                    received = await response.result()
        except CancelledError:
            raise
        except Exception as error:
            raise self._unreachable(Failure(error).getErrorMessage()) from error
        if received is None:
            raise self._unreachable(f"no response within {TIMEOUT_S:g} s")
        return self.parsed(*received)

    def _unreachable(self, reason: str) -> CommandError:
        text = scrub(f"{self.address.name}: the mirror cannot be reached: {reason}")
        return CommandError("mirror", text, Status.UNREACHABLE)

    def parsed(self, status: int, content: bytes) -> dict[str, Any]:
        """Return the document in a response."""
        if status == 421:  # noqa: PLR2004
            text = (
                f"{self.address.name}: the mirror does not accept this host name; "
                "expected its address, or a name in its [server] admin_hosts"
            )
            raise CommandError("mirror", text, Status.UNREACHABLE)
        document: Any = None
        with suppress(ValueError, RecursionError):
            document = json.loads(content) if status == 200 else None  # noqa: PLR2004
        if not isinstance(document, dict) or "version" not in document:
            fault = f"{_PATH} is not a status document (status {status})"
            text = f"{self.address.name}: {fault}; expected the admin port of a mirror"
            raise CommandError("mirror", text, Status.UNREACHABLE)
        return document

    async def _request(self) -> tuple[int, bytes]:
        url = f"{self.address.url}{_PATH}".encode()
        response = await self.agent.request(b"GET", url, Headers({b"User-Agent": [b"ghmirror"]}))
        return response.code, await readBody(response)
