"""The records in Redis, to be copied and put back."""

from __future__ import annotations

import hashlib
import heapq
import struct
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar
from uuid import uuid4

from attrs import define, field
from twisted.internet.defer import gatherResults
from txredisapi import ResponseError
from zope.interface import implementer

from ghmirror_tw.caching.records import Entry, recency_list
from ghmirror_tw.redis.node import Node
from ghmirror_tw.redis.servers_interface import Command, Purpose, RedisUnavailableError, Reply
from ghmirror_tw.redis_store import scripts
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.redis_store.restore_commands import putting
from ghmirror_tw.store.record_kinds import ENTRY
from ghmirror_tw.store.store_interface import IArchive, Pair

T = TypeVar("T")

#: Nobody waits for these, so they may take long, in seconds; but not for ever.
_TIMEOUT_S: Final = 10.0
#: How many keys a server looks at in one step of going through all: less than a millisecond's work.
_SCAN: Final = 500
#: How many small records, and how many bytes of content, are asked for at a time.
_BATCH: Final = 100
_BATCH_BYTES: Final = 1024 * 1024
#: How many names are put in order at a time: some milliseconds' work.
_SORTED_AT_ONCE: Final = 5000


@implementer(IArchive)
@define(eq=False)
class RedisArchive:
    """Copies and restores the records; a lease decides which replica does it.

    *api_url* is the URL of the API that the records come from. Mirrors of different servers, or
    with different secrets, are separate fleets: each has its own mark and leases.
    """

    records: RedisRecords
    api_url: str = ""

    # Copying: neither refusals nor epochs, since restored grants permit nothing.

    async def dump(self) -> AsyncGenerator[list[Pair]]:
        """Give all records; of representations, those first that were validated last."""
        async for pairs in self._contents():
            yield pairs
        async for pairs in self._values("{*}:g:*"):
            yield pairs

    async def _ask(self, node: Node, *commands: Command) -> list[Reply]:
        replies: list[Reply] = await node.ask(commands, Purpose.READ, _TIMEOUT_S)
        return replies

    async def _names(self, pattern: str) -> AsyncGenerator[tuple[Node, list[bytes]]]:
        """Give the names that match, in batches, each with the server that has them."""
        prefix = self.records.key(b"")
        match = prefix + pattern.encode("ascii")
        for node in self.records.servers.nodes():
            cursor = b"0"
            while True:
                scan = Command((b"SCAN", cursor, b"MATCH", match, b"COUNT", b"%d" % _SCAN))
                (reply,) = await self._ask(node, scan)
                if isinstance(reply, ResponseError):
                    raise RedisUnavailableError("refused", str(reply))
                cursor, keys = reply
                for some in _batches(keys or (), _BATCH):
                    yield node, [key.removeprefix(prefix) for key in some]
                if cursor == b"0":
                    break

    async def _values(self, pattern: str) -> AsyncGenerator[list[Pair]]:
        """Give the small records whose names match."""
        async for node, found in self._names(pattern):
            gets = [Command((b"GET", self.records.key(name)), large=True) for name in found]
            replies = await self._ask(node, *gets)
            yield [pair for pair in zip(found, replies, strict=True) if isinstance(pair[1], bytes)]

    async def _contents(self) -> AsyncGenerator[list[Pair]]:
        """Give recency lists and the representations in them."""
        lists = _Ordered()
        async for node, found in self._names("{*}:l"):
            asked = [Command((b"HVALS", self.records.key(name)), large=True) for name in found]
            for name, blobs in zip(found, await self._ask(node, *asked), strict=True):
                if isinstance(blobs, list):
                    lists.add(max(map(_validated_at, blobs), default=0.0), name)
        for some in _batches(lists.falling(), _BATCH):
            async for pairs in self._of_lists([name for _, name in some]):
                yield pairs

    async def _of_lists(self, found: list[bytes]) -> AsyncGenerator[list[Pair]]:
        listed = await self._each(found, lambda name: (b"HVALS", self.records.key(name)))
        contents: list[tuple[int, bytes]] = []
        pairs: list[Pair] = []
        for name, blobs in zip(found, listed, strict=True):
            mine = blobs if isinstance(blobs, list) else []
            pairs += [(name, blob) for blob in mine]
            opened = (self.records.codec.open(ENTRY, name, blob) for blob in mine)
            contents += [
                (entry.size, _content_of(name, entry))
                for entry in recency_list(each for each in opened if each is not None)
            ]
        yield pairs
        for names in _by_size(contents):
            blobs = await self._each(names, lambda name: (b"GET", self.records.key(name)))
            yield [pair for pair in zip(names, blobs, strict=True) if isinstance(pair[1], bytes)]

    async def _each(self, names: Sequence[bytes], command: Any) -> list[Reply]:
        """Ask about each name whoever has it."""
        servers = self.records.servers
        if not servers.sharded:
            (node,) = servers.nodes()
            return await self._ask(node, *(Command(command(name), large=True) for name in names))
        asked = [
            servers.ask(
                _slot_of(name), (Command(command(name), large=True),), Purpose.READ, _TIMEOUT_S
            )
            for name in names
        ]
        return [replies[0] for replies in await gatherResults(asked, consumeErrors=True)]

    # Putting back.

    async def admit(self, pairs: Sequence[Pair]) -> int:
        """Put records back, over nothing or over older ones only."""
        sent = [
            (name, command)
            for name, blob in pairs
            if (command := putting(self.records, name, blob))
        ]
        servers, admitted = self.records.servers, 0
        for some in _batches(sent, _BATCH):
            if servers.sharded:
                asked = [
                    servers.ask(_slot_of(name), (command,), Purpose.WRITE, _TIMEOUT_S)
                    for name, command in some
                ]
                replies = [each[0] for each in await gatherResults(asked, consumeErrors=True)]
            else:
                commands = [command for _, command in some]
                replies = await servers.ask(b"", commands, Purpose.WRITE, _TIMEOUT_S)
            admitted += sum(reply == 1 or reply in {"OK", b"OK"} for reply in replies if reply)
        return admitted

    def is_full(self) -> bool:
        """Leave it to Redis what it keeps."""
        return False

    # The mark, one on each server, so that it is lost with what the server has.

    async def mark(self) -> str | None:
        """Return the marks of all servers, whatever their order, and renew their lives."""
        life = self.records.life(self.records.ttl_s)
        marks = []
        for node in self._writable():
            renew = Command((b"PEXPIRE", self._of_fleet(node.mark_key), life))
            read = Command((b"GET", self._of_fleet(node.mark_key)))
            renewed, mark = await node.ask((renew, read), Purpose.WRITE, _TIMEOUT_S)
            if renewed != 1 or not isinstance(mark, bytes):
                return None
            marks.append(mark.decode("ascii", "replace"))
        return " ".join(sorted(marks))

    async def mark_filled(self) -> None:
        """Put a new mark on all servers."""
        life = self.records.life(self.records.ttl_s)
        mark = uuid4().hex.encode("ascii")
        for node in self._writable():
            commands = (
                Command((b"SET", self._of_fleet(node.mark_key), mark, b"PX", life)),
                Command((b"SET", node.mark_key, self._fleet.encode(), b"PX", life)),
            )
            for reply in await node.ask(commands, Purpose.WRITE, _TIMEOUT_S):
                if isinstance(reply, ResponseError):
                    raise RedisUnavailableError("refused", str(reply))

    async def filled_by_others(self) -> str | None:
        """Return which other fleet filled a server last."""
        for node in self._writable():
            command = Command((b"GET", node.mark_key))
            (found,) = await node.ask((command,), Purpose.WRITE, _TIMEOUT_S)
            # A mark of a version that did not name the fleet has no equals sign.
            if isinstance(found, bytes) and b"=" in found and found != self._fleet.encode():
                return found.decode("utf-8", "replace")
        return None

    @property
    def _fleet(self) -> str:
        """The server and the secret of this fleet."""
        return f"api_url={self.api_url} fingerprint={self.records.codec.fingerprint or 'none'}"

    def _of_fleet(self, key: bytes) -> bytes:
        """Return a key that no other fleet has."""
        return key + b":" + hashlib.sha256(self._fleet.encode()).hexdigest()[:8].encode()

    def _writable(self) -> tuple[Any, ...]:
        nodes: tuple[Any, ...] = self.records.servers.primaries()
        return nodes

    # Who does it.

    async def acquire_lease(self, what: str, owner: str, lease_s: float) -> bool:
        """Take a lease, or keep it on."""
        lease = b"%d" % round(lease_s * 1000)
        return bool(await self._lease(scripts.TAKE, what, owner.encode(), lease))

    async def release_lease(self, what: str, owner: str) -> None:
        """End a lease."""
        await self._lease(scripts.RELEASE, what, owner.encode())

    async def _lease(self, script: scripts.Script, what: str, *arguments: bytes) -> Reply:
        slot = what.encode("ascii")
        key = self._of_fleet(b"{%s}:lease" % slot)
        command = script.call(self.records.keys(key), *arguments)
        servers = self.records.servers
        (reply,) = await servers.ask(slot, (command,), Purpose.WRITE, _TIMEOUT_S)
        if isinstance(reply, ResponseError):
            raise RedisUnavailableError("refused", str(reply))
        return reply


@define(eq=False)
class _Ordered:
    """Puts names in order, a part at a time: all at once would hold up the reactor."""

    _parts: list[list[tuple[float, bytes]]] = field(init=False, factory=lambda: [[]])

    def add(self, at: float, name: bytes) -> None:
        """Add a name."""
        last = self._parts[-1]
        last.append((at, name))
        if len(last) >= _SORTED_AT_ONCE:
            last.sort(reverse=True)
            self._parts.append([])

    def falling(self) -> Iterator[tuple[float, bytes]]:
        """Give all, the latest first."""
        self._parts[-1].sort(reverse=True)
        return heapq.merge(*self._parts, reverse=True)


def _validated_at(blob: bytes) -> float:
    """Return when an entry was last validated, by the header that all versions share."""
    try:
        (at,) = struct.unpack_from(">d", blob, 4)
    except struct.error:
        return 0.0
    return float(at)


def _content_of(list_name: bytes, entry: Entry) -> bytes:
    return list_name.removesuffix(b"l") + b"r:" + entry.digest.encode("ascii")


def _slot_of(name: bytes) -> bytes:
    return name[1:].partition(b"}")[0]


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _by_size(contents: Iterable[tuple[int, bytes]]) -> Iterator[list[bytes]]:
    """Give names in batches whose contents are not too large together."""
    batch: list[bytes] = []
    total = 0
    for size, name in contents:
        if batch and total + size > _BATCH_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(name)
        total += size
    if batch:
        yield batch
