"""How the Redis servers of a store are asked, so that it need not know how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, TypeAlias

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from ghmirror_tw.redis.resp import encode_command

#: What RESP2 can say; an error reply to one command is a ``txredisapi.ResponseError`` in its place.
Reply: TypeAlias = Any


class RedisUnavailableError(Exception):
    """The servers cannot be asked now. *reason* is one word, *why* a sentence without secrets."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(reason, why)
        self.reason = reason
        self.why = why


class Purpose(Enum):
    """What commands are for, which decides who is asked.

    READ changes nothing, and a server that lags may answer. CURRENT changes nothing either, but
    only the primary may answer. WRITE changes something, so the primary is asked. REMOVE only
    deletes: a primary that is full, and takes no other changes, does that, too.
    """

    READ = "read"
    CURRENT = "current"
    WRITE = "write"
    REMOVE = "remove"


@frozen
class Command:
    """One command, as it is sent.

    *script*: the source that an ``EVALSHA`` means; it is sent as ``EVAL`` to a server that does
    not know it yet (NOSCRIPT). *large*: the reply may be so large that others should not queue
    behind it.
    """

    parts: tuple[bytes, ...]
    script: bytes | None = field(default=None, repr=False)
    large: bool = False
    _written: bytes = field(init=False, eq=False, repr=False, default=b"")

    def written(self) -> bytes:
        """Return the bytes that are sent, made once."""
        if not self._written:
            object.__setattr__(self, "_written", encode_command(self.parts))
        return self._written


class IServers(Interface):
    """The servers that make up one store: one, a primary and a reader, or many."""

    sharded: bool = Attribute("Whether keys of different hash tags may be on different servers.")
    reads_primary: bool = Attribute("Whether READ is always answered by who is written to.")
    reading: bool = Attribute("Whether all that is known to be needed for reading works now.")
    writing: bool = Attribute("Whether all that is known to be needed for writing works now.")
    returns: int = Attribute("Rises when a server that is written to comes back, or is replaced.")

    def open() -> None:
        """Begin to connect. Never fails: what is away is connected to when it is back."""

    def settled() -> Deferred[None]:
        """Fire when it is known for the first time whether the servers can be asked."""

    def ask(
        slot: bytes, commands: Sequence[Command], purpose: Purpose, timeout_s: float
    ) -> Deferred[list[Reply]]:
        """Send *commands* together, and return a reply to each, within *timeout_s* seconds.

        *slot*: the hash tag of all keys in them, without braces; a cluster needs it to know who
        has them. Error replies that speak of one key (WRONGTYPE) stand in their place; those that
        speak of the server (LOADING, READONLY, OOM, NOAUTH, CLUSTERDOWN), late replies and broken
        connections fail the whole with `RedisUnavailableError`, at once where it is known
        beforehand. Nothing is ever sent twice unless the server said that it did not carry it out.
        Cancelling gives up waiting; late replies are thrown away.
        """

    def nodes() -> tuple[Any, ...]:
        """Return servers that have everything together, for going through it all; see `Node`.

        Where what lags may be read, it is a reader. Fails with `RedisUnavailableError` if one is
        missing.
        """

    def primaries() -> tuple[Any, ...]:
        """Return all servers that take writes. `RedisUnavailableError` if one is missing."""

    def close() -> Deferred[None]:
        """Close all connections; what has been sent is waited for, but not for long."""
