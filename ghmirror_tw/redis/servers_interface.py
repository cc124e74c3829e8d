"""The interface of the Redis servers of one store, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, TypeAlias

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from ghmirror_tw.redis.resp import encode_command

#: A value of RESP2; an error reply to one command is a ``txredisapi.ResponseError`` in its place.
Reply: TypeAlias = Any


class RedisUnavailableError(Exception):
    """The servers are unavailable. *reason* is one word, *why* a sentence without secrets."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(reason, why)
        self.reason = reason
        self.why = why

    def __str__(self) -> str:
        return self.why


@frozen
class ServerFault:
    """Why servers are unavailable: a sentence without secrets; *address*: empty if unknown."""

    address: str
    reason: str


class Purpose(Enum):
    """The purpose of commands, which decides about the server.

    READ: a replica that lags may reply. CURRENT: only the primary may. WRITE: the primary changes
    data. REMOVE: the primary only deletes, which it does even when its memory is full.
    """

    READ = "read"
    CURRENT = "current"
    WRITE = "write"
    REMOVE = "remove"


@frozen
class Command:
    """One command.

    *script*: the source for an ``EVALSHA``, sent as ``EVAL`` to a server that does not have it
    (NOSCRIPT). *large*: the reply may be large, so other commands use another connection.
    """

    parts: tuple[bytes, ...]
    script: bytes | None = field(default=None, repr=False)
    large: bool = False
    _encoded: bytes = field(init=False, eq=False, repr=False, default=b"")

    def encoded(self) -> bytes:
        """Return the command in RESP; it is encoded once."""
        if not self._encoded:
            object.__setattr__(self, "_encoded", encode_command(self.parts))
        return self._encoded


class IServers(Interface):
    """The servers of one store: one server, a primary with a reader, or the shards of a cluster."""

    sharded: bool = Attribute("Whether keys of different hash tags may be on different servers.")
    reads_primary: bool = Attribute("Whether the primary replies to READ as well.")
    reading: bool = Attribute("Whether all servers that are needed for reading can be read.")
    writing: bool = Attribute("Whether all servers that are needed for writing can be written.")
    fault: ServerFault | None = Attribute("Why they are not; None: they can be read and written.")
    return_count: int = Attribute("Rises when a primary is available again, or is replaced.")

    def open() -> None:
        """Begin to connect. Never fails: unavailable servers are connected to when they return."""

    def settled() -> Deferred[None]:
        """Fire when it is known for the first time whether the servers are available."""

    def send(
        hash_tag: bytes, commands: Sequence[Command], purpose: Purpose, timeout_s: float
    ) -> Deferred[list[Reply]]:
        """Send *commands* together; fire with a reply to each within *timeout_s* seconds.

        *hash_tag*: that of all their keys, without braces, by which a cluster finds the shard.
        Error replies that concern one key (WRONGTYPE) are replies. Errors that concern the server
        (LOADING, READONLY, OOM, NOAUTH, CLUSTERDOWN), timeouts and lost connections fail all of it
        with `RedisUnavailableError`, at once if the server is known to be unavailable. Commands are
        sent again only if the server responded that it has not executed them. Cancelling ignores
        late replies.
        """

    def nodes() -> tuple[Any, ...]:
        """Return nodes that have all data together, for scanning it (see `RedisNode`).

        Replicas that lag are allowed. Raises `RedisUnavailableError` if one is missing.
        """

    def primaries() -> tuple[Any, ...]:
        """Return all nodes that accept writes. Raises `RedisUnavailableError` if one is missing."""

    def close() -> Deferred[None]:
        """Close all connections, after a short time for outstanding replies."""
