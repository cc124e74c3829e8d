"""The options of the mirror: a class for each section, a field for each option.

Each field has the option's default, kind and help, so an option is described in one place.
Durations are seconds, sizes are bytes, and an empty option is ``""`` (or an empty tuple).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

import attrs
from attrs import field, frozen

from ghmirror_tw.config import address_kinds as addresses
from ghmirror_tw.config import file_kinds as files
from ghmirror_tw.config import value_kinds as kinds
from ghmirror_tw.config.address_kinds import Network, RedisAddress
from ghmirror_tw.config.option import Option, current_secret, option

#: When a changed option is read while the mirror runs.
_AT_SIGHUP: Final = "at SIGHUP"
_AT_EACH_CONNECTION: Final = "at each connection: the content of the file"


@frozen(kw_only=True)
class Server:
    """The ports of the mirror, the users that it serves, and its shutdown."""

    listen: tuple[str, ...] = option(
        "tcp:8080", addresses.endpoint, "The endpoints for clients.", many=True
    )
    admin_listen: tuple[str, ...] = option(
        "tcp:8081:interface=127.0.0.1",
        addresses.endpoint,
        "The endpoints for /metrics and the status page; empty: none.",
        many=True,
    )
    admin_hosts: frozenset[str] = option(
        "",
        addresses.host_name,
        "The host names by which admin_listen is reached, besides addresses and localhost.",
        many=True,
        collect=frozenset,
    )
    public_url: str = option(
        "",
        kinds.optional(addresses.web_url, ""),
        "The mirror's URL for requests with its host or by trusted_proxies; empty: the Host field.",
    )
    trusted_proxies: tuple[Network, ...] = option(
        "",
        addresses.network,
        "The addresses of proxies whose X-Forwarded-Host, and for the log -For, is used.",
        many=True,
    )
    allowed_users: frozenset[str] = option(
        "",
        kinds.login,
        "The GitHub logins, and Apps as name[bot], that may use the mirror; empty: all.",
        many=True,
        collect=frozenset,
        reread=_AT_SIGHUP,
    )
    max_request_size: int = option(
        "2GiB",
        kinds.size("1KiB"),
        "The largest content of a request; a larger one is rejected with 413.",
    )
    shutdown_delay: float = option(
        "0s",
        kinds.duration("0s"),
        "The time after SIGTERM in which the mirror is unready but still serves.",
    )
    shutdown_grace: float = option(
        "20s", kinds.duration("0s"), "The time after that in which requests in flight may complete."
    )
    reuse_port: bool = option(
        "no", kinds.switch, "Whether several processes share the ports of listen."
    )
    enterprise_version: str = option(
        "",
        kinds.optional(kinds.pattern(r"[0-9]+\.[0-9]+\.[0-9]+", "a version such as 3.17.0"), ""),
        "The GitHub Enterprise Server version that /api/v3 claims to be; empty: none.",
    )


@frozen(kw_only=True)
class GitHub:
    """The connections and requests to GitHub."""

    api_url: str = option("https://api.github.com", addresses.web_url, "The URL of the API.")
    status_url: str = option(
        "https://www.githubstatus.com/api/v2/components.json",
        kinds.optional(addresses.web_url, ""),
        "The URL of GitHub's status page; empty: none; the default is for api.github.com only.",
    )
    status_interval: float = option(
        "30s", kinds.duration("1s"), "The interval of requests to the status page."
    )
    connect_timeout: float = option(
        "5s", kinds.duration(), "The timeout for opening a connection to GitHub."
    )
    timeout: float = option(
        "30s",
        kinds.duration(),
        "The deadline of a request to GitHub, until the fields of the response are received.",
    )
    stale_after: float = option(
        "5s",
        kinds.duration(),
        "The time after which a client gets a stale response, if there is one.",
    )
    idle_timeout: float = option(
        "60s", kinds.duration(), "The longest time between two parts of content."
    )
    max_connections: int = option("100", kinds.count(1), "The most connections to GitHub.")
    max_in_flight_per_credential: int = option(
        "80", kinds.count(1), "The most requests in flight to GitHub with one credential."
    )
    points_per_minute: int | Literal["auto"] = option(
        "auto",
        kinds.points,
        "The limit of points for each credential; 0: none; auto: 900 for an hour after a refusal.",
    )
    reserve: int = option("0", kinds.count(0), "The quota that is reserved for writes.")
    proxy: str = option(
        "",
        kinds.optional(addresses.proxy, ""),
        "The proxy through which GitHub is reached, by CONNECT.",
        secret=True,
    )
    proxy_path: str = option(
        "",
        kinds.optional(files.secret_file(addresses.proxy), ""),
        "A file with the proxy's URL.",
        reread=_AT_EACH_CONNECTION,
    )
    ca_path: str = option(
        "",
        kinds.optional(files.pem_file, ""),
        "Certificate authorities to trust besides the system's (GitHub Enterprise Server).",
        reread=_AT_SIGHUP,
    )

    def __attrs_post_init__(self) -> None:
        # The status page of GitHub.com does not describe another server.
        default = attrs.fields(GitHub).status_url.metadata["option"]["default"]
        if self.status_url == default and self.api_url != "https://api.github.com":
            object.__setattr__(self, "status_url", "")

    def current_proxy(self) -> str:
        """Return the current URL of the proxy, or ``""``. Raises `ConfigError`."""
        if self.proxy_path:
            return current_secret("github", "proxy_path", self.proxy_path, addresses.proxy)
        return self.proxy


@frozen(kw_only=True)
class Cache:
    """The stored responses, and when they are used."""

    backend: str = option("memory", kinds.choice("memory", "redis"), "The store.")
    share: bool = option(
        "yes",
        kinds.switch,
        "Whether a response to one credential saves the quota of others that may see the same.",
    )
    fresh_for: float = option(
        "0s", kinds.duration("0s"), "The time for which a response is served without validation."
    )
    negative_for: float = option(
        "0s",
        kinds.duration("0s"),
        "The time for which a 404, 410 or 301 is repeated to the same credential.",
    )
    validate_by_date: tuple[str, ...] = option(
        "",
        kinds.path_pattern,
        "The paths that are validated by Last-Modified alone, in which * is one segment: what "
        "changes without a new date, such as a download_count, may be old in their responses.",
        many=True,
    )
    verify_last: bool = option("yes", kinds.switch, "Whether rel=last of every list is verified.")
    stale_limit: float = option(
        "7d",
        kinds.duration(),
        "The highest age of a response that is served while GitHub is unavailable.",
    )
    max_stored_size: int = option(
        "8MiB",
        kinds.size("1KiB"),
        "The largest decoded content that is stored; larger content is forwarded only.",
    )
    collapse_wait: float = option(
        "10s",
        kinds.duration("0s"),
        "The time for which requests wait for the first response to the same unknown request.",
    )
    credential_secret: str = option(
        "",
        kinds.secrets,
        "The key of the hashes that identify credentials and authenticate records. Older ones may "
        "follow it, one a line: records of theirs are read, and written with the current one.",
        secret=True,
        verbatim=True,
        lines=True,
        reread=_AT_SIGHUP,
    )
    credential_secret_path: str = option(
        "",
        kinds.optional(files.secret_file(kinds.secrets), ""),
        "A file with credential_secret, one a line.",
        reread=_AT_SIGHUP,
    )

    def credential_secrets(self) -> tuple[bytes, ...]:
        """Return the current secret, and the older ones. Raises `ConfigError`."""
        text = self.credential_secret
        if path := self.credential_secret_path:
            text = current_secret("cache", "credential_secret_path", path, kinds.secrets)
        return tuple([line.encode() for line in text.split("\n") if line])


@frozen(kw_only=True)
class Memory:
    """The store in memory, and the content of requests in flight."""

    max_size: int = option(
        "512MiB",
        kinds.size("1MiB"),
        "The size of the store, above which the least recently used records are evicted.",
    )
    max_content_size: int = option(
        "64MiB",
        kinds.size("8MiB"),
        "The most content that requests in flight may hold, besides the store. At the limit they "
        "wait for up to 10 s, small content never for large. Then content from GitHub is forwarded "
        "and not stored, and a request for stored content gets a 503.",
    )


@frozen(kw_only=True)
class Redis:
    """The store that several replicas share."""

    url: str = option(
        "redis://localhost:6379/0", addresses.redis_url, "The URL of the primary.", hidden=True
    )
    reader_url: str = option(
        "",
        kinds.optional(addresses.reader_url, ""),
        "The URL of a replica to read from; empty: the primary.",
        hidden=True,
    )
    sentinels: tuple[tuple[str, int], ...] = option(
        "",
        addresses.sentinel,
        "The Sentinels that name the primary; the host in url is then the name of the service.",
        many=True,
    )
    cluster: bool = option("no", kinds.switch, "Whether it is a Redis Cluster.")
    username: str = option(
        "",
        kinds.optional(kinds.pattern(r"[^\s\x00-\x1f]+", "a name without white space"), ""),
        "The user, if Redis has an access control list.",
    )
    password: str = option(
        "", kinds.secret, "The password, if it is not in url.", secret=True, verbatim=True
    )
    password_path: str = option(
        "",
        kinds.optional(files.secret_file(kinds.secret), ""),
        "A file with the password.",
        reread=_AT_EACH_CONNECTION,
    )
    iam: str = option(
        "",
        kinds.optional(
            kinds.pattern(
                "[A-Za-z][A-Za-z0-9-]{0,39}", "the ID of a replication group or serverless cache"
            ),
            "",
        ),
        "The replication group or serverless cache of ElastiCache for which IAM tokens are signed, "
        "in place of a password.",
    )
    tls_ca_path: str = option(
        "",
        kinds.optional(files.pem_file, ""),
        "Certificate authorities to trust besides the system's, for rediss: servers.",
        reread=_AT_SIGHUP,
    )
    pool_size: int = option("4", kinds.count(1), "The number of connections to each node.")
    timeout: float = option(
        "250ms",
        kinds.duration(),
        "The deadline for all look-ups in Redis of one request, and for fetching content.",
    )
    ttl: float = option(
        "30d", kinds.duration("1m"), "The time after which records that no request has used expire."
    )
    key_prefix: str = option(
        "ghmirror",
        kinds.pattern("[A-Za-z0-9_.:-]{1,100}", "letters, digits and any of _ . : -"),
        "The prefix of every key, so that several mirrors can share a Redis.",
    )
    local_size: int = option(
        "64MiB", kinds.size(), "The size of each replica's own cache of content."
    )
    fallback: bool = option(
        "yes", kinds.switch, "Whether a memory store replaces Redis while that is unavailable."
    )

    @property
    def address(self) -> RedisAddress:
        """The parts of *url*."""
        return RedisAddress.of(self.url)

    @property
    def reader_address(self) -> RedisAddress | None:
        """The parts of *reader_url*."""
        return RedisAddress.of(self.reader_url) if self.reader_url else None

    @property
    def effective_username(self) -> str:
        """The user from *url* or *username*, also for the reader."""
        return self.username or self.address.username

    def current_password(self) -> str:
        """Return the current password, or ``""``. Raises `ConfigError`."""
        if self.password_path:
            return current_secret("redis", "password_path", self.password_path, kinds.secret)
        return self.password or self.address.password


@frozen(kw_only=True)
class Snapshot:
    """Copies of the store at a target, from which an empty store is restored."""

    target: str = option(
        "",
        kinds.optional(addresses.target, ""),
        "The directory or bucket of snapshots; empty: none are made.",
    )
    interval: float = option("15m", kinds.duration("1s"), "The interval of snapshots.")
    keep: int = option("24", kinds.count(1), "The number of snapshots of each store that are kept.")
    restore: bool = option(
        "yes", kinds.switch, "Whether an empty store is restored from a snapshot."
    )
    restore_wait: float = option(
        "30s",
        kinds.duration("0s"),
        "The time for which requests without a stored response wait for a restore.",
    )
    s3_endpoint_url: str = option(
        "",
        kinds.optional(addresses.web_url, ""),
        "The URL of the S3 service, if it is not Amazon's.",
    )
    s3_region: str = option(
        "",
        kinds.optional(kinds.pattern("[a-z0-9-]{1,50}", "a region such as eu-central-1"), ""),
        "The bucket's region; empty: that of the AWS environment.",
    )
    s3_sse: str = option(
        "",
        kinds.optional(kinds.choice("AES256", "aws:kms"), ""),
        "The encryption of snapshots in S3.",
    )
    s3_kms_key_id: str = option(
        "",
        kinds.optional(kinds.pattern(r"[!-~]{1,2048}", "the ID, ARN or alias of a key"), ""),
        "The key for aws:kms; empty: the account's own for S3.",
    )
    elasticache_replication_group: str = option(
        "",
        kinds.optional(
            kinds.pattern("[A-Za-z][A-Za-z0-9-]{0,39}", "the ID of a replication group"), ""
        ),
        "The replication group whose ElastiCache snapshots are exported to the bucket as well.",
    )
    elasticache_interval: float = option(
        "6h", kinds.duration("2h"), "The interval of ElastiCache snapshots."
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
    """The log."""

    format: str = option("text", kinds.choice("text", "json"), "The format of a line.")
    level: str = option(
        "info",
        kinds.choice("debug", "info", "warn", "error", "critical"),
        "The lowest level that is logged.",
    )
    access: str = option(
        "all", kinds.choice("all", "errors", "none"), "The requests that are logged, one line each."
    )


@frozen
class Settings:
    """All options by section, and *warnings* for the operator."""

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

#: All options in the order of the file; the reference is generated from them.
OPTIONS: Final = tuple(
    Option(section, attribute.name, **attribute.metadata["option"])
    for section, cls in SECTIONS.items()
    for attribute in attrs.fields(cls)
)

#: The options by section and name.
OPTIONS_BY_KEY: Final = {(each.section, each.name): each for each in OPTIONS}

#: The section and the name of an option.
OptionKey = tuple[str, str]


def changed_options(running: Settings, read: Settings) -> list[str]:
    """Return the names of options whose values differ, and which only a restart applies."""
    return [
        f"[{each.section}] {each.name}"
        for each in OPTIONS
        if each.reread != _AT_SIGHUP
        and getattr(getattr(running, each.section), each.name)
        != getattr(getattr(read, each.section), each.name)
    ]


def is_set(settings: Settings, key: OptionKey) -> bool:
    """Return whether the option is neither empty nor at its default."""
    described = OPTIONS_BY_KEY[key]
    value = getattr(getattr(settings, key[0]), key[1])
    return bool(value != "" and value != described.parse(described.default))
