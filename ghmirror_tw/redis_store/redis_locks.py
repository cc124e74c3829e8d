"""Locks of the fleet in Redis: one key each, with a lease.

https://redis.io/docs/latest/develop/clients/patterns/distributed-locks, with a single instance: a
lock saves requests, and nothing is wrong if two replicas hold it.
"""

from __future__ import annotations

from attrs import define

from ghmirror_tw.redis import Command, Purpose, Reply
from ghmirror_tw.redis_store import scripts
from ghmirror_tw.redis_store.record_base import RecordAccess
from ghmirror_tw.store import record_names
from ghmirror_tw.store.store_interface import LockName, LockOutcome


@define(eq=False)
class RedisLocks(RecordAccess):
    """Acquires, renews and releases locks."""

    async def try_acquire(
        self, lock: LockName, owner: str, lease_s: float, timeout_s: float
    ) -> LockOutcome:
        """Try to acquire a lock for *lease_s* seconds; no owner can if the key is known already."""
        key, credential = lock.key, lock.credential
        known = (
            record_names.recency_list(key)
            if credential is None
            else record_names.grant(key, credential)
        )
        outcome = await self._run(scripts.ACQUIRE, lock, timeout_s, owner, lease_s, known)
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
        command = script.call(keys, owner.encode("ascii"), b"%d" % round(lease_s * 1000))
        return await self.write(record_names.hash_tag_of_key(lock.key), command, timeout_s)

    async def is_locked(self, lock: LockName, timeout_s: float) -> bool:
        """Return whether any owner holds a lock."""
        command = Command((b"EXISTS", self.key(record_names.lock(lock))))
        hash_tag = record_names.hash_tag_of_key(lock.key)
        (held,) = await self.send(hash_tag, (command,), Purpose.CURRENT, timeout_s)
        return bool(held)
