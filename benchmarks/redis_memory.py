"""The memory of each kind of record in a Redis server, measured on a real one.

    python -m benchmarks.redis_memory --count 10000

Records are written as the mirror writes them, with a ``credential_secret``. For each kind it prints
the growth of ``used_memory`` for each record (``INFO memory``, without the buffers of connections),
and ``MEMORY USAGE`` of one. The latter omits the server's tables of keys and of expiry times, so
capacity is computed with the former.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from ghmirror_tw.caching.credential_names import CredentialNames
from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import RECENCY_LENGTH, Entry, Grant, Representation
from ghmirror_tw.caching.representation_from_response import representation_of
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.redis.unsharded_servers import SingleServer
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.store.record_sealing import Codec
from tests.harness.redis_servers import Client, RedisServer
from tests.harness.redis_stores import DAY_S, PREFIX, SOON, node_at

SECRET: Final = b"of the benchmark"
AT_A_TIME: Final = 200
FIELDS: Final = Fields(
    (
        (b"content-type", b"application/json; charset=utf-8"),
        (b"vary", b"Accept, Authorization, Cookie, X-GitHub-OTP,Accept-Encoding, Accept"),
        (b"x-github-media-type", b"github.v3; format=json"),
        (b"x-github-api-version-selected", b"2022-11-28"),
    )
)
LINK: Final = b", ".join(
    b'<https://api.github.com/repositories/123456789/issues?per_page=100&page=%d>; rel="%s"' % each
    for each in ((2, b"next"), (17, b"last"))
)

Write = Callable[[int], Coroutine[Any, Any, object]]


def content_of(number: int) -> Representation:
    """Return a representation; sizes differ, from 1 to 40 kB before compression."""
    lines = b",".join(
        b'{"id":%d,"node":"%s"}'
        % (each, hashlib.sha256(b"%d %d" % (number, each)).hexdigest()[:24].encode())
        for each in range(20 + number * 7 % 800)
    )
    return representation_of(FIELDS, b'{"of":%d,"labels":[%s]}' % (number, lines), None, 1 << 30)[0]


@define(eq=False)
class MemoryMeasurement:
    """A server, and the records that are written to it."""

    records: RedisRecords
    client: Client
    count: int
    names: CredentialNames = field(factory=lambda: CredentialNames(SECRET))
    now: float = field(factory=time.time)

    def credential(self, number: int) -> str:
        return self.names.name(b"token %d" % number)

    def key(self, number: int) -> CacheKey:
        return CacheKey(b"/repos/o/r/issues/%d" % number, b"application/vnd.github+json")

    def grant(self, digest: str, **more: Any) -> Grant:
        values: dict[str, Any] = {"shareable": True, "principal": "octocat", **more}
        tag = b'W/"%s"' % digest.encode()
        modified = b"Wed, 25 Nov 2026 07:28:00 GMT"
        return Grant(digest, tag, modified, None, self.now, self.now, **values)

    def entry(self, of: Representation) -> Entry:
        modified = b"Wed, 25 Nov 2026 07:28:00 GMT"
        return Entry(
            of.digest, self.now, self.now, shareable=True, size=of.size, last_modified=modified
        )

    def used(self) -> int:
        """Return the bytes that the server uses, without the buffers of connections."""
        shown = dict(
            line.split(b":", 1)
            for line in self.client.send("INFO", "memory").splitlines()
            if b":" in line
        )
        return int(shown[b"used_memory"]) - int(shown[b"mem_clients_normal"])

    def usage(self, kind: str) -> float:
        """Return the mean MEMORY USAGE of the keys of a kind."""
        cursor, sizes = b"0", []
        while True:
            pattern = f"{PREFIX}:*}}:{kind}"
            cursor, keys = self.client.send("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            sizes += [self.client.send("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys]
            if cursor == b"0":
                return sum(sizes) / len(sizes) if sizes else 0.0

    async def write(self, write: Write) -> float:
        """Write *count* records; return the growth of the server for each."""
        before = self.used()
        for start in range(0, self.count, AT_A_TIME):
            numbers = range(start, min(start + AT_A_TIME, self.count))
            await gatherResults([Deferred.fromCoroutine(write(number)) for number in numbers])
        return (self.used() - before) / self.count

    async def warm(self) -> None:
        """Execute each operation once, so that the server has loaded the scripts."""
        key, stored = self.key(0), content_of(0)
        user, grant, entry = self.credential(0), self.grant(stored.digest), self.entry(stored)
        await self.records.freshen(key, user, grant, entry, stored, SOON)
        await self.records.deny(key, user, self.now, SOON)

    async def run(self) -> None:
        """Write each kind of record, and print its memory."""
        contents = [content_of(number) for number in range(self.count)]
        packed = sum(len(one.packed) for one in contents) / self.count
        plain = sum(one.size for one in contents) / self.count

        def freshen(user: int, *, content: bool = False, **more: Any) -> Write:
            async def write(number: int) -> None:
                stored = contents[number]
                grant = evolve(self.grant(stored.digest), **more)
                await self.records.freshen(
                    self.key(number),
                    self.credential(user),
                    grant,
                    self.entry(stored),
                    stored if content else None,
                    SOON,
                )

            return write

        async def list_another(number: int) -> None:
            # further entries are another credential's; only their digest matters here
            for place in range(1, RECENCY_LENGTH):
                digest = hashlib.sha256(b"%d %d" % (number, place)).hexdigest()
                entry = evolve(self.entry(contents[number]), digest=digest)
                await self.records.freshen(
                    self.key(number),
                    self.credential(0),
                    self.grant(contents[number].digest),
                    entry,
                    None,
                    SOON,
                )

        async def refuse(number: int) -> None:
            await self.records.deny(self.key(number), self.credential(9), self.now, SOON)

        first = await self.write(freshen(0))
        short = self.usage("l")
        grant = await self.write(freshen(1))
        usage = self.usage("g:*")
        self.show("a grant", grant, usage)
        linked = await self.write(freshen(2, link=LINK))
        self.show(
            f"a grant with a Link of {len(LINK)} bytes", linked, 3 * self.usage("g:*") - 2 * usage
        )
        self.show("a recency list with one entry", first - grant, short)
        entries = await self.write(list_another) / (RECENCY_LENGTH - 1)
        further = (self.usage("l") - short) / (RECENCY_LENGTH - 1)
        self.show("each further entry in it (at most 7)", entries, further)
        stored = await self.write(freshen(0, content=True))
        above = self.usage("r:*") - packed
        self.show("a representation, above its content", stored - packed, above)
        refusal = await self.write(refuse)
        self.show("a refusal", refusal, self.usage("x:*"))
        sys.stdout.write(
            f"({self.count} of each; content was {plain:.0f} bytes on average, "
            f"{packed:.0f} compressed)\n"
        )

    @staticmethod
    def show(what: str, grown: float, usage: float) -> None:
        sys.stdout.write(f"{what:44}{grown:>14.0f}{usage:>14.0f}\n")
        sys.stdout.flush()


async def measure(reactor: Any, server: RedisServer, count: int) -> None:
    """Measure on *server*, which must be empty."""
    threads = ContentThreads(reactor)
    threads.open()
    servers = SingleServer(node_at(server.address))
    records = RedisRecords(
        servers, Codec(SECRET), threads, reactor.seconds, PREFIX, 30 * DAY_S, 7 * DAY_S
    )
    servers.open()
    await servers.settled()
    with server.client() as client:
        # the first operations load scripts and allocate buffers
        await MemoryMeasurement(records, client, 1).warm()
        client.send("FLUSHALL")
        sys.stdout.write(f"{'bytes':44}{'INFO memory':>14}{'MEMORY USAGE':>14}\n")
        await MemoryMeasurement(records, client, count).run()
    await servers.close()
    threads.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redis_memory", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="records of each kind")
    options = parser.parse_args(arguments)
    with RedisServer() as server:
        react(lambda reactor: Deferred.fromCoroutine(measure(reactor, server, options.count)))


if __name__ == "__main__":
    main()
