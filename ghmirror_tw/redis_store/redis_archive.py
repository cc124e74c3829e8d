"""The records in Redis, to be copied to snapshots and restored from them."""

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
from ghmirror_tw.redis import Command, Purpose, RedisNode, RedisUnavailableError, Reply
from ghmirror_tw.redis_store import scripts
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.redis_store.restore_commands import restore_command
from ghmirror_tw.store.record_kinds import ENTRY
from ghmirror_tw.store.store_interface import IArchive, Pair

T = TypeVar("T")

#: The name of the mark of a server that was filled.
_MARK: Final = b"filled"
#: The replies to commands that have stored a record. Not a set: some replies are not hashable.
_STORED: Final = (1, "OK", b"OK")

#: The timeout of each command, in seconds: no client waits for these.
_TIMEOUT_S: Final = 10.0
#: How many keys one SCAN visits, which takes less than a millisecond.
_SCAN: Final = 500
#: How many small records, and how many bytes of content, are read in one pipeline.
_BATCH: Final = 100
_BATCH_BYTES: Final = 1024 * 1024
#: How many names are sorted in one go, which takes some milliseconds.
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
        """Yield all records, and representations in the order of their last validation."""
        async for pairs in self._contents():
            yield pairs
        async for pairs in self._values("{*}:g:*"):
            yield pairs

    async def _read(self, node: RedisNode, *commands: Command) -> list[Reply]:
        replies: list[Reply] = await node.send(commands, Purpose.READ, _TIMEOUT_S)
        return replies

    async def _names(self, pattern: str) -> AsyncGenerator[tuple[RedisNode, list[bytes]]]:
        """Yield the names that match, in batches, each with its node."""
        prefix = self.records.key(b"")
        match = prefix + pattern.encode("ascii")
        for node in self.records.servers.nodes():
            cursor = b"0"
            while True:
                scan = Command((b"SCAN", cursor, b"MATCH", match, b"COUNT", b"%d" % _SCAN))
                (reply,) = await self._read(node, scan)
                if not isinstance(reply, list):
                    raise RedisUnavailableError("refused", str(reply))
                cursor, keys = reply
                # A key that is too large is null (see `resp`).
                for batch in _batches(filter(None, keys or ()), _BATCH):
                    yield node, [key.removeprefix(prefix) for key in batch]
                if cursor == b"0":
                    break

    async def _values(self, pattern: str) -> AsyncGenerator[list[Pair]]:
        """Yield the small records whose names match."""
        async for node, found in self._names(pattern):
            gets = [Command((b"GET", self.records.key(name)), large=True) for name in found]
            replies = await self._read(node, *gets)
            yield self._sealed(found, replies)

    async def _contents(self) -> AsyncGenerator[list[Pair]]:
        """Yield recency lists, and the representations in them."""
        lists = _SortedNames()
        async for node, found in self._names("{*}:l"):
            reads = [Command((b"HVALS", self.records.key(name)), large=True) for name in found]
            for name, blobs in zip(found, await self._read(node, *reads), strict=True):
                if isinstance(blobs, list):
                    lists.add(max(map(_validated_at, filter(None, blobs)), default=0.0), name)
        for batch in _batches(lists.latest_first(), _BATCH):
            async for pairs in self._of_lists([name for _, name in batch]):
                yield pairs

    async def _of_lists(self, found: list[bytes]) -> AsyncGenerator[list[Pair]]:
        listed = await self._read_each(found, lambda name: (b"HVALS", self.records.key(name)))
        contents: list[tuple[int, bytes]] = []
        pairs: list[Pair] = []
        for name, blobs in zip(found, listed, strict=True):
            entry_blobs = blobs if isinstance(blobs, list) else []
            pairs += self._sealed([name] * len(entry_blobs), entry_blobs)
            opened = (self.records.codec.open(ENTRY, name, blob) for blob in entry_blobs)
            contents += [
                (entry.size, _representation_name(name, entry))
                for entry in recency_list(each for each in opened if each is not None)
            ]
        yield pairs
        for names in _by_size(contents):
            blobs = await self._read_each(names, lambda name: (b"GET", self.records.key(name)))
            yield self._sealed(names, blobs)

    def _sealed(self, names: Sequence[bytes], blobs: Sequence[Reply]) -> list[Pair]:
        """Return names with records that the current secret has sealed, by their headers."""
        reseal = self.records.codec.resealed
        return [
            (name, reseal(name, blob))
            for name, blob in zip(names, blobs, strict=True)
            if isinstance(blob, bytes)
        ]

    async def _read_each(self, names: Sequence[bytes], command: Any) -> list[Reply]:
        """Return the reply to *command* for each name, from the node that has it."""
        servers = self.records.servers
        if not servers.sharded:
            (node,) = servers.nodes()
            return await self._read(node, *(Command(command(name), large=True) for name in names))
        reads = [
            servers.send(
                _hash_tag_of(name), (Command(command(name), large=True),), Purpose.READ, _TIMEOUT_S
            )
            for name in names
        ]
        return [replies[0] for replies in await gatherResults(reads, consumeErrors=True)]

    # Restoring.

    async def admit(self, pairs: Sequence[Pair]) -> int:
        """Restore records if none or older ones are stored; return how many were."""
        commands = [
            (name, command)
            for name, blob in pairs
            if (command := restore_command(self.records, name, blob))
        ]
        admitted = 0
        for batch in _batches(commands, _BATCH):
            admitted += sum(map(_is_stored, await self._write_each(batch)))
        return admitted

    async def _write_each(self, commands: Sequence[tuple[bytes, Command]]) -> list[Reply]:
        """Return the reply to each command, from the node that has the name beside it."""
        servers = self.records.servers
        if not servers.sharded:
            replies: list[Reply] = await servers.send(
                b"", [command for _, command in commands], Purpose.WRITE, _TIMEOUT_S
            )
            return replies
        writes = [
            servers.send(_hash_tag_of(name), (command,), Purpose.WRITE, _TIMEOUT_S)
            for name, command in commands
        ]
        return [each[0] for each in await gatherResults(writes, consumeErrors=True)]

    def is_full(self) -> bool:
        """Return False: Redis evicts by its own policy."""
        return False

    # The mark, one on each server, so that it is lost together with the server's records.

    async def mark(self) -> str | None:
        """Return the marks of all servers, sorted, and renew their lives.

        A mark of this fleet under an older secret becomes one under the current secret.
        """
        marks = []
        for node in self._writable():
            key = node.own_key(_MARK)
            mark = await self._renewed_mark(node, key, self._fleet)
            for fleet in self._older_fleets if mark is None else ():
                mark = mark or await self._renewed_mark(node, key, fleet)
            if mark is None:
                return None
            marks.append(mark.decode("ascii", "replace"))
        return " ".join(sorted(marks))

    async def _renewed_mark(self, node: RedisNode, key: bytes, fleet: str) -> bytes | None:
        """Return the mark of a *fleet* on a server, stored as this fleet's; None: there is none."""
        life = self.records.life(self.records.ttl_s)
        own = self._of_fleet(key)
        read = Command((b"GET", self._of_fleet(key, fleet)))
        renew = Command((b"PEXPIRE", own, life))
        _, mark = await node.send((renew, read), Purpose.WRITE, _TIMEOUT_S)
        if not isinstance(mark, bytes):
            return None
        if fleet != self._fleet:
            await node.send((Command((b"SET", own, mark, b"PX", life)),), Purpose.WRITE, _TIMEOUT_S)
        return mark

    async def mark_filled(self) -> None:
        """Store a new mark on all servers."""
        life = self.records.life(self.records.ttl_s)
        mark = uuid4().hex.encode("ascii")
        for node in self._writable():
            commands = (
                Command((b"SET", self._of_fleet(node.own_key(_MARK)), mark, b"PX", life)),
                Command((b"SET", node.own_key(_MARK), self._fleet.encode(), b"PX", life)),
            )
            for reply in await node.send(commands, Purpose.WRITE, _TIMEOUT_S):
                if isinstance(reply, ResponseError):
                    raise RedisUnavailableError("refused", str(reply))

    async def filled_by_others(self) -> str | None:
        """Return the other fleet that filled a server last; None: there is none."""
        for node in self._writable():
            command = Command((b"GET", node.own_key(_MARK)))
            (found,) = await node.send((command,), Purpose.WRITE, _TIMEOUT_S)
            # Marks of versions before the fleet was named in them have no equals sign.
            if not isinstance(found, bytes) or b"=" not in found:
                continue
            fleet = found.decode("utf-8", "replace")
            if fleet not in {self._fleet, *self._older_fleets}:
                return fleet
        return None

    @property
    def _fleet(self) -> str:
        """The server and the secret of this fleet."""
        return self._fleet_by(self.records.codec.fingerprint)

    @property
    def _older_fleets(self) -> tuple[str, ...]:
        """The same with each of the older secrets."""
        return tuple(map(self._fleet_by, self.records.codec.fingerprints[1:]))

    def _fleet_by(self, fingerprint: str) -> str:
        return f"api_url={self.api_url} fingerprint={fingerprint or 'none'}"

    def _of_fleet(self, key: bytes, fleet: str | None = None) -> bytes:
        """Return a key of this fleet alone, or of another one."""
        hashed = hashlib.sha256((fleet or self._fleet).encode())
        return key + b":" + hashed.hexdigest()[:8].encode()

    def _writable(self) -> tuple[RedisNode, ...]:
        nodes: tuple[RedisNode, ...] = self.records.servers.primaries()
        return nodes

    # Leases.

    async def acquire_lease(self, what: str, owner: str, lease_s: float) -> bool:
        """Take a lease, or keep it on."""
        lease = b"%d" % round(lease_s * 1000)
        return bool(await self._lease(scripts.ACQUIRE_LEASE, what, owner.encode(), lease))

    async def release_lease(self, what: str, owner: str) -> None:
        """End a lease."""
        await self._lease(scripts.RELEASE, what, owner.encode())

    async def _lease(self, script: scripts.Script, what: str, *arguments: bytes) -> Reply:
        hash_tag = what.encode("ascii")
        key = self._of_fleet(b"{%s}:lease" % hash_tag)
        command = script.call(self.records.keys(key), *arguments)
        servers = self.records.servers
        (reply,) = await servers.send(hash_tag, (command,), Purpose.WRITE, _TIMEOUT_S)
        if isinstance(reply, ResponseError):
            raise RedisUnavailableError("refused", str(reply))
        return reply


@define(eq=False)
class _SortedNames:
    """Sorts names by time, in parts: sorting all of them at once would block the reactor."""

    _parts: list[list[tuple[float, bytes]]] = field(init=False, factory=lambda: [[]])

    def add(self, at: float, name: bytes) -> None:
        """Add a name."""
        last = self._parts[-1]
        last.append((at, name))
        if len(last) >= _SORTED_AT_ONCE:
            last.sort(reverse=True)
            self._parts.append([])

    def latest_first(self) -> Iterator[tuple[float, bytes]]:
        """Yield all names, the latest first."""
        self._parts[-1].sort(reverse=True)
        return heapq.merge(*self._parts, reverse=True)


def _validated_at(blob: bytes) -> float:
    """Return the last validation of an entry, from the header that all versions share."""
    try:
        (at,) = struct.unpack_from(">d", blob, 4)
    except struct.error:
        return 0.0
    return float(at)


def _representation_name(list_name: bytes, entry: Entry) -> bytes:
    return list_name.removesuffix(b"l") + b"r:" + entry.digest.encode("ascii")


def _is_stored(reply: Reply) -> bool:
    """Return whether a SET or a script has stored its record; a reply may be of any type."""
    return reply in _STORED


def _hash_tag_of(name: bytes) -> bytes:
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
    """Yield names in batches whose contents together are not too large."""
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
