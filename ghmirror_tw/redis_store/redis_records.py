"""Records, limits and claims on Redis servers, by keys that all replicas share."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import msgpack
from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ghmirror_tw.caching.epochs import epoch_shows_acceptance
from ghmirror_tw.caching.hybrid_clock import clamped
from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Entry, Grant, Known, Representation, recency_list
from ghmirror_tw.github.rate_limit_resources import resource_of_path
from ghmirror_tw.github.rate_limits import EVERYTHING, Limit
from ghmirror_tw.redis.servers_interface import (
    Command,
    IServers,
    Purpose,
    RedisUnavailableError,
    Reply,
)
from ghmirror_tw.redis_store import scripts
from ghmirror_tw.redis_store.renewals import is_listed, is_recent
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.runtime.gather import gather
from ghmirror_tw.runtime.recent_cache import RecentCache
from ghmirror_tw.store import record_names as names
from ghmirror_tw.store.codec import Codec
from ghmirror_tw.store.record_kinds import ENTRY, EPOCH, GRANT, REFUSAL, REPRESENTATION, limit_kind
from ghmirror_tw.store.remote_interface import EpochWrite
from ghmirror_tw.store.store_interface import LockName, LockOutcome

#: For so long nobody queues for a key whose answers could not be stored, in seconds.
UNSTORABLE_S: Final = 60.0
#: How much longer a refusal or an epoch is kept than any grant that it concerns, in seconds.
_LONGER_S: Final = 86_400.0
#: How long the epoch of a credential is kept that GitHub may not accept, in seconds: longer than
#: requests take that were sent before it began. Made-up credentials may have many of these.
_UNACCEPTED_S: Final = 600.0
#: Lives are spread upward by so much, so that what was stored together doesn't end together.
_SPREAD: Final = 0.1
#: The names of so many pairs of a key and a credential are remembered.
_OWN: Final = 1024
_SEVERAL: Final = 2


@define(eq=False)
class _Own:
    """What one credential has of one key: the records' names, where they are, and the questions.

    It is asked for twice for each request, and again for the next one.
    """

    slot: bytes
    grant: bytes
    refusal: bytes
    recency: bytes
    #: The keys of grant, refusal and recency list.
    keys: tuple[bytes, ...]
    unstorable: bytes
    token: str
    #: What asks for all of it; for what holds for the credential whatever the key is; and for the
    #: limits of the token, where they are elsewhere. Each with its slot.
    questions: tuple[tuple[bytes, Command], ...]
    #: What the last look-up has read, unless this process has written something else since.
    known: Known | None = None


@define(eq=False)
class RedisRecords:
    """The records in Redis. All fails with `RedisUnavailableError` while it can't be reached.

    *ttl_s*: how long a representation is kept that nobody uses; *grant_life_s*: how long grants
    are at most. *now*: seconds since the epoch.
    """

    servers: Any
    codec: Codec
    threads: ContentThreads
    now: Callable[[], float]
    prefix: str
    ttl_s: float
    grant_life_s: float
    #: What is known to be there is not written again only to renew its times, before so long.
    again_s: float = 0.0
    chance: Callable[[], float] = field(factory=lambda: random.Random().random)  # noqa: S311 - it only spreads
    #: The current history of the servers (see `history`); None while it is not known.
    history: bytes | None = field(init=False, default=None)
    _prefix: bytes = field(init=False)
    # by the names of key and credential: what may be secret in them is not kept
    _own: RecentCache[tuple[str, str], _Own] = field(init=False, factory=lambda: RecentCache(_OWN))

    def __attrs_post_init__(self) -> None:
        self._prefix = self.prefix.encode("ascii") + b":"

    @property
    def outweighing_life_s(self) -> float:
        """How long refusals and epochs are kept."""
        return self.grant_life_s + _LONGER_S

    def change_history(self, history: bytes | None) -> None:
        """Set the current history. Epochs of other ones are not found any more."""
        if history != self.history:
            self.history = history
            self._own = RecentCache(_OWN)

    def key(self, name: bytes) -> bytes:
        """Return the key of a record."""
        return self._prefix + name

    def keys(self, *record_names: bytes) -> tuple[bytes, ...]:
        """Return the keys of records."""
        return tuple([self._prefix + name for name in record_names])

    def life(self, seconds: float) -> bytes:
        """Return a time to live in milliseconds, spread upward by a tenth."""
        spread = seconds * (1.0 + _SPREAD * self.chance())
        return b"%d" % max(1, round(spread * 1000))

    def _ask(
        self, slot: bytes, commands: Sequence[Command], purpose: Purpose, timeout_s: float
    ) -> Deferred[list[Reply]]:
        servers: IServers = self.servers
        return servers.ask(slot, commands, purpose, timeout_s)

    def _of(self, key: CacheKey, credential: str, token: str | None = None) -> _Own:
        own = self._own.get((key.name, credential))
        if own is None or (token is not None and own.token != token):
            own = self._named(key, credential, token or credential)
            self._own.put((key.name, credential), own)
        return own

    def _named(self, key: CacheKey, credential: str, token: str) -> _Own:
        grant, refusal = names.grant(key, credential), names.refusal(key, credential)
        recency, unstorable = names.recency(key), self.key(names.unstorable(key))
        keys = self.keys(grant, refusal, recency)
        epoch = self.key(names.epoch(credential, self.history or b""))
        limits = self.keys(
            names.limit(token, EVERYTHING), names.limit(token, resource_of_path(b"GET", key.path))
        )
        slot, whose = names.slot_of_key(key), names.slot_of_credential(credential)
        question = scripts.LOOK_UP.call((*keys[:2], unstorable, keys[2]))
        questions: tuple[tuple[bytes, Command], ...] = (
            (slot, question),
            (whose, Command((b"MGET", epoch, *limits))),
        )
        if self.servers.sharded and token != credential:
            questions = (
                (slot, question),
                (whose, Command((b"MGET", epoch))),
                (names.slot_of_credential(token), Command((b"MGET", *limits))),
            )
        return _Own(slot, grant, refusal, recency, keys, unstorable, token, questions)

    def has(self, key: CacheKey, credential: str, grant: Grant, entry: Entry) -> bool:
        """Tell whether Redis is known to have a grant and an entry, about as they are."""
        known = self._of(key, credential).known
        return known is not None and is_recent(known, grant, entry, self.again_s)

    async def _write(self, slot: bytes, command: Command, timeout_s: float) -> Reply:
        (reply,) = await self._ask(slot, (command,), Purpose.WRITE, timeout_s)
        if isinstance(reply, Exception):
            raise RedisUnavailableError("refused", str(reply))
        return reply

    # Questions.

    def look_up(
        self,
        key: CacheKey,
        credential: str,
        timeout_s: float,
        *,
        current: bool,
        token: str | None = None,
    ) -> Deferred[Known]:
        """Return what is known, refusals beside the grant that they may outweigh."""
        own = self._of(key, credential, token or credential)
        purpose = Purpose.CURRENT if current else Purpose.READ
        if self.servers.sharded or not self.servers.reads_primary:
            # What holds for the credential is read where it is written.
            parts = [
                self._ask(
                    slot,
                    (question,),
                    purpose if slot == own.slot else Purpose.CURRENT,
                    timeout_s,
                )
                for slot, question in own.questions
            ]
            asked = Deferred.fromCoroutine(gather(parts)).addCallback(_first_of_each)
        else:
            questions = [question for _, question in own.questions]
            asked = self._ask(own.slot, questions, purpose, timeout_s)

        def drop(failure: Failure) -> Failure:
            own.known = None
            return failure

        arguments = key, credential, own, timeout_s, current
        return asked.addCallbacks(self._known, drop, callbackArgs=arguments)

    def _known(  # noqa: PLR0913, PLR0917 - what was asked, and what came
        self,
        replies: list[Reply],
        key: CacheKey,
        credential: str,
        own: _Own,
        timeout_s: float,
        current: bool,
    ) -> Known | Deferred[Known]:
        found, *parts = replies
        grant, refusal, unstorable, blobs = _unpacked(found)
        opened = [self.codec.open(ENTRY, own.recency, blob) for blob in blobs]
        entries = [entry for entry in opened if entry is not None]
        now = self.now()
        refused_at = self.codec.refused_at(own.refusal, refusal, now) if refusal else 0.0
        epoch: bytes | None = None
        limits: tuple[Limit, ...] = ()
        if any(isinstance(part, list) and any(part) for part in parts):
            sealed, *stopping = _flat(parts)
            scopes = EVERYTHING, resource_of_path(b"GET", key.path)
            limits = self._opened(own.token, scopes, stopping)
            if self.history is not None and sealed:
                epoch = self.codec.open(EPOCH, names.epoch(credential, self.history), sealed)
        known = Known(
            grant=self.codec.open(GRANT, own.grant, grant),
            entries=tuple(entries) if len(entries) < _SEVERAL else recency_list(entries),
            epoch=epoch,
            refused_at=refused_at,
            unstorable=bool(unstorable),
            limits=limits,
            current=current or self.servers.reads_primary,
        )
        own.known = known = clamped(known, now)
        if not limits:
            return known
        in_force = Deferred.fromCoroutine(self._in_force(own.token, limits, timeout_s))
        return in_force.addCallback(lambda lasting: evolve(known, limits=lasting))

    def _opened(
        self, token: str, scopes: Sequence[str], blobs: Sequence[Reply]
    ) -> tuple[Limit, ...]:
        """Return the limits in *blobs*, with their ends by the clocks of other replicas."""
        opened = [
            self.codec.open_limit(names.limit(token, scope), blob, scope)
            for scope, blob in zip(scopes, blobs, strict=True)
            if isinstance(blob, bytes)
        ]
        return tuple([limit for limit in opened if limit is not None])

    async def _in_force(
        self, token: str, limits: tuple[Limit, ...], timeout_s: float
    ) -> tuple[Limit, ...]:
        """Return the *limits* that are in force, shortened to their time to live in Redis.

        Their ends are by the clocks of other replicas, which may be ahead. This second command is
        sent only where there is a limit.
        """
        keys = self.keys(*(names.limit(token, limit.scope) for limit in limits))
        questions = [Command((b"PTTL", key)) for key in keys]
        slot = names.slot_of_credential(token)
        try:
            left = await self._ask(slot, questions, Purpose.CURRENT, timeout_s)
        except RedisUnavailableError:
            return limits
        now = self.now()
        lasting = [
            evolve(limit, until=min(limit.until, now + left_ms / 1000))
            for limit, left_ms in zip(limits, left, strict=True)
            if isinstance(left_ms, int) and left_ms > 0
        ]
        return tuple([limit for limit in lasting if limit.until > now])

    async def limits(
        self, token: str, scopes: tuple[str, ...], timeout_s: float
    ) -> tuple[Limit, ...]:
        """Return the limits in force in any of *scopes*."""
        command = Command((b"MGET", *self.keys(*(names.limit(token, each) for each in scopes))))
        slot = names.slot_of_credential(token)
        (blobs,) = await self._ask(slot, (command,), Purpose.CURRENT, timeout_s)
        limits = self._opened(token, scopes, blobs) if isinstance(blobs, list) else ()
        return await self._in_force(token, limits, timeout_s) if limits else ()

    async def fetch(
        self, key: CacheKey, digests: Sequence[str], timeout_s: float, *, current: bool = False
    ) -> dict[str, Representation]:
        """Return those of the representations that are there and whole."""
        wanted = [names.representation(key, digest) for digest in digests]
        command = Command((b"MGET", *self.keys(*wanted)), large=True)
        slot = names.slot_of_key(key)
        purpose = Purpose.CURRENT if current else Purpose.READ
        (blobs,) = await self._ask(slot, (command,), purpose, timeout_s)
        if not isinstance(blobs, list):
            return {}
        found = {}
        for digest, name, blob in zip(digests, wanted, blobs, strict=True):
            if blob is not None:
                # What unpacks may be many times as large.
                work = len(blob) * 8
                opened = await self.threads.run(work, self.codec.open, REPRESENTATION, name, blob)
                if opened is not None and opened.digest == digest:
                    found[digest] = opened
        return found

    # Statements.

    async def freshen(  # noqa: PLR0913, PLR0917 - each is a record of its own
        self,
        key: CacheKey,
        credential: str,
        grant: Grant,
        entry: Entry,
        representation: Representation | None,
        timeout_s: float,
    ) -> bool:
        """Store a grant and an entry, and a representation unless it should be there already.

        Return whether the representation is there.
        """
        content = b""
        if representation is not None:
            size = len(representation.packed)
            name = names.representation(key, grant.digest)
            seal = self.codec.seal
            content = await self.threads.run(size, seal, REPRESENTATION, name, representation)
        command = self.confirmation(key, credential, grant, entry, content)
        return bool(await self._write(names.slot_of_key(key), command, timeout_s))

    def confirmation(
        self, key: CacheKey, credential: str, grant: Grant, entry: Entry, content: bytes = b""
    ) -> Command:
        """Return what stores a grant and an entry, and a representation, sealed, as *content*.

        The reply is whether the representation is there.
        """
        own = self._of(key, credential)
        left_s = min(grant.expires_at - self.now(), self.grant_life_s)
        life = self.life(self.ttl_s)
        again_s = self.again_s if own.known is not None and is_listed(own.known, entry) else 0.0
        own.known = None
        return scripts.FRESHEN.call(
            (*own.keys, self.key(names.representation(key, grant.digest)), own.unstorable),
            self.codec.seal(GRANT, own.grant, grant),
            self.life(max(left_s, 1.0)),
            bytes.fromhex(entry.digest),
            self.codec.seal(ENTRY, own.recency, entry),
            life,
            content,
            life,
            b"%f" % again_s,
        )

    def confirm(
        self, key: CacheKey, confirmations: Sequence[Command], timeout_s: float
    ) -> Deferred[list[Reply]]:
        """Store several at a time; all are of *key* where servers are sharded."""
        return self._ask(names.slot_of_key(key), confirmations, Purpose.WRITE, timeout_s)

    async def deny(self, key: CacheKey, credential: str, asked_at: float, timeout_s: float) -> None:
        """Store a refusal of a key to a credential; the grant that it outweighs goes."""
        name = names.refusal(key, credential)
        keys = self.keys(name, names.grant(key, credential))
        self._of(key, credential).known = None
        life = self.life(self.outweighing_life_s)
        command = scripts.ADVANCE.call(keys, self.codec.seal(REFUSAL, name, asked_at), life)
        await self._write_or_remove(names.slot_of_key(key), command, keys[1], timeout_s)

    async def put_epoch(
        self, credential: str, epoch: bytes, timeout_s: float, over: EpochWrite
    ) -> bytes | None:
        """Store an epoch of the current history; return the one that is stored then, if any.

        Fails with `RedisUnavailableError` while the history is not known.
        """
        if self.history is None:
            raise RedisUnavailableError("history", "Redis: its history is not known yet")
        name = names.epoch(credential, self.history)
        keys = self.keys(name)
        begins = over is not EpochWrite.IF_PRESENT and not epoch_shows_acceptance(epoch)
        life = self.life(_UNACCEPTED_S if begins else self.outweighing_life_s)
        sealed = self.codec.seal(EPOCH, name, epoch)
        command = scripts.PUT_EPOCH.call(keys, sealed, life, over.value)
        slot = names.slot_of_credential(credential)
        if over is EpochWrite.IF_ABSENT:
            reply = await self._write(slot, command, timeout_s)
        else:
            reply = await self._write_or_remove(slot, command, keys[0], timeout_s)
        return self.codec.open(EPOCH, name, reply)

    async def _write_or_remove(
        self, slot: bytes, command: Command, key: bytes, timeout_s: float
    ) -> Reply:
        """Write a record that ends a permission. If that fails, delete the grant or epoch at *key*.

        A server that is full stores no refusal, but deletes a grant. The failure is raised in
        either case, so that the write is queued.
        """
        try:
            return await self._write(slot, command, timeout_s)
        except RedisUnavailableError:
            if self.servers.reading:
                with suppress(RedisUnavailableError):
                    await self._ask(slot, (Command((b"DEL", key)),), Purpose.REMOVE, timeout_s)
            raise

    async def set_limit(self, token: str, limit: Limit, timeout_s: float) -> None:
        """Store a limit for as long as it lasts."""
        name = names.limit(token, limit.scope)
        keys = self.keys(name)
        life = b"%d" % max(1, round((limit.until - self.now()) * 1000))
        command = scripts.SET_LIMIT.call(
            keys, self.codec.seal(limit_kind(limit.scope), name, limit), life
        )
        await self._write(names.slot_of_credential(token), command, timeout_s)

    async def mark_unstorable(self, key: CacheKey, timeout_s: float) -> None:
        """Note that answers to *key* can't be stored, and end any claim to it."""
        slot = names.slot_of_key(key)
        note = self.key(names.unstorable(key))
        life = b"%d" % round(UNSTORABLE_S * 1000)
        end = Command((b"DEL", self.key(names.claim(LockName(key)))))
        commands = Command((b"SET", note, b"1", b"PX", life)), end
        await self._ask(slot, commands, Purpose.WRITE, timeout_s)

    # Who asks first.

    async def try_acquire(
        self, lock: LockName, owner: str, lease_s: float, timeout_s: float
    ) -> LockOutcome:
        """Let the first one go, the others wait, and nobody where there is something to know."""
        key, credential = lock.key, lock.credential
        known = names.recency(key) if credential is None else names.grant(key, credential)
        said = await self._of_claim(scripts.CLAIM, lock, timeout_s, owner, lease_s, known)
        return LockOutcome(said.decode("ascii"))

    async def renew(self, lock: LockName, owner: str, lease_s: float, timeout_s: float) -> None:
        """Keep a claim alive."""
        await self._of_claim(scripts.RENEW, lock, timeout_s, owner, lease_s)

    async def release(self, lock: LockName, owner: str, timeout_s: float) -> None:
        """End a claim of *owner*'s."""
        await self._of_claim(scripts.RELEASE, lock, timeout_s, owner, 0.0)

    async def _of_claim(
        self,
        script: scripts.Script,
        lock: LockName,
        timeout_s: float,
        owner: str,
        lease_s: float,
        *known: bytes,
    ) -> Reply:
        keys = self.keys(names.claim(lock), names.unstorable(lock.key), *known)
        command = script.call(keys, owner.encode("ascii"), b"%d" % round(lease_s * 1000))
        return await self._write(names.slot_of_key(lock.key), command, timeout_s)

    async def is_locked(self, lock: LockName, timeout_s: float) -> bool:
        """Tell whether anybody has a claim to *lock*."""
        command = Command((b"EXISTS", self.key(names.claim(lock))))
        slot = names.slot_of_key(lock.key)
        (claimed,) = await self._ask(slot, (command,), Purpose.CURRENT, timeout_s)
        return bool(claimed)


def _unpacked(found: Reply) -> tuple[bytes, bytes, int, list[bytes]]:
    """Return grant, refusal, whether it is unstorable, and entries, as the script packed them."""
    if not isinstance(found, bytes):
        return b"", b"", 0, []
    grant, refusal, unstorable, entries = msgpack.unpackb(found, raw=True)
    return grant, refusal, unstorable, entries or []


def _flat(parts: Sequence[Reply]) -> list[Reply]:
    """Return epoch and limits, read in one part or in two; None where it failed."""
    counts = (3,) if len(parts) == 1 else (1, 2)
    return [
        each
        for part, count in zip(parts, counts, strict=True)
        for each in (part if isinstance(part, list) else [None] * count)
    ]


def _first_of_each(replies: list[list[Reply]]) -> list[Reply]:
    return [each[0] for each in replies]
