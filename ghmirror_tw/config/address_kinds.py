"""Kinds of values that are addresses: URLs, endpoints, networks, hosts and targets of snapshots."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from attrs import field, frozen

from ghmirror_tw.config.value_kinds import ValueKind, secret
from ghmirror_tw.http.outbound_proxy import OutboundProxy
from ghmirror_tw.runtime.whole_numbers import whole_number

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_AUTHORITY: Final = re.compile(
    r"(?:(?P<username>[^:@]*)(?P<password>:[^@]*)?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9._-]*)(?::(?P<port>[0-9]{1,5})?)?"
)
_PORT: Final = re.compile(r"(?:tcp6?|ssl):(?:port=)?([0-9]+)(?::|$)")
_SYSTEMD: Final = re.compile("systemd:domain=(?:INET6?|UNIX):(?:index=[0-9]+|name=.+)")
_MAX_PORT: Final = 65_535


@frozen
class UrlAuthority:
    """The authority of a URL (RFC 3986, section 3.2); *host* is lower case, IPv6 in brackets."""

    host: str
    port: int | None
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def origin(self) -> str:
        """Host and port as a URL has them."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, text: str) -> UrlAuthority:
        """Parse an authority; user and password are percent-decoded."""
        found = _AUTHORITY.fullmatch(text)
        if found is None:
            raise ValueError("its host or port is not valid")
        if found["host"].startswith("["):
            _check_ipv6(found["host"][1:-1])
        port = int(found["port"]) if found["port"] else None
        if port is not None and not 0 < port <= _MAX_PORT:
            raise ValueError("its port is out of range")
        return cls(
            found["host"].lower(),
            port,
            unquote(found["username"] or ""),
            unquote((found["password"] or "")[1:]),
        )


def _check_ipv6(text: str) -> None:
    """Raise `ValueError` unless *text* is an IPv6 address."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError("no IPv6 address between the brackets") from None


def _split(text: str, schemes: tuple[str, ...], *, query: bool = False) -> SplitResult:
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("it contains a character that is not allowed in a URL")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("it is not a URL") from None
    if parts.scheme not in schemes:
        raise ValueError(f"it does not start with {' or '.join(f'{s}:' for s in schemes)}")
    if "#" in text or ("?" in text and not query):
        raise ValueError("it contains a query or a fragment")
    return parts


def _web_url(text: str) -> str:
    parts = _split(text, ("https", "http"))
    if "@" in parts.netloc:
        raise ValueError("it contains a user or a password")
    authority = UrlAuthority.of(parts.netloc)
    usual = {"https": 443, "http": 80}[parts.scheme]
    origin = authority.host if authority.port == usual else authority.origin
    return f"{parts.scheme}://{origin}{parts.path.rstrip('/')}"


web_url: Final = ValueKind(_web_url, "https://HOST[:PORT][/PATH] (or http:) and nothing more")


def proxy_at(url: str) -> OutboundProxy:
    """Parse the http: URL of a proxy. Raises `ValueError`."""
    parts = _split(url, ("http",))
    authority = UrlAuthority.of(parts.netloc)
    if authority.port is None or parts.path not in {"", "/"}:
        raise ValueError("the port is missing, or it contains a path")
    if ":" in authority.username:
        raise ValueError(
            "the user contains a colon, which HTTP Basic authentication does not allow"
        )
    secret.parse(authority.username)
    secret.parse(authority.password)
    return OutboundProxy(
        authority.host.strip("[]"), authority.port, authority.username, authority.password
    )


def _proxy(text: str) -> str:
    proxy_at(text)
    return text.rstrip("/")


proxy: Final = ValueKind(_proxy, "http://[USER:PASSWORD@]HOST:PORT, percent-encoded")


@frozen
class RedisAddress:
    """The address of a Redis: host (without brackets) and port, or the path of a socket."""

    host: str = ""
    port: int = 6379
    socket_path: str = ""
    tls: bool = False
    database: int = 0
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str) -> RedisAddress:
        """Parse a redis:, rediss: or unix: URL. Raises `ValueError`."""
        unix = url.startswith("unix:")
        parts = _split(url, ("redis", "rediss", "unix"), query=unix)
        if unix:
            if parts.netloc and not parts.netloc.endswith("@"):
                raise ValueError("it contains a host")
            authority, path, number = UrlAuthority.of(parts.netloc + "x"), parts.path, parts.query
            number = number.removeprefix("db=") if "=" in number or not number else "?"
            if not path.startswith("/"):
                raise ValueError("the path of the socket is missing or relative")
        else:
            authority, path, number = UrlAuthority.of(parts.netloc), "", parts.path[1:]
        if not re.fullmatch("[0-9]{0,5}", number):
            raise ValueError("the database is not a number")
        return cls(
            "" if unix else authority.host.strip("[]"),
            authority.port or 6379,
            unquote(path),
            parts.scheme == "rediss",
            int(number or 0),
            authority.username,
            authority.password,
        )


def _redis_url(text: str) -> str:
    RedisAddress.of(text)
    return text


redis_url: Final = ValueKind(
    _redis_url,
    "redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss: for TLS, or unix:/PATH[?db=DATABASE]",
)


def _reader_url(text: str) -> str:
    if "@" in text:
        raise ValueError("it contains a user or a password, but those of url are used")
    _split(text, ("redis", "rediss"))
    return _redis_url(text)


reader_url: Final = ValueKind(_reader_url, "redis://HOST[:PORT][/DATABASE], or rediss: for TLS")


def _sentinel(text: str) -> tuple[str, int]:
    if "@" in text:
        raise ValueError("it contains a user or a password")
    authority = UrlAuthority.of(text)
    if authority.port is None:
        raise ValueError(f"{text!r} has no port")
    return authority.host.strip("[]"), authority.port


sentinel: Final = ValueKind(_sentinel, "HOST:PORT, by lines or commas")


def _target(text: str) -> str:
    parts = _split(text, ("file", "s3"))
    if parts.scheme == "s3":
        if not re.fullmatch("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", parts.netloc):
            raise ValueError("its bucket name is not valid")
    elif parts.netloc not in {"", "~"} or not parts.path.strip("/"):
        raise ValueError("the path is missing or relative")
    elif parts.netloc:
        text = _home().as_uri() + parts.path
    return text.rstrip("/")


def _home() -> Path:
    """Return the home directory of the user of this process."""
    try:
        home = Path.home()
    except RuntimeError:
        home = Path("/")
    if not home.is_absolute() or home == Path("/"):  # as in many containers
        raise ValueError("the user of this process has no home directory for ~")
    return home


target: Final = ValueKind(_target, "file:///DIRECTORY, file://~/DIRECTORY or s3://BUCKET[/PREFIX]")


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(str(error)) from None


network: Final = ValueKind(_network, "addresses or networks such as 10.0.0.0/8, by lines or commas")


def _host_name(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})", text):
        raise ValueError(f"{text!r} is not the name of a host")
    return text.lower()


host_name: Final = ValueKind(
    _host_name, "names of hosts such as mirror.example.org, by lines or commas"
)


def _endpoint(text: str) -> str:
    # Imported late, so that reading settings does not load much of Twisted.
    from twisted.internet.endpoints import serverFromString  # noqa: PLC0415

    port = _PORT.match(text)
    if port is not None and whole_number(port[1], _MAX_PORT) is None:
        raise ValueError(f"port {port[1][:20]} is out of range")
    if text.startswith("systemd:"):  # the sockets exist only when the service starts
        if not _SYSTEMD.fullmatch(text):
            raise ValueError(f"{text!r} does not name a systemd socket")
        return text
    no_reactor: Any = None  # the endpoint uses it only when it listens
    try:
        serverFromString(no_reactor, text)
    except Exception as error:  # noqa: BLE001 - each parser raises other exceptions
        raise ValueError(f"{text!r} cannot be used ({type(error).__name__}: {error})") from None
    return text


endpoint: Final = ValueKind(
    _endpoint,
    "Twisted endpoint descriptions such as tcp:8080 or unix:/run/mirror.sock, by lines or commas",
)
