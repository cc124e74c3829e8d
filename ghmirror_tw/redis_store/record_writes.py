"""Writes of records to Redis: each is one command or one script, so it is atomic."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from attrs import define
from twisted.internet.defer import Deferred

from ghmirror_tw.caching.epochs import epoch_shows_acceptance
from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Entry, Grant, NegativeResponse, Representation
from ghmirror_tw.redis import Command, Purpose, RedisUnavailableError, Reply
from ghmirror_tw.redis_store import scripts
from ghmirror_tw.redis_store.needless_renewals import is_listed
from ghmirror_tw.redis_store.redis_access import RedisAccess
from ghmirror_tw.store import record_names
from ghmirror_tw.store.record_kinds import (
    ENTRY,
    GRANT,
    NEGATIVE,
    REFUSAL,
    REPRESENTATION,
)
from ghmirror_tw.store.remote_interface import EpochWrite
from ghmirror_tw.store.store_interface import LockName

#: How long a key is known to have responses that cannot be stored, in seconds.
UNSTORABLE_S: Final = 60.0
#: How much longer refusals and epochs live than any grant that they concern, in seconds.
_LONGER_S: Final = 86_400.0
#: The life of the epoch of a token that GitHub has not accepted, in seconds. It is longer than
#: requests take that were sent before it began. Invalid tokens may have many such epochs.
_UNACCEPTED_S: Final = 600.0


@define(eq=False)
class RecordWrites(RedisAccess):
    """Stores grants, entries, representations, refusals and epochs."""

    @property
    def refusal_life_s(self) -> float:
        """How long refusals and epochs are stored."""
        return self.grant_life_s + _LONGER_S

    async def freshen(  # noqa: PLR0913, PLR0917 - each is a record of its own
        self,
        key: CacheKey,
        credential: str,
        grant: Grant,
        entry: Entry,
        representation: Representation | None,
        timeout_s: float,
    ) -> bool:
        """Store a grant and an entry, and a representation; None: it should be stored already.

        Return whether the representation is stored.
        """
        content = b""
        if representation is not None:
            size = len(representation.packed)
            name = record_names.representation(key, grant.digest)
            seal = self.codec.seal
            content = await self.threads.run(size, seal, REPRESENTATION, name, representation)
        command = self.confirmation(key, credential, grant, entry, content)
        stored = bool(await self.write(record_names.hash_tag_of_key(key), command, timeout_s))
        if representation is not None:
            self.note_sealed(key, grant.digest)
        return stored

    def confirmation(
        self, key: CacheKey, credential: str, grant: Grant, entry: Entry, content: bytes = b""
    ) -> Command:
        """Return the command that stores a grant and an entry, and the sealed *content*, if any.

        The reply is whether the representation is stored.
        """
        lookup = self.commands_for(key, credential)
        left_s = min(grant.expires_at - self.now(), self.grant_life_s)
        life = self.life(self.ttl_s)
        renews = lookup.known is not None and is_listed(lookup.known, entry)
        lookup.known = None
        return scripts.CONFIRM.call(
            (
                *lookup.keys,
                self.key(record_names.representation(key, grant.digest)),
                lookup.unstorable,
                *self._negative_keys(key, credential),
            ),
            self.codec.seal(GRANT, lookup.grant, grant),
            self.life(max(left_s, 1.0)),
            bytes.fromhex(entry.digest),
            self.codec.seal(ENTRY, lookup.recency_list, entry),
            life,
            content,
            life,
            b"%f" % (self.renewal_interval_s if renews else 0.0),
        )

    def confirm(
        self, key: CacheKey, confirmations: Sequence[Command], timeout_s: float
    ) -> Deferred[list[Reply]]:
        """Send several confirmations together; all are of *key* where servers are sharded."""
        return self.send(record_names.hash_tag_of_key(key), confirmations, Purpose.WRITE, timeout_s)

    async def deny(
        self, key: CacheKey, credential: str, requested_at: float, timeout_s: float
    ) -> None:
        """Store a refusal of a key to a credential, and delete what it outweighs."""
        name = record_names.refusal(key, credential)
        outweighed = (
            *self.keys(record_names.grant(key, credential)),
            *self._negative_keys(key, credential),
        )
        keys = self.key(name), *outweighed
        self.commands_for(key, credential).known = None
        life = self.life(self.refusal_life_s)
        command = scripts.DENY.call(keys, self.codec.seal(REFUSAL, name, requested_at), life)
        hash_tag = record_names.hash_tag_of_key(key)
        await self._write_or_delete(hash_tag, command, outweighed, timeout_s)

    def _negative_keys(self, key: CacheKey, credential: str) -> tuple[bytes, ...]:
        """Return the key of the negative response, if such are stored."""
        if self.negative_for_s <= 0:
            return ()
        return (self.key(record_names.negative(key, credential)),)

    async def put_negative(
        self, key: CacheKey, credential: str, negative: NegativeResponse, timeout_s: float
    ) -> None:
        """Store a negative response, if no record is of a later request."""
        name = record_names.negative(key, credential)
        sealed = self.codec.seal(NEGATIVE, name, negative)
        others = record_names.refusal(key, credential), record_names.grant(key, credential)
        life = self.life(self.negative_for_s)
        command = scripts.PUT_NEGATIVE.call(self.keys(name, *others), sealed, life)
        await self.write(record_names.hash_tag_of_key(key), command, timeout_s)

    async def put_epoch(
        self, token: str, epoch: bytes, timeout_s: float, over: EpochWrite
    ) -> bytes | None:
        """Store an epoch of the current history; return the epoch that is stored then, if any.

        Fails with `RedisUnavailableError` while the history is not known.
        """
        if self.history is None:
            raise RedisUnavailableError("history", "Redis: its history is not known yet")
        keys = self.keys(record_names.epoch(token))
        begins = over is not EpochWrite.IF_PRESENT and not epoch_shows_acceptance(epoch)
        life = self.life(_UNACCEPTED_S if begins else self.refusal_life_s)
        sealed = self.sealed_epoch(token, epoch, self.history)
        command = scripts.PUT_EPOCH.call(keys, sealed, life, over.value, self.history)
        hash_tag = record_names.hash_tag_of_credential(token)
        if over is EpochWrite.IF_ABSENT:
            reply = await self.write(hash_tag, command, timeout_s)
        else:
            reply = await self._write_or_delete(hash_tag, command, keys, timeout_s)
        return self.opened_epoch(token, reply)

    async def _write_or_delete(
        self, hash_tag: bytes, command: Command, keys: tuple[bytes, ...], timeout_s: float
    ) -> Reply:
        """Write a record that ends a permission. If that fails, delete what permits, at *keys*.

        A server whose memory is full stores no refusal, but deletes a grant. The failure is raised
        in either case, so that the write is queued.
        """
        try:
            return await self.write(hash_tag, command, timeout_s)
        except RedisUnavailableError:
            if self.servers.reading:
                with suppress(RedisUnavailableError):
                    await self.send(
                        hash_tag, (Command((b"DEL", *keys)),), Purpose.REMOVE, timeout_s
                    )
            raise

    async def mark_unstorable(self, key: CacheKey, timeout_s: float) -> None:
        """Note that responses to *key* cannot be stored, and release any lock of it."""
        hash_tag = record_names.hash_tag_of_key(key)
        note = self.key(record_names.unstorable(key))
        life = b"%d" % round(UNSTORABLE_S * 1000)
        release = Command((b"DEL", self.key(record_names.lock(LockName(key)))))
        commands = Command((b"SET", note, b"1", b"PX", life)), release
        await self.send(hash_tag, commands, Purpose.WRITE, timeout_s)
