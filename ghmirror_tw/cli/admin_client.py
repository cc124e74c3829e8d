"""Asking a mirror for its figures, where its admin port is."""

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

from ghmirror_tw.cli.exit_status import CommandError, Status
from ghmirror_tw.config.settings import Settings
from ghmirror_tw.runtime.certificate_authorities import trust_root
from ghmirror_tw.runtime.patient import Patient
from ghmirror_tw.runtime.server_identity import VerifiedTLS
from ghmirror_tw.telemetry.logs import scrub

#: How long an answer may take, in seconds.
TIMEOUT_S: Final = 10.0
_PATH: Final = "/status.json"
_COLON: Final = re.compile(r"(?<!\\):")
#: An address to listen on, and where that is to be found from this machine.
_ANYWHERE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - none is bound


@frozen
class AdminPlace:
    """Where a mirror is asked: at a URL, which may be behind the socket at *unix*."""

    url: str
    unix: str = ""

    @property
    def name(self) -> str:
        """What it is called."""
        return f"unix:{self.unix}" if self.unix else self.url


def place_of(url: str | None, settings: Settings) -> AdminPlace:
    """Return where to ask: at that URL, or at what the configuration listens on.

    Raises `CommandError`.
    """
    if url is None:
        return _listened_on(settings.server.admin_listen)
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        sound = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or True)
    except ValueError:
        sound = False
    if not sound or "@" in parts.netloc or parts.query or parts.fragment:
        text = "--url: that is none; expected one such as http://mirror:8081, and nothing more"
        raise CommandError("usage", text, Status.USAGE)
    return AdminPlace(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}")


def _listened_on(descriptions: tuple[str, ...]) -> AdminPlace:
    """Return the first of these endpoints that can be asked from here."""
    for description in descriptions:
        kind, *arguments = (part.replace("\\", "") for part in _COLON.split(description))
        named = dict(each.split("=", 1) for each in arguments if "=" in each)
        first = next((each for each in arguments if "=" not in each), "")
        if kind == "unix":
            return AdminPlace("http://localhost", named.get("address", first))
        port = named.get("port", first)
        if kind in {"tcp", "tcp4", "tcp6"} and port != "0":
            interface = named.get("interface", "::" if kind == "tcp6" else "")
            host = _ANYWHERE.get(interface, interface)
            return AdminPlace(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    text = "[server] admin_listen: it does not say where a mirror can be asked; expected --url"
    raise CommandError("no-url", text, Status.USAGE)


@implementer(IAgentEndpointFactory)
@define(eq=False)
class _Endpoints:
    """Connects to a place, whatever the URL says of it."""

    reactor: Any
    place: AdminPlace

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Return where to connect to."""
        if self.place.unix:
            return UNIXClientEndpoint(self.reactor, self.place.unix)
        host = uri.host.decode("ascii").strip("[]")
        endpoint = HostnameEndpoint(self.reactor, host, uri.port)
        if uri.scheme == b"https":
            return VerifiedTLS.for_host(host, trust_root("")).wrap(endpoint)
        return endpoint


@define(eq=False)
class StatusAnswer:
    """A mirror that is asked for its figures."""

    reactor: Any
    place: AdminPlace
    _agent: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        places = _Endpoints(self.reactor, self.place)
        self._agent = Agent.usingEndpointFactory(self.reactor, places)

    async def figures(self) -> dict[str, Any]:
        """Return its figures. Raises `CommandError`."""
        asked = Patient(Deferred.fromCoroutine(self._ask()))
        try:
            said = await asked.within(lambda late: self.reactor.callLater(TIMEOUT_S, late))
        except CancelledError:
            raise
        except Exception as error:
            raise self._away(Failure(error).getErrorMessage()) from error
        finally:
            asked.leave()
        if said is None:
            raise self._away(f"it does not answer within {TIMEOUT_S:g} s")
        return self._parsed(*said)

    def _away(self, why: str) -> CommandError:
        text = scrub(f"{self.place.name}: the mirror can't be asked: {why}")
        return CommandError("mirror", text, Status.UNREACHABLE)

    def _parsed(self, status: int, content: bytes) -> dict[str, Any]:
        """Return the figures in an answer, if there are any."""
        if status == 421:  # noqa: PLR2004
            text = f"{self.place.name}: the mirror is not known by this name; expected its address,"
            raise CommandError(
                "mirror", f"{text} or a name in its [server] admin_hosts", Status.UNREACHABLE
            )
        figures: Any = None
        with suppress(ValueError, RecursionError):
            figures = json.loads(content) if status == 200 else None  # noqa: PLR2004
        if not isinstance(figures, dict) or "version" not in figures:
            what = f"{_PATH} is no figures of a mirror's (status {status})"
            text = f"{self.place.name}: {what}; expected the admin port of one"
            raise CommandError("mirror", text, Status.UNREACHABLE)
        return figures

    async def _ask(self) -> tuple[int, bytes]:
        url = f"{self.place.url}{_PATH}".encode()
        response = await self._agent.request(b"GET", url, Headers({b"User-Agent": [b"ghmirror"]}))
        return response.code, await readBody(response)
