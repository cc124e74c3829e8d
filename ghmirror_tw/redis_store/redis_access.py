"""What all operations on Redis share: servers, key prefix, lifetimes, codec and history."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.redis import Command, IServers, Purpose, RedisUnavailableError, Reply
from ghmirror_tw.redis_store.prepared_lookup import PreparedLookup
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.runtime.recent_cache import RecentCache
from ghmirror_tw.store import record_names
from ghmirror_tw.store.record_kinds import EPOCH
from ghmirror_tw.store.record_sealing import Codec

#: Lives are extended by up to this part, so that records stored together do not expire together.
_SPREAD: Final = 0.1
#: So many pairs of a key and a credential have their commands cached.
_CACHED: Final = 1024
_CACHED_SEALS: Final = 65_536


@define(eq=False)
class RedisAccess:
    """Access to the records on *servers*; it fails with `RedisUnavailableError`.

    *now* returns seconds since the epoch. *ttl_s*: how long an unused representation is stored.
    *grant_life_s*: the longest life of a grant. *renewal_interval_s*: how often a confirmation that
    changes only times is written (see `needless_renewals`).
    """

    servers: Any
    codec: Codec
    threads: ContentThreads
    now: Callable[[], float]
    prefix: str
    ttl_s: float
    grant_life_s: float
    renewal_interval_s: float = 0.0
    #: How long a negative response may be repeated; 0: none is.
    negative_for_s: float = 0.0
    chance: Callable[[], float] = field(factory=lambda: random.Random().random)  # noqa: S311 - jitter
    #: The current history of the servers (see `loss_detection`); None while it is not known.
    history: bytes | None = field(init=False, default=None)
    #: How far the servers' clocks are ahead of *now*, in seconds, at most (see `loss_detection`).
    server_ahead_s: float | None = field(init=False, default=None)
    _prefix: bytes = field(init=False)
    # By the names of key and credential, which contain no secrets.
    #: Representations that the current secret has sealed, while there are older ones.
    _sealed: RecentCache[tuple[str, str], bool] = field(
        init=False, factory=lambda: RecentCache(_CACHED_SEALS)
    )
    _commands: RecentCache[tuple[str, str], PreparedLookup] = field(
        init=False, factory=lambda: RecentCache(_CACHED)
    )

    def __attrs_post_init__(self) -> None:
        self._prefix = self.prefix.encode("ascii") + b":"

    def use(self, codec: Codec) -> None:
        """Open and seal records with *codec* from now on."""
        if (codec.secret, codec.older) != (self.codec.secret, self.codec.older):
            self.codec = codec
            self._commands = RecentCache(_CACHED)
            self._sealed = RecentCache(_CACHED_SEALS)

    def is_resealed(self, key: CacheKey, digest: str) -> bool:
        """Return whether a representation is known not to have the seal of an older secret."""
        return not self.codec.older or self._sealed.get((key.name, digest)) is not None

    def note_sealed(self, key: CacheKey, digest: str) -> None:
        """Note that the current secret has sealed a representation, if there are older ones."""
        if self.codec.older:
            self._sealed.put((key.name, digest), True)

    def change_history(self, history: bytes | None) -> None:
        """Set the current history. Epochs of other histories permit nothing from then on."""
        if history != self.history:
            self.history = history
            self._commands = RecentCache(_CACHED)

    def sealed_epoch(self, token: str, epoch: bytes, history: bytes) -> bytes:
        """Return an epoch as it is stored: behind its history.

        All histories share the key. Replicas find a new history at different times, and each of
        them has to see that a write through another one has replaced the epoch.
        """
        return history + self.codec.seal(
            EPOCH, record_names.epoch_in_history(token, history), epoch
        )

    def opened_epoch(self, token: str, stored: object) -> bytes | None:
        """Return the stored epoch, or None where it is not of the current history."""
        history = self.history
        if history is None or not isinstance(stored, bytes) or not stored.startswith(history):
            return None
        name = record_names.epoch_in_history(token, history)
        return self.codec.open(EPOCH, name, stored[len(history) :])

    def note_server_clock(self, ahead_s: float) -> None:
        """Note how far the servers' clocks are ahead, in seconds."""
        self.server_ahead_s = ahead_s

    def key(self, name: bytes) -> bytes:
        """Return the key of a record."""
        return self._prefix + name

    def keys(self, *record_names: bytes) -> tuple[bytes, ...]:
        """Return the keys of records."""
        return tuple([self._prefix + name for name in record_names])

    def life(self, seconds: float) -> bytes:
        """Return a time to live in milliseconds, extended by up to a tenth."""
        spread = seconds * (1.0 + _SPREAD * self.chance())
        return b"%d" % max(1, round(spread * 1000))

    def commands_for(
        self, key: CacheKey, credential: str, token: str | None = None
    ) -> PreparedLookup:
        """Return the names and commands for *credential* at *key*, cached."""
        commands = self._commands.get((key.name, credential))
        if commands is None or (token is not None and commands.token != token):
            commands = PreparedLookup.build(
                key,
                credential,
                token or credential,
                key_of=self.key,
                negatives=self.negative_for_s > 0,
            )
            self._commands.put((key.name, credential), commands)
        return commands

    def send(
        self, hash_tag: bytes, commands: Sequence[Command], purpose: Purpose, timeout_s: float
    ) -> Deferred[list[Reply]]:
        """Send *commands* to the servers (see `IServers`)."""
        servers: IServers = self.servers
        return servers.send(hash_tag, commands, purpose, timeout_s)

    async def write(self, hash_tag: bytes, command: Command, timeout_s: float) -> Reply:
        """Send one command that writes; an error reply raises `RedisUnavailableError`, too."""
        (reply,) = await self.send(hash_tag, (command,), Purpose.WRITE, timeout_s)
        if isinstance(reply, Exception):
            raise RedisUnavailableError("refused", str(reply))
        return reply
