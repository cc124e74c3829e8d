"""Look-ups of records in Redis, in one round trip each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import msgpack
from attrs import define, evolve
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ghmirror_tw.caching.hybrid_clock import clamped
from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Entry, Grant, Known, Representation, recency_list
from ghmirror_tw.github.rate_limit_resources import scopes_of_read
from ghmirror_tw.github.reported_limit import Limit
from ghmirror_tw.redis import Command, Purpose, Reply
from ghmirror_tw.redis_store.needless_renewals import is_recent
from ghmirror_tw.redis_store.prepared_lookup import PreparedLookup
from ghmirror_tw.redis_store.redis_limits import RedisLimits
from ghmirror_tw.runtime.deferreds import gather
from ghmirror_tw.store import record_names
from ghmirror_tw.store.record_kinds import ENTRY, GRANT, NEGATIVE, REPRESENTATION

#: A list with so many entries has an order.
_SEVERAL: Final = 2
#: Content may be so many times as large as its compressed form, for the choice of a thread.
_INFLATION: Final = 8


@define(eq=False)
class RecordLookups(RedisLimits):
    """Looks up the records of a key, and fetches representations."""

    def look_up(
        self,
        key: CacheKey,
        credential: str,
        timeout_s: float,
        *,
        current: bool,
        token: str | None = None,
    ) -> Deferred[Known]:
        """Return the records known, with a refusal beside the grant that it may outweigh.

        *current*: a replica that lags must not reply. The epoch and the limits are always read from
        the primary.
        """
        lookup = self.commands_for(key, credential, token or credential)
        purpose = Purpose.CURRENT if current else Purpose.READ
        if self.servers.sharded or not self.servers.reads_primary:
            parts = [
                self.send(
                    hash_tag,
                    (command,),
                    purpose if hash_tag == lookup.hash_tag else Purpose.CURRENT,
                    timeout_s,
                )
                for hash_tag, command in lookup.commands
            ]
            replies = Deferred.fromCoroutine(gather(parts)).addCallback(_first_of_each)
        else:
            commands = [command for _, command in lookup.commands]
            replies = self.send(lookup.hash_tag, commands, purpose, timeout_s)

        def failed(failure: Failure) -> Failure:
            lookup.known = None
            return failure

        known = replies.addCallbacks(partial(self._known, key, lookup), failed)
        return known.addCallback(self._completed, lookup, timeout_s, current=current)

    def _known(self, key: CacheKey, lookup: PreparedLookup, replies: list[Reply]) -> Known:
        """Return what the replies contain, with limits by the clocks of other replicas."""
        of_key, of_token = replies
        grant, refusal, unstorable, blobs, negative = _unpacked(of_key)
        opened = [self.codec.open(ENTRY, lookup.recency_list, blob) for blob in blobs]
        entries = [entry for entry in opened if entry is not None]
        now = self.now()
        epoch: bytes | None = None
        limits: tuple[Limit, ...] = ()
        if isinstance(of_token, list) and any(of_token):
            sealed, *limit_blobs = of_token
            scopes = scopes_of_read(key.path)
            limits = self.limits_in(lookup.token, scopes, limit_blobs)
            epoch = self.opened_epoch(lookup.token, sealed)
        known = Known(
            grant=self.codec.open(GRANT, lookup.grant, grant),
            entries=tuple(entries) if len(entries) < _SEVERAL else recency_list(entries),
            epoch=epoch,
            refused_at=self.codec.refused_at(lookup.refusal, refusal, now) if refusal else 0.0,
            unstorable=bool(unstorable),
            limits=limits,
            negative=self.codec.open(NEGATIVE, lookup.negative, negative) if negative else None,
        )
        return clamped(known, now)

    def _completed(
        self, known: Known, lookup: PreparedLookup, timeout_s: float, *, current: bool
    ) -> Known | Deferred[Known]:
        lookup.known = known
        if not (current or self.servers.reads_primary):
            known = evolve(known, current=False)
        if not known.limits:
            return known
        in_force = Deferred.fromCoroutine(self.in_force(lookup.token, known.limits, timeout_s))
        return in_force.addCallback(lambda limits: evolve(known, limits=limits))

    def has(self, key: CacheKey, credential: str, grant: Grant, entry: Entry) -> bool:
        """Return whether the last look-up has read this grant and this entry, or recent ones."""
        known = self.commands_for(key, credential).known
        return known is not None and is_recent(known, grant, entry, self.renewal_interval_s)

    async def fetch(
        self, key: CacheKey, digests: Sequence[str], timeout_s: float, *, current: bool = False
    ) -> dict[str, Representation]:
        """Return those of the representations that are stored and intact."""
        wanted = [record_names.representation(key, digest) for digest in digests]
        command = Command((b"MGET", *self.keys(*wanted)), large=True)
        hash_tag = record_names.hash_tag_of_key(key)
        purpose = Purpose.CURRENT if current else Purpose.READ
        (blobs,) = await self.send(hash_tag, (command,), purpose, timeout_s)
        if not isinstance(blobs, list):
            return {}
        found = {}
        for digest, name, blob in zip(digests, wanted, blobs, strict=True):
            if blob is not None:
                work = len(blob) * _INFLATION
                opened = await self.threads.run(work, self.codec.open, REPRESENTATION, name, blob)
                if opened is not None and opened.digest == digest:
                    found[digest] = opened
                    if self.codec.older and self.codec.seals(name, blob):
                        self.note_sealed(key, digest)
        return found


def _unpacked(reply: Reply) -> tuple[bytes, bytes, int, list[bytes], bytes]:
    """Return grant, refusal, whether it is unstorable, entries and negative response.

    The script has packed them.
    """
    if not isinstance(reply, bytes):
        return b"", b"", 0, [], b""
    grant, refusal, unstorable, entries, negative = msgpack.unpackb(reply, raw=True)
    return grant, refusal, unstorable, entries or [], negative


def _first_of_each(replies: list[list[Reply]]) -> list[Reply]:
    return [each[0] for each in replies]
