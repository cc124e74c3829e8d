"""Locks of the fleet in Redis: one key each, with a lease.

https://redis.io/docs/latest/develop/clients/patterns/distributed-locks, with a single instance: a
lock saves requests, and nothing is wrong if two replicas hold it. A command that acquires or renews
a lock has a deadline by the server's clock: a paused server may carry it out when its caller has
stopped waiting, and other replicas would wait for that lock.
"""

from __future__ import annotations

from attrs import define

from ghmirror_tw.redis import Command, Purpose, RedisUnavailableError, Reply
from ghmirror_tw.redis_store import scripts
from ghmirror_tw.redis_store.redis_access import RedisAccess
from ghmirror_tw.store import record_names
from ghmirror_tw.store.store_interface import LockName, LockOutcome


@define(eq=False)
class RedisLocks(RedisAccess):
    """Acquires, renews and releases locks."""

    async def try_acquire(
        self, lock: LockName, owner: str, lease_s: float, timeout_s: float
    ) -> LockOutcome:
        """Try to acquire a lock for *lease_s* seconds; no owner can if the key is known already.

        The reason of `RedisUnavailableError` is ``late`` if Redis received it after *timeout_s*.
        """
        key, credential = lock.key, lock.credential
        known = (
            record_names.recency_list(key)
            if credential is None
            else record_names.grant(key, credential)
        )
        outcome = await self._run(scripts.ACQUIRE, lock, timeout_s, owner, lease_s, known)
        if outcome == b"late":
            raise RedisUnavailableError("late", "Redis: it received a command after its deadline")
        return LockOutcome(outcome.decode("ascii"))

    async def renew(self, lock: LockName, owner: str, lease_s: float, timeout_s: float) -> None:
        """Renew the lease of a lock."""
        await self._run(scripts.RENEW, lock, timeout_s, owner, lease_s)

    async def release(self, lock: LockName, owner: str, timeout_s: float) -> None:
        """Release a lock, if *owner* holds it."""
        await self._run(scripts.RELEASE, lock, timeout_s, owner, 0.0)

    async def _run(
        self,
        script: scripts.Script,
        lock: LockName,
        timeout_s: float,
        owner: str,
        lease_s: float,
        *more: bytes,
    ) -> Reply:
        keys = self.keys(record_names.lock(lock), record_names.unstorable(lock.key), *more)
        command = script.call(
            keys,
            owner.encode("ascii"),
            b"%d" % round(lease_s * 1000),
            self._server_deadline(timeout_s),
        )
        return await self.write(record_names.hash_tag_of_key(lock.key), command, timeout_s)

    def _server_deadline(self, timeout_s: float) -> bytes:
        """Return the time in *timeout_s* seconds by the server's clock, in ms; 0: it is unknown."""
        ahead_s = self.server_ahead_s
        return b"0" if ahead_s is None else b"%d" % ((self.now() + ahead_s + timeout_s) * 1000)

    async def is_locked(self, lock: LockName, timeout_s: float) -> bool:
        """Return whether any owner holds a lock."""
        command = Command((b"EXISTS", self.key(record_names.lock(lock))))
        hash_tag = record_names.hash_tag_of_key(lock.key)
        (held,) = await self.send(hash_tag, (command,), Purpose.CURRENT, timeout_s)
        return bool(held)
