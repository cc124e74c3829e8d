"""INI file and environment become frozen settings, or a list of every fault in them.

`load` is all that a program needs. `OPTIONS` is the table of what can be set; it is made from the
classes below, so an option stands in one place: its name, type, default, kind and help. Durations
are seconds, sizes are bytes, and what is left empty is ``""`` (or an empty tuple).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

import attrs
from attrs import field, frozen

from ghmirror_tw.config import values as kinds
from ghmirror_tw.config.values import Lines, Network, RedisAddress, ValueKind

PREFIX: Final = "GHMIRROR_"
#: Port 0 is another one each time.
_ANY_PORT: Final = re.compile(r"(tcp[46]?|ssl):(port=)?0(:|$)")

#: As many characters as 128 bits take in hexadecimal digits.
_SHORTEST_SECRET: Final = 32

#: When an option may change while the mirror runs.
_AT_SIGHUP: Final = "at SIGHUP"
_AT_EACH_CONNECTION: Final = "at each connection: what the file holds"


class ConfigError(Exception):
    """The configuration cannot be used; *faults* says why, a sentence each, without secrets."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


@frozen
class Option:
    """One thing that can be set; *default* is written as it would be in a file.

    A *secret* can also be given as ``<name>_path`` and is never shown. A *verbatim* one has no
    comments. One with *many* entries has them by lines or commas; *collect* makes them one value.
    *reread*: when another value is taken while the mirror runs; empty: when it is started.
    """

    section: str
    name: str
    default: str
    kind: ValueKind[Any]
    help: str
    secret: bool = False
    verbatim: bool = False
    many: bool = False
    collect: Callable[[Iterable[Any]], Any] = tuple
    reread: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that wins over the file."""
        return f"{PREFIX}{self.section}_{self.name}".upper()

    @property
    def expected(self) -> str:
        """What a value has to be, for messages and documentation."""
        return self.kind.expected

    def parse(self, text: str) -> Any:
        """Return the value that *text* stands for; each argument of a `ValueError` is a fault."""
        if not self.many:
            return self.kind.parse(text)
        values, wrong = [], []
        for entry in kinds.entries(text):
            try:
                values.append(self.kind.parse(entry))
            except ValueError as error:
                wrong.append(str(error))
        if wrong:
            raise ValueError(*wrong)
        return self.collect(values)


def _option(
    default: str, kind: ValueKind[Any], text: str, *, hidden: bool = False, **more: Any
) -> Any:
    """Return an attrs field that carries its `Option`; *hidden* keeps it out of the repr."""
    about = {"default": default, "kind": kind, "help": text, **more}
    value = Option("", "", **about)
    return field(
        factory=lambda: value.parse(default),
        repr=not (hidden or value.secret),
        metadata={"option": about},
    )


def _secret_now(section: str, name: str, path: str, kind: ValueKind[str]) -> str:
    try:
        return kinds.read_secret(path, kind)
    except ValueError as error:
        raise ConfigError([_fault(section, name, error, kind.expected)]) from None


def _fault(section: str, name: str, wrong: object, expected: str, origin: str = "") -> str:
    return f"[{section}] {name}: {wrong}; expected {expected}{origin}"


@frozen(kw_only=True)
class Server:
    """How the mirror is reached, and by whom."""

    listen: tuple[str, ...] = _option(
        "tcp:8080", kinds.endpoint, "Where clients are served.", many=True
    )
    admin_listen: tuple[str, ...] = _option(
        "tcp:8081:interface=127.0.0.1",
        kinds.endpoint,
        "Where /metrics and the status page are served; empty: nowhere.",
        many=True,
    )
    admin_hosts: frozenset[str] = _option(
        "",
        kinds.host_name,
        "The names, besides addresses and localhost, by which admin_listen is reached.",
        many=True,
        collect=frozenset,
    )
    public_url: str = _option(
        "",
        kinds.optional(kinds.web_url, ""),
        "The mirror's URL for requests with its host or by trusted_proxies; empty: as Host says.",
    )
    trusted_proxies: tuple[Network, ...] = _option(
        "",
        kinds.network,
        "The addresses whose X-Forwarded-Host is believed.",
        many=True,
    )
    allowed_users: frozenset[str] = _option(
        "",
        kinds.login,
        "The GitHub logins, and Apps as name[bot], that may use the mirror; empty: everyone.",
        many=True,
        collect=frozenset,
        reread=_AT_SIGHUP,
    )
    max_request_size: int = _option(
        "2GiB", kinds.size("1KiB"), "Larger request content is refused with 413."
    )
    shutdown_delay: float = _option(
        "0s", kinds.duration("0s"), "How long after SIGTERM it is unready, but still serving."
    )
    shutdown_grace: float = _option(
        "20s", kinds.duration("0s"), "How long after that requests in flight may take to end."
    )
    reuse_port: bool = _option(
        "no", kinds.switch, "Whether several processes share the ports of listen."
    )
    enterprise_version: str = _option(
        "",
        kinds.optional(kinds.pattern(r"[0-9]+\.[0-9]+\.[0-9]+", "a version such as 3.17.0"), ""),
        "The GitHub Enterprise Server version that /api/v3 claims to be; empty: none.",
    )


@frozen(kw_only=True)
class GitHub:
    """How GitHub is asked."""

    api_url: str = _option("https://api.github.com", kinds.web_url, "Where the API is.")
    status_url: str = _option(
        "https://www.githubstatus.com/api/v2/components.json",
        kinds.optional(kinds.web_url, ""),
        "GitHub's status page; empty: not asked; the default is asked for api.github.com only.",
    )
    status_interval: float = _option(
        "30s", kinds.duration("1s"), "How often the status page is asked."
    )
    connect_timeout: float = _option(
        "5s", kinds.duration(), "How long a connection to GitHub may take to open."
    )
    timeout: float = _option(
        "30s", kinds.duration(), "The deadline of a question, until the answer's fields have come."
    )
    stale_after: float = _option(
        "5s", kinds.duration(), "How long a client with a stale answer at hand waits for GitHub."
    )
    idle_timeout: float = _option(
        "60s", kinds.duration(), "The longest time between two pieces of content."
    )
    max_connections: int = _option("100", kinds.count(1), "How many connections to GitHub open.")
    max_in_flight_per_credential: int = _option(
        "80", kinds.count(1), "How much is asked at a time with one credential."
    )
    points_per_minute: int | Literal["auto"] = _option(
        "auto",
        kinds.points,
        "GitHub's budget for a credential; 0: none; auto: 900 for an hour after it complained.",
    )
    reserve: int = _option("0", kinds.count(0), "How much quota is kept back for writes.")
    proxy: str = _option(
        "",
        kinds.optional(kinds.proxy, ""),
        "The proxy through which GitHub is asked, by CONNECT.",
        secret=True,
    )
    proxy_path: str = _option(
        "",
        kinds.optional(kinds.secret_file(kinds.proxy), ""),
        "A file with the proxy's URL.",
        reread=_AT_EACH_CONNECTION,
    )
    ca_path: str = _option(
        "",
        kinds.optional(kinds.pem_file, ""),
        "Certificate authorities to trust besides the system's (GitHub Enterprise Server).",
        reread=_AT_SIGHUP,
    )

    def __attrs_post_init__(self) -> None:
        # A page about GitHub.com says nothing about another server.
        default = attrs.fields(GitHub).status_url.metadata["option"]["default"]
        if self.status_url == default and self.api_url != "https://api.github.com":
            object.__setattr__(self, "status_url", "")

    def current_proxy(self) -> str:
        """Return the proxy's URL as it is now, or ``""``; `ConfigError` if it cannot be read."""
        if self.proxy_path:
            return _secret_now("github", "proxy_path", self.proxy_path, kinds.proxy)
        return self.proxy


@frozen(kw_only=True)
class Cache:
    """What is remembered, and when it is used."""

    backend: str = _option("memory", kinds.choice("memory", "redis"), "Where it is remembered.")
    share: bool = _option(
        "yes", kinds.switch, "Whether one credential's answer spares the others paying for it."
    )
    fresh_for: float = _option(
        "0s", kinds.duration("0s"), "How long an answer is given again without asking GitHub."
    )
    verify_last: bool = _option("yes", kinds.switch, "Whether rel=last of every list is proved.")
    stale_limit: float = _option(
        "7d", kinds.duration(), "How old an answer may be that is given while GitHub is away."
    )
    max_stored_size: int = _option(
        "8MiB", kinds.size("1KiB"), "Content that is larger unpacked is passed on and not stored."
    )
    collapse_wait: float = _option(
        "10s", kinds.duration("0s"), "How long others wait for the first to ask an unknown thing."
    )
    credential_secret: str = _option(
        "",
        kinds.secret,
        "The key of the hashes by which credentials and records are known.",
        secret=True,
        verbatim=True,
        reread=_AT_SIGHUP,
    )
    credential_secret_path: str = _option(
        "",
        kinds.optional(kinds.secret_file(kinds.secret), ""),
        "A file with credential_secret.",
        reread=_AT_SIGHUP,
    )

    def current_credential_secret(self) -> str:
        """Return the secret as it is now, or ``""``; `ConfigError` if it cannot be read."""
        if path := self.credential_secret_path:
            return _secret_now("cache", "credential_secret_path", path, kinds.secret)
        return self.credential_secret


@frozen(kw_only=True)
class Memory:
    """The store in this process."""

    max_size: int = _option(
        "512MiB", kinds.size("1MiB"), "How much is remembered before the least used goes."
    )
    max_content_size: int = _option(
        "64MiB",
        kinds.size("8MiB"),
        "How much content the requests under way may hold, besides the store. At the limit they "
        "wait for up to 10 s, small content never for large. Then content from GitHub is passed on "
        "and not stored, and a request for stored content gets a 503.",
    )


@frozen(kw_only=True)
class Redis:
    """The store that replicas share."""

    url: str = _option(
        "redis://localhost:6379/0", kinds.redis_url, "Where the primary is.", hidden=True
    )
    reader_url: str = _option(
        "",
        kinds.optional(kinds.reader_url, ""),
        "Where is read; empty: where is written.",
        hidden=True,
    )
    sentinels: tuple[tuple[str, int], ...] = _option(
        "",
        kinds.sentinel,
        "The Sentinels to ask for the primary; the host in url is the service's name then.",
        many=True,
    )
    cluster: bool = _option("no", kinds.switch, "Whether it is a Redis Cluster.")
    username: str = _option(
        "",
        kinds.optional(kinds.pattern(r"[^\s\x00-\x1f]+", "a name without white space"), ""),
        "The user, where Redis has an access control list.",
    )
    password: str = _option(
        "", kinds.secret, "The password, if it is not in url.", secret=True, verbatim=True
    )
    password_path: str = _option(
        "",
        kinds.optional(kinds.secret_file(kinds.secret), ""),
        "A file with the password.",
        reread=_AT_EACH_CONNECTION,
    )
    tls_ca_path: str = _option(
        "",
        kinds.optional(kinds.pem_file, ""),
        "Certificate authorities to trust besides the system's, for rediss: servers.",
        reread=_AT_SIGHUP,
    )
    pool_size: int = _option("4", kinds.count(1), "How many connections a node is given.")
    timeout: float = _option(
        "250ms", kinds.duration(), "The deadline for all that a request asks of Redis."
    )
    ttl: float = _option("30d", kinds.duration("1m"), "How long what nobody asks for is kept.")
    key_prefix: str = _option(
        "ghmirror",
        kinds.pattern("[A-Za-z0-9_.:-]{1,100}", "letters, digits and any of _ . : -"),
        "How every key starts, so that several mirrors can share a Redis.",
    )
    local_size: int = _option(
        "64MiB", kinds.size(), "How much content each replica keeps a copy of."
    )
    fallback: bool = _option(
        "yes", kinds.switch, "Whether a memory store stands in while Redis is away."
    )

    @property
    def address(self) -> RedisAddress:
        """What *url* says, in parts."""
        return RedisAddress.of(self.url)

    @property
    def reader_address(self) -> RedisAddress | None:
        """What *reader_url* says, in parts."""
        return RedisAddress.of(self.reader_url) if self.reader_url else None

    @property
    def effective_username(self) -> str:
        """The user, from *url* or *username*; for the reader too."""
        return self.username or self.address.username

    def current_password(self) -> str:
        """Return the password as it is now, or ``""``; `ConfigError` if it cannot be read."""
        if self.password_path:
            return _secret_now("redis", "password_path", self.password_path, kinds.secret)
        return self.password or self.address.password


@frozen(kw_only=True)
class Snapshot:
    """Copies of the store, and what becomes of them."""

    target: str = _option(
        "", kinds.optional(kinds.target, ""), "Where copies are kept; empty: none are made."
    )
    interval: float = _option("15m", kinds.duration("1s"), "How often a copy is made.")
    keep: int = _option("24", kinds.count(1), "How many copies of each store are kept.")
    restore: bool = _option("yes", kinds.switch, "Whether an empty store is filled from a copy.")
    restore_wait: float = _option(
        "30s", kinds.duration("0s"), "How long requests for unknown things wait for that."
    )
    s3_endpoint_url: str = _option(
        "", kinds.optional(kinds.web_url, ""), "Where S3 is, if it is not Amazon's."
    )
    s3_region: str = _option(
        "",
        kinds.optional(kinds.pattern("[a-z0-9-]{1,50}", "a region such as eu-central-1"), ""),
        "The bucket's region; empty: as the AWS environment says.",
    )
    s3_sse: str = _option(
        "", kinds.optional(kinds.choice("AES256", "aws:kms"), ""), "How S3 encrypts the copies."
    )
    s3_kms_key_id: str = _option(
        "",
        kinds.optional(kinds.pattern(r"[!-~]{1,2048}", "the ID, ARN or alias of a key"), ""),
        "The key for aws:kms; empty: the account's own for S3.",
    )
    elasticache_replication_group: str = _option(
        "",
        kinds.optional(
            kinds.pattern("[A-Za-z][A-Za-z0-9-]{0,39}", "the ID of a replication group"), ""
        ),
        "Whose ElastiCache snapshots are exported to the bucket, besides our own.",
    )
    elasticache_interval: float = _option(
        "6h", kinds.duration("2h"), "How often ElastiCache is told to make one."
    )

    @property
    def directory(self) -> Path | None:
        """The directory of a file: target."""
        parts = urlsplit(self.target)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    @property
    def bucket(self) -> tuple[str, str] | None:
        """Bucket and prefix (without slashes around it) of an s3: target."""
        parts = urlsplit(self.target)
        return (parts.netloc, parts.path.strip("/")) if parts.scheme == "s3" else None


@frozen(kw_only=True)
class Log:
    """What is written down."""

    format: str = _option("text", kinds.choice("text", "json"), "How a line looks.")
    level: str = _option(
        "info",
        kinds.choice("debug", "info", "warn", "error", "critical"),
        "The least important thing that is logged.",
    )
    access: str = _option(
        "all", kinds.choice("all", "errors", "none"), "Which requests are logged, a line each."
    )


@frozen
class Settings:
    """All that can be set, and what the operator should know about it (*warnings*)."""

    server: Server = field(factory=Server)
    github: GitHub = field(factory=GitHub)
    cache: Cache = field(factory=Cache)
    memory: Memory = field(factory=Memory)
    redis: Redis = field(factory=Redis)
    snapshot: Snapshot = field(factory=Snapshot)
    log: Log = field(factory=Log)
    warnings: tuple[str, ...] = ()


SECTIONS: Final[Mapping[str, type[Any]]] = {
    "server": Server,
    "github": GitHub,
    "cache": Cache,
    "memory": Memory,
    "redis": Redis,
    "snapshot": Snapshot,
    "log": Log,
}

#: Everything that can be set, in the order of the file; the reference is generated from it.
OPTIONS: Final = tuple(
    Option(section, attribute.name, **attribute.metadata["option"])
    for section, cls in SECTIONS.items()
    for attribute in attrs.fields(cls)
)

_BY_KEY: Final = {(option.section, option.name): option for option in OPTIONS}

Key = tuple[str, str]


def read_settings(path: str | None) -> Settings:
    """Return the settings of the INI file at *path* and of this process's environment.

    Raises `ConfigError`.
    """
    return load(None if path is None else Path(path).absolute(), os.environ)


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Return the settings of the file at *path* and of *environ*, which wins.

    Raises `ConfigError` with everything that is wrong with either.
    """
    lines = Lines() if path is None else _read_file(path)
    given: dict[Key, tuple[str, str]] = {}
    faults = lines.faults + _take_file(lines, environ, given)
    warnings = _take_environ(environ, given)
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    bad: set[Key] = set()
    for (section, name), (text, origin) in given.items():
        option = _BY_KEY[section, name]
        try:
            values[section][name] = option.parse(text)
        except ValueError as error:
            bad.add((section, name))
            faults += [
                _fault(section, name, wrong, option.expected, origin) for wrong in error.args
            ]
    settings = Settings(**{name: cls(**values[name]) for name, cls in SECTIONS.items()})
    faults += [str(clash) for clash in clashes(settings) if not bad.intersection(clash.keys)]
    if faults:
        raise ConfigError(faults)
    return attrs.evolve(settings, warnings=(*warnings, *_cautions(settings)))


def _read_file(path: Path) -> Lines:
    try:
        content = path.read_bytes()
    except OSError as error:
        return Lines(faults=[f"{path}: cannot be read ({error.strerror}); expected an INI file"])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Lines(faults=[f"{path}: line {line}: not UTF-8; expected an INI file"])
    lines = kinds.read_lines(text)
    return attrs.evolve(lines, faults=[f"{path}: {fault}" for fault in lines.faults])


def _take_file(
    lines: Lines, environ: Mapping[str, str], given: dict[Key, tuple[str, str]]
) -> list[str]:
    """Put what the file says into *given*, except where *environ* wins; return the faults."""
    faults = [
        f"[{section}]: unknown section; expected {_one_of(section, SECTIONS)} (line {line})"
        for section, line in lines.sections.items()
        if section not in SECTIONS
    ]
    seen: dict[Key, int] = {}
    for entry in lines.entries:
        key, origin = (entry.section, entry.name), f" (line {entry.line})"
        option = _BY_KEY.get(key)
        if entry.section not in SECTIONS:
            continue
        if option is None:
            names = [name for section, name in _BY_KEY if section == entry.section]
            faults.append(_fault(*key, "unknown option", _one_of(entry.name, names), origin))
        elif key in seen:
            faults.append(_fault(*key, f"given already in line {seen[key]}", "it once", origin))
        elif option.variable in environ:
            pass
        elif len(entry.lines) > 1 and not option.many:
            wrong = "it goes on in the next line, which stands deeper"
            faults.append(_fault(*key, wrong, option.expected, origin))
        elif option.verbatim:
            given[key] = (entry.lines[0], origin)
        else:
            given[key] = ("\n".join(map(kinds.without_comment, entry.lines)), origin)
        seen.setdefault(key, entry.line)
    return faults


def _one_of(wanted: str, choices: Iterable[str]) -> str:
    """Return the choice that was probably meant, or else all of them."""
    near = difflib.get_close_matches(wanted, choices, 1)
    return f"perhaps {near[0]}" if near else f"one of {', '.join(choices)}"


def _take_environ(environ: Mapping[str, str], given: dict[Key, tuple[str, str]]) -> list[str]:
    """Put what *environ* says into *given*; return warnings about variables like ours."""
    ours = {option.variable: option for option in OPTIONS}
    for variable, option in ours.items():
        text = environ.get(variable)
        if text is None:
            continue
        if option.verbatim:
            text = kinds.without_newline(text)
        elif not option.many:
            text = text.strip()
        given[option.section, option.name] = (text, f" (environment variable {variable})")
    return [
        f"environment variable {variable} is no option of ours; it is ignored"
        for variable in sorted(environ)
        if variable.startswith(PREFIX) and variable not in ours
    ]


def _default(key: Key) -> Any:
    option = _BY_KEY[key]
    return option.parse(option.default)


def _is_set(settings: Settings, key: Key) -> bool:
    """Whether the option is neither empty nor what it is by default."""
    value = getattr(getattr(settings, key[0]), key[1])
    return bool(value != "" and value != _default(key))


@frozen
class Clash:
    """Options that contradict each other; the first of *keys* is the one to name."""

    keys: tuple[Key, ...]
    wrong: str
    expected: str

    def __str__(self) -> str:
        return _fault(*self.keys[0], self.wrong, self.expected)


def _clash(names: str, wrong: str, expected: str) -> Clash:
    """Return a clash of the options *names*, which are written ``section.option``."""
    keys = [name.partition(".") for name in names.split()]
    return Clash(tuple((section, option) for section, _, option in keys), wrong, expected)


def clashes(settings: Settings) -> Iterator[Clash]:
    """Yield what contradicts what; each value is fine for itself."""
    yield from _server_clashes(settings.server)
    yield from _limit_clashes(settings)
    yield from _secret_clashes(settings)
    yield from _login_clashes(settings.redis)
    yield from _redis_clashes(settings.redis)
    yield from _snapshot_clashes(settings)


def _server_clashes(server: Server) -> Iterator[Clash]:
    if not server.listen:
        yield _clash("server.listen", "nothing is given", "at least one endpoint")
    both = [*server.listen, *server.admin_listen]
    for twice in sorted({one for one in both if both.count(one) > 1 and not _ANY_PORT.match(one)}):
        names = "server.listen server.admin_listen"
        yield _clash(names, f"{twice!r} is there twice", "it once, here or in admin_listen")


def _limit_clashes(settings: Settings) -> Iterator[Clash]:
    # Only what was set on purpose: a default that is out of reach does no harm.
    for name in ("connect_timeout", "stale_after"):
        value_s = getattr(settings.github, name)
        if _is_set(settings, ("github", name)) and value_s >= settings.github.timeout:
            yield _clash(f"github.{name} github.timeout", "not less than timeout", "less")
    stored, memory = settings.cache.max_stored_size, settings.memory.max_size
    if _is_set(settings, ("cache", "max_stored_size")) and stored > memory:
        names = "cache.max_stored_size memory.max_size"
        yield _clash(names, "more than [memory] max_size", "less")


def _secret_clashes(settings: Settings) -> Iterator[Clash]:
    for section, name in ((option.section, option.name) for option in OPTIONS if option.secret):
        values = getattr(settings, section)
        if getattr(values, name) and getattr(values, f"{name}_path"):
            names = f"{section}.{name} {section}.{name}_path"
            yield _clash(names, f"{name}_path is set too", "one of the two")


def _login_clashes(redis: Redis) -> Iterator[Clash]:
    url = redis.address
    if url.username and redis.username:
        yield _clash("redis.username redis.url", "url has a user too", "one of the two")
    for name in ("password", "password_path"):
        if url.password and getattr(redis, name):
            yield _clash(f"redis.{name} redis.url", "url has a password too", "one of the two")
    password = url.password or redis.password or redis.password_path
    if redis.effective_username and not password:
        names = "redis.username redis.url redis.password redis.password_path"
        yield _clash(names, "a user without a password", "both or neither")


def _redis_clashes(redis: Redis) -> Iterator[Clash]:
    url, reader = redis.address, redis.reader_address
    if redis.tls_ca_path and not (url.tls or (reader is not None and reader.tls)):
        names = "redis.tls_ca_path redis.url redis.reader_url"
        yield _clash(names, "no connection uses TLS", "a rediss: URL as well")
    if redis.cluster and url.database:
        names = "redis.cluster redis.url"
        yield _clash(names, "a cluster has but one database", "a URL without a number")
    if reader is not None and reader.database != url.database:
        names = "redis.reader_url redis.url"
        yield _clash(names, "it names another database than url", "the same")
    ways = {
        "cluster": redis.cluster,
        "sentinels": redis.sentinels,
        "reader_url": redis.reader_url,
        "url": url.socket_path,
    }
    for one, other in combinations([way for way, is_used in ways.items() if is_used], 2):
        against = "a unix: url" if other == "url" else other
        names = f"redis.{one} redis.{other}"
        yield _clash(names, f"it does not go together with {against}", "one of the two")


def _snapshot_clashes(settings: Settings) -> Iterator[Clash]:
    snapshot = settings.snapshot
    in_s3 = snapshot.bucket is not None
    group = "elasticache_replication_group"
    for name in ("s3_endpoint_url", "s3_region", "s3_sse", "s3_kms_key_id", group):
        if getattr(snapshot, name) and not in_s3:
            names = f"snapshot.{name} snapshot.target"
            yield _clash(names, "target is not in S3", "a target such as s3://bucket/prefix")
    if snapshot.s3_kms_key_id and snapshot.s3_sse != "aws:kms":
        names = "snapshot.s3_kms_key_id snapshot.s3_sse"
        yield _clash(names, "s3_sse does not use it", "s3_sse = aws:kms as well")
    if snapshot.elasticache_replication_group and settings.cache.backend != "redis":
        names = f"snapshot.{group} cache.backend"
        yield _clash(names, "[cache] backend is not redis", "backend = redis as well")


def _cautions(settings: Settings) -> Iterator[str]:
    """Yield what works, but may not be what was meant."""
    cache = settings.cache
    shared = ["Redis"] if cache.backend == "redis" else []
    shared += ["S3"] if settings.snapshot.bucket is not None else []
    if shared and not (cache.credential_secret or cache.credential_secret_path):
        who = f"whoever can write to {' or '.join(shared)} can make up answers"
        yield f"[cache] credential_secret is empty, so {who}"
    secret = cache.current_credential_secret()
    if 0 < len(secret) < _SHORTEST_SECRET:
        yield (
            f"[cache] credential_secret has fewer than {_SHORTEST_SECRET} characters, so it may be"
            " found by trying: use a longer one, such as the output of openssl rand -hex 32"
        )
    unused = [name for section, name in _BY_KEY if section == "redis"]
    unused = [name for name in unused if _is_set(settings, ("redis", name))]
    if unused and cache.backend != "redis":
        yield f"[redis] {', '.join(unused)}: not used while [cache] backend is {cache.backend}"
