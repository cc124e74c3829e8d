"""What the failover store needs of the records in Redis, and of their history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from enum import Enum
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Entry, Grant, Known, NegativeResponse, Representation
from ghmirror_tw.github.reported_limit import Limit
from ghmirror_tw.redis import Command, Reply
from ghmirror_tw.store.store_interface import LockName, LockOutcome


class EpochWrite(Enum):
    """When an epoch is stored: if there is none, if there is another one, or in either case."""

    IF_ABSENT = b"nothing"
    IF_PRESENT = b"another"
    ALWAYS = b"either"


class IRemoteRecords(Protocol):
    """Records and locks that all replicas share.

    Each method fails with `RedisUnavailableError` after *timeout_s* seconds, or at once where the
    servers are known to be away. *history* is None while it is not known (see `IRemoteHistory`).
    """

    servers: Any
    chance: Callable[[], float]
    history: bytes | None

    def look_up(
        self,
        key: CacheKey,
        credential: str,
        timeout_s: float,
        *,
        current: bool,
        token: str | None = None,
    ) -> Deferred[Known]:
        """Return the records known, with a refusal beside the grant that it may outweigh."""

    def fetch(
        self, key: CacheKey, digests: Sequence[str], timeout_s: float, *, current: bool = False
    ) -> Coroutine[Any, Any, dict[str, Representation]]:
        """Return those of the representations that are stored."""

    def limits(
        self, token: str, scopes: tuple[str, ...], timeout_s: float
    ) -> Coroutine[Any, Any, tuple[Limit, ...]]:
        """Return the limits in force in any of *scopes*."""

    def has(self, key: CacheKey, credential: str, grant: Grant, entry: Entry) -> bool:
        """Return whether a grant and an entry are known to be stored, about as they are."""

    def is_resealed(self, key: CacheKey, digest: str) -> bool:
        """Return whether a representation is known not to have the seal of an older secret."""

    def freshen(  # noqa: PLR0913, PLR0917 - each is a record of its own
        self,
        key: CacheKey,
        credential: str,
        grant: Grant,
        entry: Entry,
        representation: Representation | None,
        timeout_s: float,
    ) -> Awaitable[bool]:
        """Store a grant and an entry; return whether the representation is stored."""

    def confirmation(
        self, key: CacheKey, credential: str, grant: Grant, entry: Entry, content: bytes = b""
    ) -> Command:
        """Return the command that stores a grant and an entry."""

    def confirm(
        self, key: CacheKey, confirmations: Sequence[Command], timeout_s: float
    ) -> Deferred[list[Reply]]:
        """Send several confirmations together; all are of *key* where servers are sharded."""

    def deny(
        self, key: CacheKey, credential: str, requested_at: float, timeout_s: float
    ) -> Awaitable[None]:
        """Store a refusal of a key to a credential (see `IStore.deny`)."""

    def put_negative(
        self, key: CacheKey, credential: str, negative: NegativeResponse, timeout_s: float
    ) -> Awaitable[None]:
        """Store a negative response, over older ones only."""

    def put_epoch(
        self, token: str, epoch: bytes, timeout_s: float, over: EpochWrite
    ) -> Awaitable[bytes | None]:
        """Store an epoch; return the one that is stored then, if any."""

    def set_limit(self, token: str, limit: Limit, timeout_s: float) -> Awaitable[None]:
        """Store a limit for as long as it lasts."""

    def mark_unstorable(self, key: CacheKey, timeout_s: float) -> Awaitable[None]:
        """Note that responses to *key* can't be stored, and release any lock of it."""

    def try_acquire(
        self, lock: LockName, owner: str, lease_s: float, timeout_s: float
    ) -> Coroutine[Any, Any, LockOutcome]:
        """Try to acquire a lock for *lease_s* seconds."""

    def renew(
        self, lock: LockName, owner: str, lease_s: float, timeout_s: float
    ) -> Awaitable[None]:
        """Renew the lease of a lock."""

    def release(self, lock: LockName, owner: str, timeout_s: float) -> Awaitable[None]:
        """Release a lock, if *owner* holds it."""

    def is_locked(self, lock: LockName, timeout_s: float) -> Awaitable[bool]:
        """Return whether any owner holds a lock."""


class IRemoteHistory(Protocol):
    """Whether the servers may have lost records, and which mirrors still have to write some."""

    @property
    def is_known(self) -> bool:
        """Whether the current history is known."""

    @property
    def is_settled(self) -> bool:
        """Whether no other mirror can still have writes from before an interruption."""

    def look(self) -> None:
        """Look up the history at once."""

    def looked_up(self, timeout_s: float) -> Deferred[None]:
        """Fire when the history is known, or when *timeout_s* has passed."""

    def note_interruption(self) -> None:
        """Note that the servers were away, and may have lost records."""

    def note_connection(self) -> None:
        """Note a new connection, which may lead to another server."""

    def renew(self) -> None:
        """Begin a new history with the next beat: a refusal or an epoch is lost for good."""

    async def close(self) -> None:
        """Leave the fleet."""


class MakeHistory(Protocol):
    """Makes the history; *owes* returns whether this mirror has writes that must not be lost."""

    def __call__(self, *, owes: Callable[[], bool]) -> Any:
        """Return an `IRemoteHistory`."""
