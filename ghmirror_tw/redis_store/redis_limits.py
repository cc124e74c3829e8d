"""Rate limits in force, shared by all replicas through Redis."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, evolve

from ghmirror_tw.github.reported_limit import Limit
from ghmirror_tw.redis import Command, Purpose, RedisUnavailableError, Reply
from ghmirror_tw.redis_store import scripts
from ghmirror_tw.redis_store.redis_access import RedisAccess
from ghmirror_tw.store import record_names
from ghmirror_tw.store.record_kinds import limit_kind


@define(eq=False)
class RedisLimits(RedisAccess):
    """Stores and looks up limits.

    Their ends are by the clocks of other replicas, which may be ahead. So a limit ends at that time
    or with its time to live in Redis, whichever is earlier.
    """

    async def limits(
        self, token: str, scopes: tuple[str, ...], timeout_s: float
    ) -> tuple[Limit, ...]:
        """Return the limits in force in any of *scopes*."""
        command = Command(
            (b"MGET", *self.keys(*(record_names.limit(token, each) for each in scopes)))
        )
        hash_tag = record_names.hash_tag_of_credential(token)
        (blobs,) = await self.send(hash_tag, (command,), Purpose.CURRENT, timeout_s)
        limits = self.limits_in(token, scopes, blobs) if isinstance(blobs, list) else ()
        return await self.in_force(token, limits, timeout_s) if limits else ()

    async def set_limit(self, token: str, limit: Limit, timeout_s: float) -> None:
        """Store a limit for as long as it lasts."""
        name = record_names.limit(token, limit.scope)
        life = b"%d" % max(1, round((limit.until - self.now()) * 1000))
        command = scripts.SET_LIMIT.call(
            self.keys(name), self.codec.seal(limit_kind(limit.scope), name, limit), life
        )
        await self.write(record_names.hash_tag_of_credential(token), command, timeout_s)

    def limits_in(
        self, token: str, scopes: Sequence[str], blobs: Sequence[Reply]
    ) -> tuple[Limit, ...]:
        """Return the limits in *blobs*, with their ends by the clocks of other replicas."""
        opened = [
            self.codec.open_limit(record_names.limit(token, scope), blob, scope)
            for scope, blob in zip(scopes, blobs, strict=True)
            if isinstance(blob, bytes)
        ]
        return tuple([limit for limit in opened if limit is not None])

    async def in_force(
        self, token: str, limits: tuple[Limit, ...], timeout_s: float
    ) -> tuple[Limit, ...]:
        """Return the *limits* that are in force, shortened to their times to live.

        This second command is sent only if there is a limit.
        """
        keys = self.keys(*(record_names.limit(token, limit.scope) for limit in limits))
        commands = [Command((b"PTTL", key)) for key in keys]
        hash_tag = record_names.hash_tag_of_credential(token)
        try:
            lives_ms = await self.send(hash_tag, commands, Purpose.CURRENT, timeout_s)
        except RedisUnavailableError:
            return limits
        now = self.now()
        lasting = [
            evolve(limit, until=min(limit.until, now + life_ms / 1000))
            for limit, life_ms in zip(limits, lives_ms, strict=True)
            if isinstance(life_ms, int) and life_ms > 0
        ]
        return tuple([limit for limit in lasting if limit.until > now])
