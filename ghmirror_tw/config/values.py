"""What can stand in a configuration file: its lines, and the kinds of values that options take.

A kind reads one text into one value. It raises `ValueError` with what is wrong; what would have
been right is its `expected`. No message repeats a value that could contain a password.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from attrs import field, frozen

from ghmirror_tw.http.tunnels import OutboundProxy
from ghmirror_tw.runtime.numbers import whole_number

T = TypeVar("T")

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_UNITS_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION: Final = re.compile(
    "".join(rf"(?:(?P<{unit}>[0-9]{{1,9}}(?:\.[0-9]{{1,6}})?){unit})?" for unit in _UNITS_MS)
)
_LONGEST_S: Final = 3650 * 86_400.0
_UNITS_BYTES: Final[Mapping[str, int]] = {
    "b": 1,
    **{prefix + "b": 1000 ** (power + 1) for power, prefix in enumerate("kmgt")},
    **{prefix + "ib": 1 << 10 * (power + 1) for power, prefix in enumerate("kmgt")},
}
_SIZE: Final = re.compile(r"([0-9]{1,15})([a-z]+)", re.IGNORECASE)
_AUTHORITY: Final = re.compile(
    r"(?:(?P<username>[^:@]*)(?P<password>:[^@]*)?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9._-]*)(?::(?P<port>[0-9]{1,5})?)?"
)
_PORT: Final = re.compile(r"(?:tcp6?|ssl):(?:port=)?([0-9]+)(?::|$)")
_SYSTEMD: Final = re.compile("systemd:domain=(?:INET6?|UNIX):(?:index=[0-9]+|name=.+)")
_MAX_PORT: Final = 65_535


@frozen
class ValueKind(Generic[T]):
    """How one text becomes one value, and the words for what is expected."""

    parse: Callable[[str], T]
    expected: str


def optional(kind: ValueKind[T], empty: T) -> ValueKind[T]:
    """Return a kind that also takes nothing, which is *empty* then."""
    return ValueKind(
        lambda text: kind.parse(text) if text else empty, f"{kind.expected}, or nothing"
    )


#: What separates the entries of a list; a comma behind a backslash belongs to its entry.
_BETWEEN_ENTRIES: Final = re.compile(r"(?<!\\),|\n")


def entries(text: str) -> list[str]:
    """Return the entries of a list, which are separated by line breaks or commas."""
    return [entry for raw in _BETWEEN_ENTRIES.split(text) if (entry := raw.strip())]


# ---------------------------------------------------------------- numbers, words, switches


def seconds(text: str) -> float:
    """Return the seconds that a duration such as ``1h30m`` or ``250ms`` stands for."""
    found = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if not text or found is None:
        raise ValueError(f"{text!r} is not a duration")
    parts = {unit: number for unit, number in found.groupdict().items() if number is not None}
    total = sum(Decimal(number) * _UNITS_MS[unit] for unit, number in parts.items())
    return float(Decimal(total) / 1000)


def duration(minimum: str = "1ms") -> ValueKind[float]:
    """Return the kind of durations from *minimum* to ten years, in seconds."""
    least_s = seconds(minimum)

    def parse(text: str) -> float:
        value_s = seconds(text)
        if value_s < least_s:
            raise ValueError(f"{text!r} is too short")
        if value_s > _LONGEST_S:
            raise ValueError(f"{text!r} is too long")
        return value_s

    return ValueKind(parse, f"a duration such as 250ms, 30s, 15m, 7d, of {minimum} to 3650d")


def size(minimum: str = "0") -> ValueKind[int]:
    """Return the kind of sizes from *minimum* on, in bytes."""

    def size_bytes(text: str) -> int:
        found = _SIZE.fullmatch(text)
        if text == "0":
            return 0
        if found is None or (unit := found[2].lower()) not in _UNITS_BYTES:
            raise ValueError(f"{text!r} is not a size")
        return int(found[1]) * _UNITS_BYTES[unit]

    least_bytes = size_bytes(minimum)

    def parse(text: str) -> int:
        value_bytes = size_bytes(text)
        if value_bytes < least_bytes:
            raise ValueError(f"{text!r} is too small")
        return value_bytes

    return ValueKind(parse, f"a size such as 512KiB, 8MiB, 1GiB, of {minimum} or more")


def count(minimum: int) -> ValueKind[int]:
    """Return the kind of whole numbers from *minimum* on."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text):
            raise ValueError(f"{text!r} is not a whole number")
        if int(text) < minimum:
            raise ValueError(f"{text!r} is too small")
        return int(text)

    return ValueKind(parse, f"a whole number of {minimum} or more")


def choice(*words: str) -> ValueKind[str]:
    """Return the kind of exactly these *words*, in any case."""
    by_lower = {word.lower(): word for word in words}

    def parse(text: str) -> str:
        if text.lower() not in by_lower:
            raise ValueError(f"{text!r} is none of the choices")
        return by_lower[text.lower()]

    return ValueKind(parse, f"{', '.join(words[:-1])} or {words[-1]}")


def pattern(regex: str, what: str) -> ValueKind[str]:
    """Return the kind of texts that *regex* matches as a whole, which are *what*."""
    compiled = re.compile(regex)

    def parse(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"{text!r} does not look like one")
        return text

    return ValueKind(parse, what)


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCHES:
        raise ValueError(f"{text!r} is neither yes nor no")
    return _SWITCHES[text.lower()]


_SWITCHES: Final[Mapping[str, bool]] = dict.fromkeys(("yes", "true", "on", "1"), True) | (
    dict.fromkeys(("no", "false", "off", "0"), False)
)
switch: Final = ValueKind(_switch, "yes or no")


def _points(text: str) -> int | Literal["auto"]:
    return "auto" if text.lower() == "auto" else count(0).parse(text)


points: Final = ValueKind(_points, "auto, or a whole number of 0 or more")


def _login(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,98}(?:\[bot\])?", text):
        raise ValueError(f"{text!r} is not a login")
    return text.lower()


login: Final = ValueKind(_login, "GitHub logins such as octocat or name[bot], by lines or commas")


#: Control characters, and what the environment makes of bytes that are not UTF-8.
_NOT_IN_SECRET: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def _secret(text: str) -> str:
    if _NOT_IN_SECRET.search(text):
        raise ValueError("there is a line break or another control character in it")
    return text


secret: Final = ValueKind(_secret, "text on one line")


# ---------------------------------------------------------------- addresses


@frozen
class Authority:
    """Who and where, in a URL (RFC 3986, section 3.2); *host* is lower case, IPv6 in brackets."""

    host: str
    port: int | None
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def origin(self) -> str:
        """Host and port as they stand in a URL."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, text: str) -> Authority:
        """Read an authority; percent-encoding in user and password is undone."""
        found = _AUTHORITY.fullmatch(text)
        if found is None:
            raise ValueError("host or port cannot be understood")
        if found["host"].startswith("["):
            _check_ipv6(found["host"][1:-1])
        port = int(found["port"]) if found["port"] else None
        if port is not None and not 0 < port <= _MAX_PORT:
            raise ValueError("there is no such port")
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
        raise ValueError("there is no IPv6 address between the brackets") from None


def _split(text: str, schemes: tuple[str, ...], *, query: bool = False) -> SplitResult:
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("there is a character in it that no URL has")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("it is not a URL") from None
    if parts.scheme not in schemes:
        raise ValueError(f"it does not start with {' or '.join(f'{s}:' for s in schemes)}")
    if "#" in text or ("?" in text and not query):
        raise ValueError("there is a query or a fragment in it")
    return parts


def _web_url(text: str) -> str:
    parts = _split(text, ("https", "http"))
    if "@" in parts.netloc:
        raise ValueError("there is a user or a password in it")
    authority = Authority.of(parts.netloc)
    usual = {"https": 443, "http": 80}[parts.scheme]
    origin = authority.host if authority.port == usual else authority.origin
    return f"{parts.scheme}://{origin}{parts.path.rstrip('/')}"


web_url: Final = ValueKind(_web_url, "https://HOST[:PORT][/PATH] (or http:) and nothing more")


def proxy_at(url: str) -> OutboundProxy:
    """Read the http: URL of a proxy; `ValueError` says what is wrong with it."""
    parts = _split(url, ("http",))
    authority = Authority.of(parts.netloc)
    if authority.port is None or parts.path not in {"", "/"}:
        raise ValueError("the port is missing, or there is a path in it")
    if ":" in authority.username:
        raise ValueError("there is a colon in the user, which no proxy could tell from the end")
    _secret(authority.username)
    _secret(authority.password)
    return OutboundProxy(
        authority.host.strip("[]"), authority.port, authority.username, authority.password
    )


def _proxy(text: str) -> str:
    proxy_at(text)
    return text.rstrip("/")


proxy: Final = ValueKind(_proxy, "http://[USER:PASSWORD@]HOST:PORT, percent-encoded")


@frozen
class RedisAddress:
    """Where a Redis is: host and port, or the path of a socket; the host is bare of brackets."""

    host: str = ""
    port: int = 6379
    socket_path: str = ""
    tls: bool = False
    database: int = 0
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str) -> RedisAddress:
        """Read a redis:, rediss: or unix: URL; `ValueError` says what is wrong with it."""
        unix = url.startswith("unix:")
        parts = _split(url, ("redis", "rediss", "unix"), query=unix)
        if unix:
            if parts.netloc and not parts.netloc.endswith("@"):
                raise ValueError("there is a host in it")
            authority, path, number = Authority.of(parts.netloc + "x"), parts.path, parts.query
            number = number.removeprefix("db=") if "=" in number or not number else "?"
            if not path.startswith("/"):
                raise ValueError("the path of the socket is missing or relative")
        else:
            authority, path, number = Authority.of(parts.netloc), "", parts.path[1:]
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
        raise ValueError("there is a user or a password in it, but those of url are used")
    _split(text, ("redis", "rediss"))
    return _redis_url(text)


reader_url: Final = ValueKind(_reader_url, "redis://HOST[:PORT][/DATABASE], or rediss: for TLS")


def _sentinel(text: str) -> tuple[str, int]:
    if "@" in text:
        raise ValueError("there is a user or a password in it")
    authority = Authority.of(text)
    if authority.port is None:
        raise ValueError(f"{text!r} has no port")
    return authority.host.strip("[]"), authority.port


sentinel: Final = ValueKind(_sentinel, "HOST:PORT, by lines or commas")


def _target(text: str) -> str:
    parts = _split(text, ("file", "s3"))
    if parts.scheme == "s3":
        if not re.fullmatch("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", parts.netloc):
            raise ValueError("there is no such name of a bucket")
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
    # Imported late: whoever only reads settings need not load half of Twisted.
    from twisted.internet.endpoints import serverFromString  # noqa: PLC0415

    port = _PORT.match(text)
    if port is not None and whole_number(port[1], _MAX_PORT) is None:
        raise ValueError(f"there is no port {port[1][:20]}")
    if text.startswith("systemd:"):  # the sockets are there when the service starts, not before
        if not _SYSTEMD.fullmatch(text):
            raise ValueError(f"{text!r} does not name a socket of systemd's")
        return text
    no_reactor: Any = None  # kept by the endpoint, not used before it listens
    try:
        serverFromString(no_reactor, text)
    except Exception as error:  # noqa: BLE001 - each parser raises what it likes
        raise ValueError(f"{text!r} cannot be used ({type(error).__name__}: {error})") from None
    return text


endpoint: Final = ValueKind(
    _endpoint,
    "Twisted endpoint descriptions such as tcp:8080 or unix:/run/mirror.sock, by lines or commas",
)


# ---------------------------------------------------------------- files that options name


def read_text(path: str) -> str:
    """Return what is in the file now; `ValueError` says why it cannot be read."""
    try:
        return Path(path).read_bytes().decode()
    except OSError as error:
        raise ValueError(f"{path!r} cannot be read ({error.strerror})") from None
    except ValueError:
        raise ValueError(f"{path!r} cannot be read as UTF-8 text") from None


def without_newline(text: str) -> str:
    """Return *text* without the one line break that editors and ``echo`` leave at its end."""
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def read_secret(path: str, kind: ValueKind[str]) -> str:
    """Return the secret that is in the file now; `ValueError` says what is wrong, not with what."""
    content = without_newline(read_text(path))
    if not content:
        raise ValueError(f"{path!r} is empty")
    try:
        return kind.parse(content)
    except ValueError as error:
        raise ValueError(f"in {path!r}: {error}") from None


def secret_file(kind: ValueKind[str]) -> ValueKind[str]:
    """Return the kind of paths to a file that can be read and holds a secret of this *kind*."""

    def parse(text: str) -> str:
        read_secret(text, kind)
        return text

    return ValueKind(parse, f"the path of a file that can be read and holds {kind.expected}")


def _pem_file(text: str) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=read_text(text))
    except (ssl.SSLError, TypeError):  # the latter for what is not ASCII
        raise ValueError(f"{text!r} holds no certificate that can be read") from None
    return text


pem_file: Final = ValueKind(_pem_file, "the path of a file of certificates in PEM format")


# ---------------------------------------------------------------- lines of a file


@frozen
class Entry:
    """One option as it stands in a file: its lines without the name, comments still in them."""

    section: str
    name: str
    line: int
    lines: list[str] = field(factory=list, repr=False)


_HEADER: Final = re.compile(r"\[([^\]]*)\][ \t]*(?:[;#].*)?")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z0-9_.-]+)[ \t]*=(.*)")
_COMMENT: Final = re.compile(r"(?:^|(?<=[ \t]));.*")


def without_comment(text: str) -> str:
    """Return *text* up to a ``;`` that follows white space or comes first, stripped."""
    return _COMMENT.sub("", text).strip()


@frozen
class Lines:
    """What stands in an INI file: its sections (and in which line), options, and faults."""

    sections: dict[str, int] = field(factory=dict)
    entries: list[Entry] = field(factory=list)
    faults: list[str] = field(factory=list)


def read_lines(text: str) -> Lines:
    """Read an INI file; a line that stands deeper than the option before it continues that."""
    found = Lines()
    section: str | None = None
    depth: int | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        indent = len(raw) - len(raw.lstrip())
        if not line or line[0] in ";#":
            continue
        if depth is not None and indent > depth:
            found.entries[-1].lines.append(line)
        elif header := _HEADER.fullmatch(line):
            section, depth = header[1].strip(), None
            if section in found.sections:
                first = found.sections[section]
                found.faults.append(
                    f"line {number}: [{section}] again; expected once (line {first})"
                )
            found.sections.setdefault(section, number)
        elif (assignment := _ASSIGNMENT.fullmatch(line)) is None:
            found.faults.append(
                f"line {number}: not understood; expected [section] or option = value"
            )
        elif section is None:
            found.faults.append(f"line {number}: an option before any section; expected [section]")
        else:
            found.entries.append(Entry(section, assignment[1], number, [assignment[2].strip()]))
            depth = indent
    return found
