"""Options that contradict each other, and options that are valid but probably not intended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Final

from attrs import frozen

from ghmirror_tw.config.option import fault
from ghmirror_tw.config.settings import (
    OPTIONS,
    OPTIONS_BY_KEY,
    OptionKey,
    Redis,
    Server,
    Settings,
    is_set,
)

#: An endpoint whose port the system chooses; several of them do not collide.
_ANY_PORT: Final = re.compile(r"(tcp[46]?|ssl):(port=)?0(:|$)")

#: 128 bits have this many hexadecimal digits.
_SHORTEST_SECRET: Final = 32


@frozen
class Contradiction:
    """Options that contradict each other; messages name the first of *keys*."""

    keys: tuple[OptionKey, ...]
    wrong: str
    expected: str

    def __str__(self) -> str:
        return fault(*self.keys[0], self.wrong, self.expected)


def _contradiction(names: str, wrong: str, expected: str) -> Contradiction:
    """Return a contradiction of the options *names*, written ``section.option``."""
    keys = [name.partition(".") for name in names.split()]
    return Contradiction(tuple((section, option) for section, _, option in keys), wrong, expected)


def contradictions(settings: Settings) -> Iterator[Contradiction]:
    """Yield the contradictions between options whose values are valid by themselves."""
    yield from _server_contradictions(settings.server)
    yield from _limit_contradictions(settings)
    yield from _secret_contradictions(settings)
    yield from _login_contradictions(settings.redis)
    yield from _redis_contradictions(settings.redis)
    yield from _snapshot_contradictions(settings)


def _server_contradictions(server: Server) -> Iterator[Contradiction]:
    if not server.listen:
        yield _contradiction("server.listen", "no endpoint", "at least one")
    both = [*server.listen, *server.admin_listen]
    repeated = {each for each in both if both.count(each) > 1 and not _ANY_PORT.match(each)}
    for twice in sorted(repeated):
        names = "server.listen server.admin_listen"
        yield _contradiction(names, f"{twice!r} is listed twice", "each endpoint once")


def _limit_contradictions(settings: Settings) -> Iterator[Contradiction]:
    # Defaults are not checked: a default without effect is harmless.
    for name in ("connect_timeout", "stale_after"):
        value_s = getattr(settings.github, name)
        if is_set(settings, ("github", name)) and value_s >= settings.github.timeout:
            yield _contradiction(
                f"github.{name} github.timeout", "not less than timeout", "a shorter time"
            )
    stored, memory = settings.cache.max_stored_size, settings.memory.max_size
    if is_set(settings, ("cache", "max_stored_size")) and stored > memory:
        names = "cache.max_stored_size memory.max_size"
        yield _contradiction(names, "more than [memory] max_size", "a smaller size")


def _secret_contradictions(settings: Settings) -> Iterator[Contradiction]:
    for section, name in ((option.section, option.name) for option in OPTIONS if option.secret):
        values = getattr(settings, section)
        if getattr(values, name) and getattr(values, f"{name}_path"):
            names = f"{section}.{name} {section}.{name}_path"
            yield _contradiction(names, f"{name}_path is set too", "one of the two")


def _login_contradictions(redis: Redis) -> Iterator[Contradiction]:
    url = redis.address
    if url.username and redis.username:
        yield _contradiction("redis.username redis.url", "url has a user too", "one of the two")
    for name in ("password", "password_path"):
        if url.password and getattr(redis, name):
            yield _contradiction(
                f"redis.{name} redis.url", "url has a password too", "one of the two"
            )
    password = url.password or redis.password or redis.password_path
    if redis.iam:
        yield from _iam_contradictions(redis)
    elif redis.effective_username and not password:
        names = "redis.username redis.url redis.password redis.password_path"
        yield _contradiction(names, "a user without a password", "both or neither")


def _iam_contradictions(redis: Redis) -> Iterator[Contradiction]:
    url, reader = redis.address, redis.reader_address
    if not url.tls:
        yield _contradiction("redis.iam redis.url", "url has no TLS", "a rediss: URL as well")
    if reader is not None and not reader.tls:
        names = "redis.iam redis.reader_url"
        yield _contradiction(names, "reader_url has no TLS", "a rediss: URL as well")
    if not redis.effective_username:
        names = "redis.iam redis.username redis.url"
        yield _contradiction(names, "there is no user", "a username as well")
    for name in ("password", "password_path"):
        if getattr(redis, name) or (name == "password" and url.password):
            names = f"redis.iam redis.{name} redis.url"
            yield _contradiction(names, "there is a password too", "one of the two")
    if redis.sentinels:
        names = "redis.iam redis.sentinels"
        yield _contradiction(names, "it cannot be combined with sentinels", "one of the two")


def _redis_contradictions(redis: Redis) -> Iterator[Contradiction]:
    url, reader = redis.address, redis.reader_address
    if redis.tls_ca_path and not (url.tls or (reader is not None and reader.tls)):
        names = "redis.tls_ca_path redis.url redis.reader_url"
        yield _contradiction(names, "no connection uses TLS", "a rediss: URL as well")
    if redis.cluster and url.database:
        names = "redis.cluster redis.url"
        yield _contradiction(names, "a cluster has only one database", "a URL without a database")
    if reader is not None and reader.database != url.database:
        names = "redis.reader_url redis.url"
        yield _contradiction(names, "its database differs from that of url", "the same database")
    in_use = {
        "cluster": redis.cluster,
        "sentinels": redis.sentinels,
        "reader_url": redis.reader_url,
        "url": url.socket_path,
    }
    for one, other in combinations([name for name, value in in_use.items() if value], 2):
        against = "a unix: url" if other == "url" else other
        names = f"redis.{one} redis.{other}"
        yield _contradiction(names, f"it cannot be combined with {against}", "one of the two")


def _snapshot_contradictions(settings: Settings) -> Iterator[Contradiction]:
    snapshot = settings.snapshot
    in_s3 = snapshot.bucket is not None
    group = "elasticache_replication_group"
    for name in ("s3_endpoint_url", "s3_region", "s3_sse", "s3_kms_key_id", group):
        if getattr(snapshot, name) and not in_s3:
            names = f"snapshot.{name} snapshot.target"
            yield _contradiction(
                names, "target is not in S3", "a target such as s3://bucket/prefix"
            )
    if snapshot.s3_kms_key_id and snapshot.s3_sse != "aws:kms":
        names = "snapshot.s3_kms_key_id snapshot.s3_sse"
        yield _contradiction(names, "s3_sse does not use it", "s3_sse = aws:kms as well")
    if snapshot.elasticache_replication_group and settings.cache.backend != "redis":
        names = f"snapshot.{group} cache.backend"
        yield _contradiction(names, "[cache] backend is not redis", "backend = redis as well")


def cautions(settings: Settings) -> Iterator[str]:
    """Yield warnings about options that are valid but probably not intended."""
    cache = settings.cache
    shared = ["Redis"] if cache.backend == "redis" else []
    shared += ["S3"] if settings.snapshot.bucket is not None else []
    if shared and not (cache.credential_secret or cache.credential_secret_path):
        yield (
            "[cache] credential_secret is empty: any client with write access to"
            f" {' or '.join(shared)} can forge responses"
        )
    if any(len(secret.decode()) < _SHORTEST_SECRET for secret in cache.credential_secrets()):
        yield (
            f"[cache] credential_secret has fewer than {_SHORTEST_SECRET} characters and could be"
            " guessed: use a longer one, such as the output of openssl rand -hex 32"
        )
    unused = [name for section, name in OPTIONS_BY_KEY if section == "redis"]
    unused = [name for name in unused if is_set(settings, ("redis", name))]
    if unused and cache.backend != "redis":
        yield f"[redis] {', '.join(unused)}: not used while [cache] backend is {cache.backend}"
